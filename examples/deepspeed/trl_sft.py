"""Fine-tunes a causal language model with trl's SFTTrainer.

deepspeed --num_gpus 2 trl_sft.py --deepspeed ds_trl.json --bf16 --output_dir out
"""

from dataclasses import dataclass
from pathlib import Path

import deepspeed
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer, TrlParser

EXAMPLES = Path(__file__).resolve().parents[1]


@dataclass
class SFTScriptArguments:
    model_name_or_path: str = str(EXAMPLES / "tiny-llama")
    train_file: str = str(EXAMPLES / "dialogues.jsonl")


def main():
    deepspeed.init_distributed()
    args, training_args = TrlParser((SFTScriptArguments, SFTConfig)).parse_args_and_config()
    with training_args.main_process_first(desc="reading the data"):
        dataset = load_dataset("json", data_files=args.train_file, split="train")

    trainer = SFTTrainer(model=args.model_name_or_path, args=training_args, train_dataset=dataset)
    result = trainer.train()
    trainer.save_model()
    trainer.log_metrics("train", result.metrics)
    deepspeed.comm.destroy_process_group()


if __name__ == "__main__":
    main()
