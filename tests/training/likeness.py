"""How alike two trainings are: steps, losses, gradient norms and weights."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.method import Method
from tests.training.runs import Case, Ended


@dataclass(frozen=True)
class Tolerance:
    """Relative: of a step's loss and gradient norm, and of all that the training has changed of the weights."""

    loss: float
    norm: float
    update: float


TOLERANCES = {
    Dtype.FP32: Tolerance(1e-5, 1e-5, 1e-3),
    # Beside autocast over fp32 weights; rounding is 2^-9 at most.
    Dtype.BF16: Tolerance(2**-9, 2**-6, 0.2),
}


TORCHS_NORM = 3e-5
"""Of the norm that torch sums in fp32, which is that of a training without an engine."""


def check_same(ended: Ended, plain: Ended, base: Path, case: Case, *, update: float | None = None) -> None:
    """Step by step within what the dtype itself differs; `plain` is the same training in one process, of `base`.
    `update` is a Tolerance's, None for that of the dtype."""
    assert ended.codes == [0] * case.ranks, ended.log
    near = TOLERANCES[case.dtype]
    assert [step["step"] for step in ended.steps] == [step["step"] for step in plain.steps]
    norm = max(near.norm, TORCHS_NORM) if case.stage == 0 else near.norm
    for name, tolerance in (("loss", near.loss), ("grad_norm", norm), ("learning_rate", 1e-9)):
        expected = [step[name] for step in plain.steps]
        assert [step[name] for step in ended.steps] == pytest.approx(expected, rel=tolerance), name
    _check_weights(ended.model, plain.model, base, case, near.update if update is None else update)


def _check_weights(model: Path, plain: Path, base: Path, case: Case, tolerance: float) -> None:
    weights, others = _weights(model, case.method), _weights(plain, case.method)
    assert set(weights) == set(others)  # a tied weight stands in the file once
    if case.method is Method.FULL:
        assert _use_cache(model) == _use_cache(base)
        began = _weights(base, case.method)
    else:
        began = {key: value * ("lora_A" in key) for key, value in others.items()}  # B begins at zero
    moved = _length(others[key] - began[key] for key in others)
    assert moved > 0.01 * _length(others.values())  # otherwise being near would say nothing
    assert _length(weights[key] - others[key] for key in others) < tolerance * moved


def _weights(model: Path, method: Method) -> dict[str, Any]:
    from safetensors.torch import load_file

    name = "adapter_model.safetensors" if method is Method.LORA else "model.safetensors"
    return {key: value.double() for key, value in load_file(model / name).items()}


def _length(tensors: Iterable[Any]) -> float:
    return float(sum(float(tensor.pow(2).sum()) for tensor in tensors) ** 0.5)


def _use_cache(model: Path) -> object:
    return json.loads((model / "config.json").read_text())["use_cache"]


def token_mean(model: Path, data: Path) -> float:
    """The mean loss of all tokens of the texts in `data`, row by row without padding."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    net, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    loss, count = 0.0, 0
    for line in data.read_text("utf-8").splitlines():
        ids = torch.tensor([tokenizer(json.loads(line)["text"] + tokenizer.eos_token)["input_ids"][:64]])
        with torch.no_grad():
            loss += float(net(ids, labels=ids).loss) * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    return loss / count
