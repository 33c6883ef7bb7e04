"""How alike two trainings are: steps, losses, gradient norms and weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autofit.domain.strategy import Dtype, Method

from .runs import LEARNING_RATE, Case, Ended

FP32 = 1e-5
BF16 = 2e-2  # eight bits of a number: what two orders of summation differ by, and a little drift over six steps


def check_same(ended: Ended, plain: Ended, base: Path, case: Case) -> None:
    """Step by step within what the dtype itself differs; `plain` is the same training in one process, of `base`."""
    assert ended.codes == [0] * case.ranks, ended.log
    tolerance = FP32 if case.dtype is Dtype.FP32 else BF16
    assert [step["step"] for step in ended.steps] == [step["step"] for step in plain.steps]
    for name in ("loss", "grad_norm", "learning_rate"):
        expected = [step[name] for step in plain.steps]
        assert [step[name] for step in ended.steps] == pytest.approx(expected, rel=tolerance, abs=1e-12), name
    moved, apart = _distances(plain.model, base, case.method), _distances(ended.model, plain.model, case.method)
    assert moved > LEARNING_RATE  # otherwise being near would say nothing
    assert apart <= (1e-2 if case.dtype is Dtype.FP32 else 1.0) * LEARNING_RATE
    assert _config(ended.model, case.method).get("use_cache") == _config(base, case.method).get("use_cache")


def _distances(model: Path, other: Path, method: Method) -> float:
    """The farthest that a weight of `model` is from that of `other`; an adapter's is zero in a base model."""
    from safetensors.torch import load_file

    name = "adapter_model.safetensors" if method is Method.LORA else "model.safetensors"
    weights, others = load_file(model / name), load_file(other / name) if (other / name).exists() else {}
    assert not others or set(weights) == set(others)  # a tied weight stands in the file once
    keys = [key for key in weights if others or "lora_A" not in key]  # of an adapter B alone begins at zero
    return max(float((weights[key].double() - others.get(key, 0.0)).abs().max()) for key in keys)


def _config(model: Path, method: Method) -> dict[str, object]:
    if method is Method.LORA:
        return {}
    config: dict[str, object] = json.loads((model / "config.json").read_text())
    return config


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
