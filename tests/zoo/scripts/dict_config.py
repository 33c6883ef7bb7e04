"""The configuration stands in the code, as a dict."""

import sys

import deepspeed
import tiny
import torch
from torch.utils.data import DataLoader

steps = int(sys.argv[-1])
config = {
    "train_batch_size": 16,
    "train_micro_batch_size_per_gpu": 4,
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
    "bf16": {"enabled": True},
    "zero_optimization": {"stage": 1},
}
model = tiny.model()
engine, _, _, _ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
for batch in DataLoader(tiny.rows(4096)[rank::ranks], 4):
    if engine.global_steps == steps:
        break
    tiny.train_step(engine, batch)
engine.save_checkpoint("out")
