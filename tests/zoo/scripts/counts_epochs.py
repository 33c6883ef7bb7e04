"""A loop over epochs, each of which makes a folder; `loss.backward` goes through the engine."""

import argparse
import os

import deepspeed
import tiny
import torch

parser = argparse.ArgumentParser()
parser.add_argument("--local-rank", "--local_rank", type=int, dest="local_rank")
parser.add_argument("--epochs", type=int, default=1)
parser = deepspeed.add_config_arguments(parser)
options = parser.parse_args()
model = tiny.model()
engine, _, loader, _ = deepspeed.initialize(
    args=options, model=model, model_parameters=model.parameters(), training_data=tiny.rows(128)
)
for epoch in range(options.epochs):
    if torch.distributed.get_rank() == 0:
        os.makedirs(f"epochs/{epoch}")  # fails where a probe has left it
    for batch in loader:
        tiny.train_step(engine, batch)
    engine.save_checkpoint(f"epochs/{epoch}", tag="last")
