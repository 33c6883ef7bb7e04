"""Fine-tunes a causal language model with the Hugging Face Trainer.

deepspeed --num_gpus 2 hf_trainer.py --deepspeed ds_trainer.json --bf16 --output_dir out
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import deepspeed
from datasets import load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

EXAMPLES = Path(__file__).resolve().parents[1]


@dataclass
class ScriptArguments:
    model_name_or_path: str = str(EXAMPLES / "tiny-llama")
    train_file: str = str(EXAMPLES / "dialogues.jsonl")
    block_size: int = 384


def load_blocks(args, tokenizer):
    """The whole text as blocks of `block_size` tokens; what is left at the end is dropped."""

    def tokenize(rows):
        texts = [p + c + tokenizer.eos_token for p, c in zip(rows["prompt"], rows["completion"], strict=True)]
        tokens = list(chain.from_iterable(tokenizer(texts).input_ids))
        starts = range(0, len(tokens) - args.block_size + 1, args.block_size)
        blocks = [tokens[start : start + args.block_size] for start in starts]
        return {"input_ids": blocks, "labels": blocks}

    dataset = load_dataset("json", data_files=args.train_file, split="train")
    return dataset.map(tokenize, batched=True, remove_columns=dataset.column_names)


def main():
    deepspeed.init_distributed()
    args, training_args = HfArgumentParser((ScriptArguments, TrainingArguments)).parse_args_into_dataclasses()
    tokenizer = AutoTokenizer.from_pretrained(args.model_name_or_path)
    model = AutoModelForCausalLM.from_pretrained(args.model_name_or_path)
    with training_args.main_process_first(desc="tokenizing"):
        dataset = load_blocks(args, tokenizer)

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=dataset,
        processing_class=tokenizer,
        data_collator=default_data_collator,
    )
    result = trainer.train()
    trainer.save_model()
    trainer.log_metrics("train", result.metrics)
    deepspeed.comm.destroy_process_group()


if __name__ == "__main__":
    main()
