"""A user's script: one of trl's trainers of rewards and preferences. It says how many steps it took, with which rates,
and how many rows a step and a generation of answers had."""

import json
import sys
from dataclasses import dataclass

import deepspeed
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    TrlParser,
)

KINDS = {
    "reward": (RewardTrainer, RewardConfig),
    "dpo": (DPOTrainer, DPOConfig),
    "kto": (KTOTrainer, KTOConfig),
    "grpo": (GRPOTrainer, GRPOConfig),
}


@dataclass
class Options:
    kind: str
    base: str


def rewarded(completions, **columns):
    return [float(len(set(text.split()))) for text in completions]


deepspeed.init_distributed()
words = [word for word in sys.argv[1:] if not word.startswith("--local_rank")]
trainer_class, config_class = KINDS[words[words.index("--kind") + 1]]
options, args = TrlParser((Options, config_class)).parse_args_and_config(words)
is_scored = options.kind == "reward"
prompts = [f"Who comes on day {number}?" for number in range(64)]
good, bad = [" Jonas comes, as he said."] * 64, [" Nobody knows that, nobody at all."] * 64
columns = {
    "reward": {"chosen": good, "rejected": bad},
    "dpo": {"prompt": prompts, "chosen": good, "rejected": bad},
    "kto": {"prompt": prompts, "completion": good[:32] + bad[:32], "label": [True] * 32 + [False] * 32},
    "grpo": {"prompt": prompts},
}
data = Dataset.from_dict(columns[options.kind])
model_class = AutoModelForSequenceClassification if is_scored else AutoModelForCausalLM
trainer = trainer_class(
    model=model_class.from_pretrained(options.base, **({"num_labels": 1} if is_scored else {})),
    args=args,
    train_dataset=data,
    eval_dataset=data.select(range(8)),
    processing_class=AutoTokenizer.from_pretrained(options.base),
    **({"reward_funcs": rewarded} if options.kind == "grpo" else {}),
)
trainer.train()
trainer.save_model()
if trainer.accelerator.is_main_process:
    history = [entry for entry in trainer.state.log_history if "learning_rate" in entry]
    said = {
        "steps": trainer.state.global_step,
        "rates": [entry["learning_rate"] for entry in history],
        "rewards": [entry.get("reward") for entry in history],
        "rows": trainer.args.per_device_train_batch_size * trainer.args.gradient_accumulation_steps,
        "generation": getattr(trainer.args, "generation_batch_size", None),
    }
    print(json.dumps(said), flush=True)
deepspeed.comm.destroy_process_group()
