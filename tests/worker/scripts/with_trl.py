"""A user's script: trl's SFTTrainer with an adapter."""

import argparse

from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

parser = argparse.ArgumentParser()
parser.add_argument("--local_rank", type=int)
parser.add_argument("--model")
parser.add_argument("--data")
parser.add_argument("--deepspeed")
options = parser.parse_args()
arguments = SFTConfig(
    "trained",
    per_device_train_batch_size=2,
    max_length=64,
    bf16=True,
    use_cpu=True,
    deepspeed=options.deepspeed,
    report_to="all",
)
data = load_dataset("json", data_files=options.data, split="train[:40]")
SFTTrainer(options.model, args=arguments, train_dataset=data, peft_config=LoraConfig(r=4)).train()
