"""Batches of the script's own making: its own sampler, collate function and generator of batches."""

import argparse

import deepspeed
import tiny
import torch

parser = argparse.ArgumentParser()
parser.add_argument("--local_rank", type=int)
parser.add_argument("--steps", type=int)
parser.add_argument("--rows", type=int, default=2)
parser = deepspeed.add_config_arguments(parser)
options = parser.parse_args()
model = tiny.model()
engine, _, _, _ = deepspeed.initialize(args=options, model=model, model_parameters=model.parameters())
rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()


def collate(chosen):
    return {name: torch.stack([row[name] for row in chosen]) for name in ("input_ids", "labels")}


def batches():
    data = tiny.rows(4096)[rank::ranks]
    for first in range(0, len(data), options.rows):
        yield collate(data[first : first + options.rows])


for batch in batches():
    if engine.global_steps >= options.steps:
        break
    tiny.train_step(engine, batch)
engine.save_16bit_model("out")
