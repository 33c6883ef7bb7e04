"""Fine-tunes a causal language model with a plain DeepSpeed loop.

deepspeed --num_gpus 2 plain_loop.py --deepspeed_config ds_plain.json --output_dir out
"""

import argparse
import json
from pathlib import Path

import deepspeed
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, default_data_collator

EXAMPLES = Path(__file__).resolve().parents[1]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(EXAMPLES / "tiny-llama"))
    parser.add_argument("--data", default=str(EXAMPLES / "dialogues.jsonl"))
    parser.add_argument("--steps", type=int, default=12, help="optimizer steps")
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--local_rank", type=int, default=-1, help="set by the launcher")
    return deepspeed.add_config_arguments(parser).parse_args()


def load_dataset(path, tokenizer, max_length):
    rows = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]
    texts = [row["prompt"] + row["completion"] + tokenizer.eos_token for row in rows]
    columns = tokenizer(texts, padding="max_length", truncation=True, max_length=max_length, return_tensors="pt")
    columns["labels"] = columns["input_ids"].masked_fill(columns["attention_mask"] == 0, -100)
    return [{name: column[row] for name, column in columns.items()} for row in range(len(rows))]


def main():
    args = parse_arguments()
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model)

    engine, _, loader, _ = deepspeed.initialize(
        args=args,
        model=model,
        model_parameters=model.parameters(),
        training_data=load_dataset(args.data, tokenizer, args.max_length),
        collate_fn=default_data_collator,
    )

    engine.train()
    while engine.global_steps < args.steps:
        for batch in loader:
            loss = engine(**{name: tensor.to(engine.device) for name, tensor in batch.items()}).loss
            engine.backward(loss)
            is_whole_step = engine.is_gradient_accumulation_boundary()
            engine.step()
            if is_whole_step and engine.global_rank == 0:
                print(f"step {engine.global_steps} loss {loss.item():.4f}", flush=True)
            if engine.global_steps == args.steps:
                break

    engine.save_checkpoint(args.output_dir)
    if engine.global_rank == 0:
        print(f"final loss {loss.item():.4f}", flush=True)
    deepspeed.comm.destroy_process_group()


if __name__ == "__main__":
    main()
