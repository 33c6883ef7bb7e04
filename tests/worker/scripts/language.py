"""A user's script: a plain loop over a Hugging Face model."""

import argparse

import deepspeed
import torch
from transformers import AutoConfig, AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("--local_rank", type=int)
parser.add_argument("--model")
options = deepspeed.add_config_arguments(parser).parse_args()
model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(options.model), dtype=torch.bfloat16)
engine, *_ = deepspeed.initialize(args=options, model=model, model_parameters=model.parameters())
while True:
    ids = torch.randint(1000, (engine.train_micro_batch_size_per_gpu(), 128))
    loss = engine(input_ids=ids, labels=ids).loss
    engine.backward(loss)
    engine.step()
