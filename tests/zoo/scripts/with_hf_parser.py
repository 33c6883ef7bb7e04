"""transformers' Trainer and its parser; a checkpoint to go on from by the trainer's own flag."""

from dataclasses import dataclass

import tiny
import tiny_llama
from transformers import HfArgumentParser, Trainer, TrainingArguments


@dataclass
class Data:
    row_count: int = 256


data, arguments = HfArgumentParser((Data, TrainingArguments)).parse_args_into_dataclasses()
trainer = Trainer(
    model=tiny_llama.model(), args=arguments, train_dataset=tiny.rows(data.row_count), callbacks=[tiny_llama.Notes()]
)
trainer.train(resume_from_checkpoint=arguments.resume_from_checkpoint)
trainer.save_model()
