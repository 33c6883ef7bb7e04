"""What the scripts here share, as a project's own module would be: a model, its rows, and a log of optimizer steps."""

import json
import os

import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback

VOCABULARY, LENGTH = 128, 16


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=LENGTH, **sizes))


def rows(count: int = 256) -> list[dict[str, torch.Tensor]]:
    ids = torch.randint(VOCABULARY, (count, LENGTH), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": row, "labels": row} for row in ids]


def note(step: int, rate: float, loss: float, rows_of_step: int) -> None:
    """One line an optimizer step, by rank 0."""
    if os.environ["RANK"] == "0":
        with open("steps.jsonl", "a") as file:
            file.write(json.dumps({"step": step, "rate": rate, "loss": loss, "rows": rows_of_step}) + "\n")


def train_step(engine, batch: dict[str, torch.Tensor]) -> None:
    """One micro-batch, noted where it ends an optimizer step."""
    loss = engine(**batch).loss
    engine.backward(loss)
    is_update = engine.is_gradient_accumulation_boundary()
    engine.step()
    if is_update:
        note(engine.global_steps, engine.get_lr()[0], float(loss), engine.train_batch_size())


class Notes(TrainerCallback):
    """The same of a trainer, by its log."""

    def on_log(self, args, state, control, logs=None, **_):
        if logs and "loss" in logs:
            rows_of_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
            note(state.global_step, logs["learning_rate"], logs["loss"], rows_of_step)
