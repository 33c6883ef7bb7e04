"""How many weights are loaded, as transformers' progress bar has it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from transformers.utils import logging

BAR = "Loading weights"
"""What transformers calls its bar, and streaming its own."""

Hear = Callable[[int, int], None]
"""Hears, before each weight, how many are loaded and how many there are."""


@contextlib.contextmanager
def weights_heard(hear: Hear) -> Iterator[None]:
    """Has `hear` follow the bar until the end of `with`; the bar itself stays in the log."""

    def hook(factory: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        bar = factory(*arguments, **options)
        return _counted(bar, len(arguments[0]), hear) if options.get("desc") == BAR else bar

    before = logging.set_tqdm_hook(hook)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)


def _counted(bar: Iterable[Any], count: int, hear: Hear) -> Iterator[Any]:
    for done, weight in enumerate(bar):
        hear(done, count)
        yield weight
