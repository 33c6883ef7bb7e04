"""The order of prompts that a trainer takes each as often as it has answers."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler


class GroupedOrder(Sampler[int]):
    """Gives the places of `order` as trl's RepeatSampler does those of a data set: of each step's prompts each as often
    as it has answers, and all of them as often as the trainer takes a micro-batch.

    trl's own begins with the first epoch's order again when a training goes on in a later one.
    """

    def __init__(self, order: Sampler[int] | range, answers: int, prompts: int, repeats: int) -> None:
        self._order = order
        self._places = RepeatSampler(range(len(order)), answers, prompts, repeats, shuffle=False)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[int]:
        rows = list(self._order)
        return (rows[place] for place in self._places)
