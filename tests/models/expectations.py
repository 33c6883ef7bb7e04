"""What of each family is known not to work, and why: the test holds the rest to work, and this not to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

import pytest
from _pytest.mark import ParameterSet

from tests.models.families import FAMILIES
from tests.spread import with_matrix


class Check(str, Enum):
    """What a family is put through, a test each; the value heads a column of the table."""

    PLAN = "plan"
    LOSS = "loss"
    TRACE = "trace, full"
    TRACE_LORA = "trace, LoRA"
    ADAPTERS = "LoRA step"
    PROBE = "probe"
    SAVED = "save, load, generate"


_FAULTS: dict[Check, dict[str, tuple[str, ...]]] = {}


def fault(check: Check, model_type: str) -> str | None:
    """Why the family is expected to fail, in one sentence; None where it must not."""
    return next((why for why, families in _FAULTS.get(check, {}).items() if model_type in families), None)


def declared_families() -> set[str]:
    return {name for reasons in _FAULTS.values() for families in reasons.values() for name in families}


def cases(check: Check, always: Iterable[str] = ()) -> Iterator[ParameterSet]:
    """The families as parameters of a test: some always, the others, which are slow together, in the matrix."""
    known = tuple(always)
    for case in with_matrix(known, (name for name in FAMILIES if name not in known)):
        marks = [*case.marks, *([pytest.mark.slow] if case.marks else [])]
        why = fault(check, str(case.values[0]))
        if why is not None:
            marks.append(pytest.mark.xfail(strict=True, reason=why))
        yield pytest.param(*case.values, marks=marks, id=str(case.values[0]))
