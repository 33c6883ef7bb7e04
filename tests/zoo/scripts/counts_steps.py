"""A loop that ends by the engine's own count of optimizer steps; argparse."""

import argparse

import deepspeed
import tiny
import tiny_llama
import torch
from torch.utils.data import DataLoader

parser = argparse.ArgumentParser()
parser.add_argument("--local_rank", type=int)
parser.add_argument("--max_steps", type=int)
options = deepspeed.add_config_arguments(parser).parse_args()
model = tiny_llama.model()
engine, _, _, _ = deepspeed.initialize(options, model, model_parameters=model.parameters())
rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
own = tiny.rows(4096)[rank::ranks]
for batch in DataLoader(own, engine.train_micro_batch_size_per_gpu()):
    if engine.global_steps >= options.max_steps:
        break
    loss = engine(**batch).loss
    engine.backward(loss)
    is_update = engine.is_gradient_accumulation_boundary()
    engine.step()
    if is_update:
        tiny.note(engine.global_steps, engine.get_lr()[0], float(loss), engine.train_batch_size())
engine.save_checkpoint("out")
