"""The predicted size of checkpoints beside those that were written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.quantization import Quantization
from autofit.inputs.checkpoint_files import sizes_bytes
from autofit.inputs.model_files import read_model_files
from autofit.planning.plan.checkpoint_size import written_size
from autofit.planning.setting import Setting
from tests.builders import make_hardware
from tests.spread import with_matrix
from tests.training.runs import Case, Runs, training

pytestmark = pytest.mark.slow
Rows = Callable[[int], Path]
BF16 = Dtype.BF16


@pytest.mark.parametrize(
    "case",
    with_matrix(
        [
            Case(stage=0, dtype=BF16),
            Case(stage=2, dtype=BF16, method=Method.LORA),
            Case(stage=2, dtype=BF16, optimizer=Optimizer.ADAMW_8BIT),
            Case(stage=3, dtype=BF16, optimizer=Optimizer.LOMO),
        ],
        [
            Case(stage=0),
            Case(stage=0, dtype=BF16, method=Method.LORA),
            Case(stage=0, dtype=BF16, optimizer=Optimizer.ADAMW_8BIT),
            Case(stage=0, dtype=BF16, optimizer=Optimizer.LOMO),
            Case(stage=1, dtype=BF16),
            Case(stage=2),
            Case(stage=2, dtype=BF16),
            Case(stage=2, dtype=BF16, method=Method.LORA, quantization=Quantization.NF4),
            Case(stage=3, dtype=BF16),
            Case(stage=3),
            Case(stage=3, dtype=BF16, method=Method.LORA),
            Case(stage=3, dtype=BF16, optimizer=Optimizer.ADALOMO),
        ],
    ),
    ids=str,
)
def test_a_checkpoint_takes_what_was_predicted(case: Case, runs: Runs, model: Path, rows: Rows) -> None:
    """Within 4 % on a tiny model, of whose checkpoints the headers are a good part."""
    from autofit.worker.model.description import describe

    request = training(model, rows(37), epochs=1.0, max_steps=1)
    ended = runs.autofit(case, request)
    assert ended.codes == [0, 0], ended.log
    setting = Setting(
        request, make_hardware(case.ranks), read_model_files(str(model)).shape, 64, facts=describe(request)
    )
    tokenizer_bytes = sum(path.stat().st_size for path in ended.model.glob("tokenizer*"))
    size = written_size(case.rung, setting, tokenizer_bytes)
    checkpoint = ended.folder / "checkpoints/checkpoint-1"
    assert size.checkpoint_bytes == pytest.approx(sum(sizes_bytes(checkpoint).values()), rel=0.04, abs=10_000)
    assert size.model_bytes == pytest.approx(sum(sizes_bytes(ended.model).values()), rel=0.04, abs=10_000)
