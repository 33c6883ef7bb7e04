"""click with dashes; what the trainer is told is made in the code, and accumulation is no flag."""

import click
import tiny
import tiny_llama
from transformers import Trainer, TrainingArguments


@click.command()
@click.option("--local_rank", type=int)
@click.option("--deepspeed", type=click.Path(exists=True))
@click.option("--per-device-train-batch-size", "rows", type=int, default=2)
@click.option("--max-steps", type=int)
def main(local_rank, deepspeed, rows, max_steps):
    arguments = TrainingArguments(
        output_dir="out", deepspeed=deepspeed, per_device_train_batch_size=rows, max_steps=max_steps, logging_steps=1,
        learning_rate=1e-3, report_to="none", bf16=True, save_strategy="no", use_cpu=True,
    )  # fmt: skip
    trainer = Trainer(
        model=tiny_llama.model(), args=arguments, train_dataset=tiny.rows(), callbacks=[tiny_llama.Notes()]
    )
    trainer.train()
    trainer.save_model()


main()
