"""DeepSpeed's pipeline and its `train_batch`."""

import argparse

import deepspeed
import tiny
import torch
from deepspeed.pipe import PipelineModule
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--local_rank", type=int)
parser.add_argument("--steps", type=int)
parser = deepspeed.add_config_arguments(parser)
options = parser.parse_args()
deepspeed.init_distributed()
torch.manual_seed(0)
layers = [nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1)]
model = PipelineModule(layers, num_stages=1, loss_fn=lambda output, wanted: (output - wanted).pow(2).mean())
data = [((row["input_ids"] / tiny.VOCABULARY).bfloat16(), torch.ones(1)) for row in tiny.rows(512)]
engine, _, _, _ = deepspeed.initialize(
    args=options, model=model, model_parameters=model.parameters(), training_data=data
)
for step in range(options.steps):
    loss = engine.train_batch()
    tiny.note(step + 1, engine.get_lr()[0], float(loss), engine.train_batch_size())
