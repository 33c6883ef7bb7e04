"""What people write: trl's trainer with a DeepSpeed configuration, on CPU ranks. All it is told is JSON in a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

TOLD = "STEP_PLAIN_TOLD"


def main() -> None:
    told = json.loads(Path(os.environ[TOLD]).read_text())
    arguments = SFTConfig(
        output_dir=told["output"],
        per_device_train_batch_size=told["micro_batch"],
        gradient_accumulation_steps=told["gradient_accumulation"],
        max_length=told["sequence_length"],
        max_steps=told["step_count"],
        pad_to_multiple_of=told["pad_to_multiple_of"],
        seed=told["seed"],
        bf16=True,
        use_cpu=True,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        deepspeed=told["deepspeed"],
    )
    rows = load_dataset("json", data_files=told["data"], split="train")
    SFTTrainer(model=told["model"], args=arguments, train_dataset=rows).train()


if __name__ == "__main__":
    main()
