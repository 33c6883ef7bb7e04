"""The model of a full run: which way its weights go, and what people hear of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from autofit.domain.knobs.method import Method
from autofit.domain.knobs.quantization import Quantization
from autofit.probing.protocol import Job
from autofit.worker.training import job_model
from autofit.worker.training.job_model import pretrained_model
from tests.models.job import job_of
from tests.worker.model.partitions import RANKS, rank_under_zero_3
from tests.worker.model.small_models import write_weights

META = torch.device("meta")


def load(job: Job, told: list[str]) -> Any:
    return pretrained_model(job, META, hear=lambda *_: None, tell=told.append)


def test_every_rank_under_zero_3_reads_its_own_part(tmp_path: Path) -> None:
    job, told = job_of(write_weights(tmp_path)), list[str]()
    with rank_under_zero_3(1) as called:
        model = load(job, told)
    assert {one.ds_tensor.ds_numel * RANKS >= one.ds_numel for one in model.parameters()} == {True}
    assert (told, called) == ([], [])


def test_below_zero_3_the_weights_lie_on_the_device(tmp_path: Path) -> None:
    told: list[str] = []
    model = load(job_of(write_weights(tmp_path), zero_stage=2), told)
    assert {parameter.device for parameter in model.parameters()} == {META}
    assert told == []


@pytest.mark.parametrize("zero_stage", [2, 3])
def test_what_cannot_be_streamed_is_loaded_by_transformers_and_told_once(
    zero_stage: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_model, "why_not_streamed", lambda *_, **__: "its own code loads them")
    job, told = job_of(write_weights(tmp_path), zero_stage=zero_stage), list[str]()
    if zero_stage == 3:
        with rank_under_zero_3(0) as called:
            model = load(job, told)
        assert "broadcast" in called
    else:
        model = load(job, told)
    assert META not in {parameter.device for parameter in model.parameters()}
    assert told == ["The weights take longer to load and more host memory than usual: its own code loads them."]


@pytest.mark.parametrize("is_known", [True, False])
def test_quantised_weights_are_divided_while_they_are_loaded(
    is_known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where these versions load otherwise each rank has all of them first, and is told."""
    if not is_known:
        monkeypatch.setattr(job_model, "why_not_divided", lambda: "these versions load otherwise")
    job = job_of(write_weights(tmp_path), method=Method.LORA, quantization=Quantization.NF4)
    told: list[str] = []
    with rank_under_zero_3(1) as called:
        model = pretrained_model(job, torch.device("cpu"), hear=lambda *_: None, tell=told.append)
    assert {hasattr(one, "ds_tensor") for one in model.parameters()} == {is_known}
    assert (len(told), called) == (0 if is_known else 1, [])
