"""Weights that GPTQ or AWQ has packed are those of their formula once they are loaded, plain, quantised or divided."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.quantization import Quantization
from autofit.inputs.packed_weights import Layout, Packing
from autofit.worker.model import packed_weights
from autofit.worker.model.loading import build_model, load_model, load_plain
from autofit.worker.model.packed_weights import unpacked, unpacking
from autofit.worker.model.quantization import bits_config
from autofit.worker.training.job_model import pretrained_model
from tests.models.job import job_of
from tests.worker.model.packed_models import pack_folder
from tests.worker.model.partitions import rank_under_zero_3
from tests.worker.model.small_models import small_config

CPU = torch.device("cpu")


def write(folder: Path, model_type: str = "llama", **changed: Any) -> PreTrainedModel:
    model = build_model(small_config(model_type, **changed), dtype=torch.bfloat16, attention=Attention.EAGER)
    model.save_pretrained(folder)
    return model


def load(folder: Path, dtype: torch.dtype = torch.float32, **options: Any) -> PreTrainedModel:
    return load_model(str(folder), dtype=dtype, trust_remote_code=False, **options)


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        ("gptq", {}), ("gptq", {"bits": 2}), ("gptq", {"bits": 8}), ("gptq", {"is_shuffled": True}),
        ("gptq_v2", {"has_groups": False}), ("awq", {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("piece_elements", [256, packed_weights._PIECE_ELEMENTS])
def test_packed_weights_are_loaded_plain_and_saved_so(
    piece_elements: int, layout: str, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_weights, "_PIECE_ELEMENTS", piece_elements)
    model = write(tmp_path / "stored")
    weights = pack_folder(tmp_path / "stored", layout, **options)
    assert len(weights) == 14
    loaded = load(tmp_path / "stored", device=CPU)
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, weights.get(name, model.get_parameter(name).float())), name
    loaded.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert all(torch.equal(parameter, again.get_parameter(name)) for name, parameter in loaded.named_parameters())


def test_they_are_rounded_once_to_what_is_computed_in(tmp_path: Path) -> None:
    write(tmp_path)
    weights = pack_folder(tmp_path, "gptq")
    loaded = load_plain(str(tmp_path), dtype=torch.bfloat16, trust_remote_code=False)
    assert all(torch.equal(loaded.get_parameter(name), weight.bfloat16()) for name, weight in weights.items())


def test_a_model_that_scores_has_a_head_beside_them(tmp_path: Path) -> None:
    write(tmp_path, pad_token_id=0)
    weights = pack_folder(tmp_path, "awq")
    loaded = load(tmp_path, scores=True)
    assert loaded.score.weight.shape == (1, 32)
    assert all(torch.equal(loaded.get_parameter(name), weight) for name, weight in weights.items())


def test_packed_experts_are_merged_as_plain_ones_are(tmp_path: Path) -> None:
    write(tmp_path / "stored", "mixtral", num_local_experts=2)
    shutil.copytree(tmp_path / "stored", tmp_path / "plain")
    weights = pack_folder(tmp_path / "stored", "gptq")
    assert sum(".experts." in name for name in weights) == 12
    file = tmp_path / "plain" / "model.safetensors"
    plain = {name: weight.contiguous() for name, weight in weights.items()}
    save_file({**load_file(file), **plain}, file, metadata={"format": "pt"})
    both = [load(tmp_path / name) for name in ("stored", "plain")]
    for name, parameter in both[0].named_parameters():
        assert torch.equal(parameter, both[1].get_parameter(name)), name


def test_they_are_quantised_anew_as_plain_ones_are(tmp_path: Path) -> None:
    write(tmp_path / "stored")
    weights = pack_folder(tmp_path / "stored", "gptq")
    plain = load(tmp_path / "stored")
    plain.save_pretrained(tmp_path / "plain")
    bits = bits_config(Quantization.NF4, torch.float32)
    both = [load(tmp_path / name, device=CPU, bits=bits) for name in ("stored", "plain")]
    for name in weights:
        one, other = (model.get_parameter(name) for model in both)
        assert one.dtype == torch.uint8
        assert torch.equal(one, other), name


@pytest.mark.parametrize("quantization", [Quantization.NONE, Quantization.NF4])
def test_a_rank_under_zero_3_keeps_its_part(quantization: Quantization, tmp_path: Path) -> None:
    write(tmp_path)
    weights = pack_folder(tmp_path, "gptq")
    job, told = job_of(tmp_path, method=Method.LORA, quantization=quantization), list[str]()
    with rank_under_zero_3(1) as called:
        model = pretrained_model(job, CPU, hear=lambda *_: None, tell=told.append)
    assert all(hasattr(parameter, "ds_tensor") for parameter in model.parameters())
    assert (told, called) == ([], [])
    if quantization is Quantization.NONE:
        name, weight = next(iter(weights.items()))
        part = model.get_parameter(name).ds_tensor
        assert torch.equal(part, weight.to(part.dtype).flatten()[part.numel() : 2 * part.numel()])


def test_sizes_that_do_not_go_together_are_an_error() -> None:
    words, zeros = torch.zeros(4, 8, dtype=torch.int32), torch.zeros(2, 1, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"\(4, 8\) packed words do not go with \(2, 8\) scales"):
        unpacked(words, zeros, torch.ones(2, 8), None, Packing(Layout.GPTQ, 8), torch.float32)


def test_a_checkpoint_without_any_is_an_error(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(RuntimeError, match="no packed weights"), unpacking(Packing(Layout.AWQ, 16), CPU, torch.float32):
        load(tmp_path)
