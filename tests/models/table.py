"""Writes docs/models.md from a run of the families' tests, all of them:

python -m tests.models.table
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.models.expectations import Check, fault
from tests.models.families import FAMILIES, LEFT_OUT
from tests.models.results import KERNELS, TARGETS, Results

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
WORKS = "yes"

_HEAD = """\
# Families of models

Every causal language model of transformers that its configuration class can shrink, put through what a training does
to it, at tiny size on a CPU. `python -m tests.models.table` runs the tests and writes this page.

- **plan**: `autofit plan` ends, and every rung of an A100 is traced.
- **loss**: trl's loss, which projects the last hidden states itself, is that of the model's own logits.
- **trace**: a micro-step's peak is that of the CPU's allocator, with checkpointing and without.
- **LoRA step**: adapters sit on the automatic targets and not on the head, and one step moves each of them.
- **probe**: a real probe with DeepSpeed's ZeRO-3 ends measured.
- **written**: its files, streamed by one rank or by three, hold what `save_pretrained` writes, to the last bit.
- **save, load, generate**: what is loaded again is what was trained, and it generates.

A number stands for the reason below.
"""


def reasons() -> list[str]:
    """Each reason once, in the order of the table; its place is its number."""
    told = (fault(check, model_type) for model_type in FAMILIES for check in Check)
    return list(dict.fromkeys(why for why in told if why is not None))


def number(check: Check, model_type: str) -> str:
    """Of the reason why it is declared to fail."""
    why = fault(check, model_type)
    assert why is not None
    return str(reasons().index(why) + 1)


def footnotes() -> str:
    """What does not work and what is left out, as the declarations have it."""
    numbered = "\n".join(f"{number}. {why}" for number, why in enumerate(reasons(), 1))
    left_out = "\n".join(f"- {', '.join(names)}: {why}" for why, names in _by_reason(LEFT_OUT).items())
    return f"## What does not work\n\n{numbered}\n\n## Left out\n\n{left_out}\n"


def page(results: Results) -> str:
    return f"{_HEAD}\n" + "\n".join(_rows(results)) + f"\n\n{footnotes()}"


def _rows(results: Results) -> Iterator[str]:
    titles = ["model_type", *(check.value for check in Check), KERNELS, TARGETS]
    yield _row(titles)
    yield _row(["---"] * len(titles))
    for model_type in FAMILIES:
        found = results.found[model_type]
        cells = [WORKS if results.works[check, model_type] else number(check, model_type) for check in Check]
        yield _row([model_type, *cells, *(found.get(name, "") for name in (KERNELS, TARGETS))])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _by_reason(families: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, why in sorted(families.items()):
        found.setdefault(why, []).append(name)
    return found


def main() -> int:
    results = Results()
    code = pytest.main(["--all", str(Path(__file__).with_name("test_families.py"))], plugins=[results])
    if code == 0:  # what works is what was declared to: anything else has failed
        PAGE.write_text(page(results), "utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
