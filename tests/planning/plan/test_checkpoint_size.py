"""What a training writes, by hand for a model of round numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.method import Method
from autofit.domain.request import Training
from autofit.planning.plan.checkpoint_size import written_size
from autofit.planning.setting import Setting
from tests.builders import make_hardware, make_request, make_rung
from tests.planning.memory.llama import SEVEN

COUNT = SEVEN.parameter_count


def setting(*words: str, ranks: int = 8) -> Setting:
    request = replace(make_request("m", 64), training=Training(extra_arguments=words))
    return Setting(request, make_hardware(ranks), SEVEN, 64)


@pytest.mark.parametrize(
    ("stage", "bytes_of_parameter"),
    [
        (0, 4 + 8),  # fp32 weights, and both moments
        (1, 2 + 2 + 12),  # bf16 weights twice, master weights and moments
        (2, 2 + 2 + 12),
        (3, 2 + 12),
    ],
)
def test_of_all_parameters(stage: int, bytes_of_parameter: int) -> None:
    size = written_size(make_rung(stage, method=Method.FULL, dtype=Dtype.BF16), setting(), tokenizer_bytes=0)
    assert size.checkpoint_bytes == pytest.approx(bytes_of_parameter * COUNT, rel=1e-4)
    assert size.model_bytes == pytest.approx(2 * COUNT, rel=1e-4)
    assert size.least_bytes == size.checkpoint_bytes + size.model_bytes
    assert size.most_bytes == 3 * size.checkpoint_bytes + size.model_bytes  # two are kept while one is written


def test_of_an_adapter_the_base_is_not_written() -> None:
    size = written_size(make_rung(2, method=Method.LORA, dtype=Dtype.BF16), setting(), tokenizer_bytes=0)
    assert size.model_bytes < 0.01 * 2 * COUNT
    assert size.checkpoint_bytes == pytest.approx(16 / 2 * size.model_bytes, rel=0.02)


def test_what_the_user_says_of_saving_counts() -> None:
    rung = make_rung(2, method=Method.FULL, dtype=Dtype.BF16)
    none = written_size(rung, setting("--save_strategy", "no"), tokenizer_bytes=0)
    assert none.least_bytes == none.most_bytes == none.model_bytes > 0
    one = written_size(rung, setting("--save_total_limit", "1"), tokenizer_bytes=0)
    assert one.most_count == 2
    assert written_size(rung, setting(), tokenizer_bytes=7).model_bytes == one.model_bytes + 7
