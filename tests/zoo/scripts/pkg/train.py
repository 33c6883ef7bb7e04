"""A module of a package, started with --module, that imports its neighbour."""

import deepspeed
import tiny
import torch
from torch.utils.data import DataLoader

from pkg.options import options

model = tiny.model()
engine, _, _, _ = deepspeed.initialize(options, model, model_parameters=model.parameters())
rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
for batch in DataLoader(tiny.rows(4096)[rank::ranks], engine.train_micro_batch_size_per_gpu()):
    if engine.global_steps >= options.steps:
        break
    tiny.train_step(engine, batch)
engine.save_checkpoint("out")
