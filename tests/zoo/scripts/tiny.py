"""What the scripts here share, as a project's own module would be: a model, its rows, and a log of optimizer steps."""

import json
import os
from types import SimpleNamespace

import torch
from torch import nn

VOCABULARY, LENGTH = 128, 16


class Bigrams(nn.Module):
    """A language model of the project's own, which knows a token by the one before."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.seen, self.deep = nn.Embedding(VOCABULARY, width), nn.Linear(width, width)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> SimpleNamespace:
        logits = self.head(torch.tanh(self.deep(self.seen(input_ids))))
        loss = nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten())
        return SimpleNamespace(loss=loss, logits=logits)


def model() -> Bigrams:
    torch.manual_seed(0)
    return Bigrams()


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
