"""Everything that the search may choose of, each beside plain trl in one process; `bin/test --all` runs it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from tests.training.likeness import check_same
from tests.training.runs import Case, Runs, training

pytestmark = [pytest.mark.slow, pytest.mark.matrix]
HERE = [one for one in GradientCheckpointing if one is not GradientCheckpointing.OFFLOAD]  # which needs a GPU
CASES = [
    Case(method, stage, checkpointing, micro_batch, ranks, dtype)
    for dtype, method, stage, checkpointing, micro_batch, ranks in product(
        (Dtype.FP32, Dtype.BF16), Method, (0, 1, 2, 3), HERE, (1, 8), (1, 2)
    )
    if (stage, checkpointing) != (3, GradientCheckpointing.SELECTIVE)
]


@pytest.mark.parametrize("row_count", [32, 37])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_training_is_the_one_that_was_asked_for(
    case: Case, row_count: int, runs: Runs, model: Path, rows: Callable[[int], Path]
) -> None:
    """Row counts that a global batch of 16 divides, and does not."""
    request = training(model, rows(row_count))
    check_same(runs.autofit(case, request), runs.plain(request, case), model, case)


@pytest.mark.parametrize("stage", [2, 3])
def test_packed_rows_are_divided_the_same_way(stage: int, runs: Runs, model: Path, rows: Callable[[int], Path]) -> None:
    """Some 20 rows of 64 tokens, whose last global batch is filled as well."""
    request = training(model, rows(37), extra_arguments=("--packing", "true"))
    whole, divided = (runs.autofit(case, request) for case in (Case(ranks=1, micro_batch=16), Case(stage=stage)))
    assert len(whole.steps) > 1, whole.log
    for name in ("loss", "grad_norm"):
        expected = [step[name] for step in whole.steps]
        assert [step[name] for step in divided.steps] == pytest.approx(expected, rel=1e-5)
