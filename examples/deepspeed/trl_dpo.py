"""Trains a causal language model on preferences with trl's DPOTrainer: its own summary before that of another dialogue.

deepspeed --num_gpus 2 trl_dpo.py --deepspeed ds_trl.json --bf16 --output_dir out
"""

from dataclasses import dataclass
from pathlib import Path

import deepspeed
from datasets import load_dataset
from trl import DPOConfig, DPOTrainer, TrlParser

EXAMPLES = Path(__file__).resolve().parents[1]


@dataclass
class DPOScriptArguments:
    model_name_or_path: str = str(EXAMPLES / "tiny-llama")
    train_file: str = str(EXAMPLES / "dialogues.jsonl")


def read_preferences(path):
    dataset = load_dataset("json", data_files=path, split="train").rename_column("completion", "chosen")
    return dataset.add_column("rejected", [*dataset["chosen"][1:], dataset["chosen"][0]])


def main():
    deepspeed.init_distributed()
    args, training_args = TrlParser((DPOScriptArguments, DPOConfig)).parse_args_and_config()
    with training_args.main_process_first(desc="reading the data"):
        dataset = read_preferences(args.train_file)

    trainer = DPOTrainer(model=args.model_name_or_path, args=training_args, train_dataset=dataset)
    result = trainer.train()
    trainer.save_model()
    trainer.log_metrics("train", result.metrics)
    deepspeed.comm.destroy_process_group()


if __name__ == "__main__":
    main()
