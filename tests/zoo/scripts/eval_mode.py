"""A model that was left in eval mode, and is trained all the same; `load_checkpoint` where there is one."""

import argparse

import deepspeed
import tiny
import torch
from torch.utils.data import DataLoader

parser = argparse.ArgumentParser()
parser.add_argument("--local_rank", type=int)
parser.add_argument("--steps", type=int)
parser.add_argument("--load_dir", default="before")
parser = deepspeed.add_config_arguments(parser)
options = parser.parse_args()
model = tiny.model()
engine, _, _, _ = deepspeed.initialize(args=options, model=model, model_parameters=model.parameters())
engine.load_checkpoint(options.load_dir)
engine.eval()
rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
batches = iter(DataLoader(tiny.rows(4096)[rank::ranks], engine.train_micro_batch_size_per_gpu()))
while engine.global_steps < options.steps:
    tiny.train_step(engine, next(batches))
engine.save_checkpoint("out")
