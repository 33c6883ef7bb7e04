"""What is written in a stream is what transformers' and PEFT's save_pretrained write."""

from __future__ import annotations

import errno
import json
import os
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from autofit.domain.request import Lora
from autofit.probing.protocol import FailureKind
from autofit.worker.model.adapters import lora_config
from autofit.worker.rank.failure import KnownFailure
from autofit.worker.saving import safetensors_file, shards, stored_state
from autofit.worker.saving.stored_state import NotStreamed
from tests.models.families import tiny_config
from tests.worker.saving.written import RANKS, FullDisk, converted, divided, same_bytes, save, write_slices

SHARD_BYTES = 200_000
HEADER_BYTES = 10_000  # and less, of such small models
KINDS = {
    "gpt2": "tied weights, linear layers that are transposed",
    "gemma3": "a tower that sees",
    "mixtral": "experts in one tensor, one by one in the file",
    "hrm_text": "several tensors that are one in the file",
    "deepseek_v3": "a buffer in fp32",
}


def make(model_type: str, dtype: torch.dtype = torch.bfloat16) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(tiny_config(model_type), dtype=dtype)


def check_same_files(folder: Path, expected: Path) -> None:
    names = [sorted(path.name for path in place.iterdir()) for place in (folder, expected)]
    assert names[0] == names[1]
    for name in names[0]:
        assert (folder / name).read_bytes() == (expected / name).read_bytes(), name


@pytest.mark.parametrize("model_type", KINDS)
def test_the_files_are_those_of_save_pretrained(model_type: str, tmp_path: Path) -> None:
    """To the last byte."""
    model = make(model_type)
    save(model, tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs")
    check_same_files(tmp_path / "ours", tmp_path / "theirs")


def test_a_large_model_is_in_shards_that_save_pretrained_would_write(tmp_path: Path) -> None:
    model = make("gemma3")
    save(model, tmp_path / "ours", most_shard_bytes=SHARD_BYTES)
    model.save_pretrained(tmp_path / "theirs", max_shard_size=SHARD_BYTES)
    check_same_files(tmp_path / "ours", tmp_path / "theirs")
    assert len(list((tmp_path / "ours").glob("model-*-of-*.safetensors"))) > 2


def test_experts_are_divided_among_shards_and_load_again(tmp_path: Path) -> None:
    """save_pretrained keeps experts that were one tensor in one file, however large that is."""
    model = make("mixtral")
    save(model, tmp_path, most_shard_bytes=SHARD_BYTES)
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("model-*.safetensors"))]
    largest_bytes = max(tensor.nbytes for tensor in model.state_dict().values())
    assert max(sizes) < max(SHARD_BYTES, largest_bytes) + HEADER_BYTES
    assert all(one + next_one > SHARD_BYTES for one, next_one in pairwise(sizes))  # each is as full as it can be
    loaded, said = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16, output_loading_info=True)
    assert {key: list(names) for key, names in said.items() if names} == {}
    assert all(same_bytes(tensor, model.state_dict()[name]) for name, tensor in loaded.state_dict().items())


def test_a_model_in_fp32_stays_so(tmp_path: Path) -> None:
    model = make("gpt2", torch.float32)
    save(model, tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs")
    check_same_files(tmp_path / "ours", tmp_path / "theirs")
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize("model_type", ["gpt2", "gemma3", "mixtral", "hrm_text"])
def test_each_rank_writes_its_slice_and_together_they_are_the_file(model_type: str, tmp_path: Path) -> None:
    """The ranks one after another; what a conversion gathers is left out."""
    (tmp_path / "ours").mkdir()
    for rank in range(RANKS):
        with divided(make(model_type), rank, RANKS) as model:
            write_slices(model, tmp_path / "ours", rank)
    whole = make(model_type)
    whole.save_pretrained(tmp_path / "theirs")
    found, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "theirs"))
    assert list(found) == list(expected)
    assert {name for name in expected if not same_bytes(found[name], expected[name])} == converted(whole)


@pytest.mark.parametrize("model_type", ["mixtral", "hrm_text"])
def test_what_is_converted_is_gathered_first(model_type: str, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    with divided(make(model_type), 0, 1) as model:
        write_slices(model, tmp_path / "ours", 0, 1)
    make(model_type).save_pretrained(tmp_path / "theirs")
    name = "model.safetensors"
    assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()


@pytest.mark.filterwarnings("ignore::UserWarning:peft", "ignore::RuntimeWarning:peft")
@pytest.mark.parametrize(
    ("model_type", "modules"),
    [("llama", ("auto",)), ("llama", ("embed_tokens", "q_proj")), ("mixtral", ("q_proj", "w1", "w2", "w3"))],
)
def test_of_an_adapter_the_adapter_alone_is_written(model_type: str, modules: tuple[str, ...], tmp_path: Path) -> None:
    """With the embeddings that have one, as PEFT does."""
    make(model_type).save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model = get_peft_model(base, lora_config(Lora(r=4, target_modules=modules), base))
    save(model, tmp_path / "ours", most_shard_bytes=1)  # PEFT loads one file
    model.save_pretrained(tmp_path / "theirs")
    check_same_files(tmp_path / "ours", tmp_path / "theirs")


def test_what_a_file_cannot_hold_is_not_streamed(tmp_path: Path) -> None:
    model = make("llama")
    model.register_buffer("odd", torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(NotStreamed, match="holds what a safetensors file does not"):
        save(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_transformers_converts_at_once_alone_is_not_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a tensor that is made of the whole model's."""

    def revert(model: object, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"all": torch.cat([tensor.flatten() for tensor in tensors.values()])}

    monkeypatch.setattr(stored_state, "revert_weight_conversion", revert)
    with pytest.raises(NotStreamed, match="of the whole model at once"):
        stored_state.stored_state(make("llama"))


def test_another_save_in_the_same_folder_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    """Fewer shards than before, and what a save that was killed had begun."""
    model = make("llama")
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / "model-00001-of-00009.safetensors").touch()
    (tmp_path / "notes.txt").write_text("mine")
    save(model, tmp_path, most_shard_bytes=SHARD_BYTES)
    save(model, tmp_path, most_shard_bytes=2 * SHARD_BYTES)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert {path.name for path in tmp_path.glob("model*.safetensors")} == set(index["weight_map"].values())
    save(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json", "generation_config.json", "model.safetensors", "notes.txt",
    ]  # fmt: skip


def test_what_loads_is_there_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files move one by one: a folder that has the index has everything."""
    moved: list[str] = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, target: moved.append(path.name) or replace(path, target))
    save(make("llama"), tmp_path, most_shard_bytes=SHARD_BYTES)
    assert len(moved) > 4
    assert moved[-1] == "model.safetensors.index.json"


def test_a_full_disk_is_told_and_the_model_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("llama")
    save(model, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(safetensors_file, "os", FullDisk(300_000))
    with torch.no_grad():
        model.lm_head.weight.zero_()
    with pytest.raises(
        KnownFailure, match=f"^there is no space left for {tmp_path}, whose weights take 6.. kB: free"
    ) as told:
        save(model, tmp_path)
    assert told.value.kind is FailureKind.DISK_FULL
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_disk_that_is_found_full_when_a_file_is_closed_is_told_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(descriptor: int) -> None:
        os.close(descriptor)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(shards, "os", SimpleNamespace(open=os.open, O_WRONLY=os.O_WRONLY, close=close))
    with pytest.raises(KnownFailure, match=r"^there is no space left for"):
        save(make("llama"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_ours_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KnownFailure, match=r"file/model cannot be written \(Not a directory\): see to that there"):
        save(make("llama"), tmp_path / "file" / "model")


def test_what_fails_beside_the_weights_leaves_nothing_either(tmp_path: Path) -> None:
    def fail(place: Path) -> None:
        (place / "config.json").touch()
        raise ValueError("a tokenizer that cannot be saved")

    with pytest.raises(ValueError, match="a tokenizer"):
        save(make("llama"), tmp_path, fail)
    assert list(tmp_path.iterdir()) == []
