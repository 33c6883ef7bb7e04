"""trl's trainers of three tasks, by its own parser, with a recipe file where there is one."""

from dataclasses import dataclass

import tiny_llama
import trl
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig


@dataclass
class Task:
    task: str = "sft"
    tokenizer: str = ""


KINDS = {"sft": "SFT", "dpo": "DPO", "reward": "Reward"}
kind = next(KINDS[word] for word in KINDS if any(word in part for part in __import__("sys").argv))
config, trainer = getattr(trl, f"{kind}Config"), getattr(trl, f"{kind}Trainer")
task, arguments = trl.TrlParser((Task, config)).parse_args_and_config()
tokenizer = AutoTokenizer.from_pretrained(task.tokenizer)
words = [f"word {number}" for number in range(64)]
if task.task == "sft":
    data = Dataset.from_dict({"text": [f"tell me of {word}, and of {word} again" for word in words]})
else:
    data = Dataset.from_dict({"prompt": words, "chosen": [f" {w}, yes" for w in words], "rejected": [" no"] * 64})


def make_model():
    model = tiny_llama.model()
    model.resize_token_embeddings(len(tokenizer))
    if task.task != "reward":
        return model
    settings = {**model.config.to_dict(), "num_labels": 1, "pad_token_id": tokenizer.pad_token_id}
    return AutoModelForSequenceClassification.from_config(LlamaConfig(**settings))


more = {"ref_model": make_model()} if task.task == "dpo" else {}
trained = trainer(
    model=make_model(), args=arguments, train_dataset=data, processing_class=tokenizer,
    callbacks=[tiny_llama.Notes()], **more,
)  # fmt: skip
trained.train()
trained.save_model()
