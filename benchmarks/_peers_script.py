"""Supervised fine-tuning as trl's documentation writes it: what people start with torchrun or `accelerate launch`.

Nothing of autofit is in it. It prints a line a step, as autofit's own training writes one, and saves its model.
"""

from __future__ import annotations

import argparse

import torch
from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer


def main() -> None:
    options = _options()
    trainer = SFTTrainer(
        model=options.model,
        args=_arguments(options),
        train_dataset=load_dataset("json", data_files=options.data, split="train"),
        peft_config=_lora(options),
    )
    trainer.train()
    trainer.save_model(options.output_dir)


def _arguments(options: argparse.Namespace) -> SFTConfig:
    """trl's defaults, bf16 among them, but for what every competitor does alike."""
    return SFTConfig(
        output_dir=options.output_dir,
        max_length=options.seq,
        max_steps=options.steps,
        per_device_train_batch_size=options.micro_batch,
        gradient_accumulation_steps=options.accumulation,
        gradient_checkpointing=options.checkpointing,
        learning_rate=options.learning_rate,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        disable_tqdm=True,
        save_strategy="no",
        report_to="none",
    )


def _lora(options: argparse.Namespace) -> LoraConfig | None:
    if not options.lora_r:
        return None
    return LoraConfig(
        r=options.lora_r, lora_alpha=options.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--output-dir", required=True)
    parser.add_argument("--seq", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--micro-batch", type=int, required=True)
    parser.add_argument("--accumulation", type=int, required=True)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--lora-r", type=int, default=0, help="0: all parameters")
    parser.add_argument("--lora-alpha", type=int, default=32)
    return parser.parse_args()


if __name__ == "__main__":
    main()
