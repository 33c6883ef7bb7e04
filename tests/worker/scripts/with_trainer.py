"""A user's script: transformers' Trainer."""

import sys
from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments


@dataclass
class Model:
    model: str


def row(number: int) -> dict[str, torch.Tensor]:
    ids = torch.full((64,), number)
    return {"input_ids": ids, "labels": ids, "attention_mask": (torch.arange(64) < 48).long()}


words = [word for word in sys.argv[1:] if not word.startswith("--local_rank")]
options, arguments = HfArgumentParser((Model, TrainingArguments)).parse_args_into_dataclasses(words)
model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(options.model))
trainer = Trainer(model=model, args=arguments, train_dataset=[row(number) for number in range(20)])
trainer.train(resume_from_checkpoint=True)
trainer.save_model("final")
