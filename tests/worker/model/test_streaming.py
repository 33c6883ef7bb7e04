"""Weights that every rank reads for itself: beside what `from_pretrained` alone makes of the same files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel, modeling_utils
from transformers.core_model_loading import Split, Transpose, WeightConverter
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from autofit.worker.model.checkpoint_tensors import StoredTensor, in_memory
from autofit.worker.model.loading import load_model
from autofit.worker.model.loading_bar import weights_heard
from autofit.worker.model.partition_loader import fill_parameter
from autofit.worker.model.streamable import why_not_streamed
from autofit.worker.model.streaming import streamed_partitions
from autofit.worker.model.weight_sources import Group, Source
from tests.worker.model.partitions import check_same, load_in_parts, rank_under_zero_3
from tests.worker.model.small_models import write_weights
from tests.worker.trace.real_step import allocated_bytes

FILE = "model.safetensors"


def change(folder: Path, changed: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(changed(load_file(folder / FILE)), folder / FILE, metadata={"format": "pt"})


def whole_model(folder: Path, dtype: torch.dtype = torch.bfloat16) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shard", ["1GB", "20KB"], ids=["one-file", "shards"])
def test_shards_and_dtypes(shard: str, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = write_weights(tmp_path, shard=shard)
    assert (len(list(folder.glob("*.safetensors"))) > 1) == (shard == "20KB")
    check_same(load_in_parts(folder, dtype), whole_model(folder, dtype))


def test_half_precision_of_the_other_kind(tmp_path: Path) -> None:
    folder = write_weights(tmp_path)
    change(folder, lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    check_same(load_in_parts(folder), whole_model(folder))


def test_files_of_torch(tmp_path: Path) -> None:
    folder = write_weights(tmp_path, tie_word_embeddings=True)
    torch.save(whole_model(folder, torch.float32).state_dict(), folder / "pytorch_model.bin")
    (folder / FILE).unlink()
    check_same(load_in_parts(folder), whole_model(folder))


def test_files_that_must_not_be_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_weights(tmp_path)
    monkeypatch.setattr(modeling_utils, "_is_on_hf_mount", lambda path: True)
    check_same(load_in_parts(folder), whole_model(folder))


@pytest.mark.parametrize("is_tied_in_truth", [True, False])
def test_weights_that_are_tied_only_where_they_are_equal(is_tied_in_truth: bool, tmp_path: Path) -> None:
    """The file has both. Divided, all parameters look equal to transformers: they are empty."""
    folder = write_weights(tmp_path, tie_word_embeddings=True)
    factor = 1 if is_tied_in_truth else 2
    change(folder, lambda all_: {**all_, "lm_head.weight": all_["model.embed_tokens.weight"] * factor})
    check_same(load_in_parts(folder), whole_model(folder))


def test_what_does_not_fit_is_refused_by_every_rank(tmp_path: Path) -> None:
    """Also by one that would keep nothing of it: the others would wait for it in the next collective."""
    folder = write_weights(tmp_path)
    change(folder, lambda all_: {**all_, "model.norm.weight": torch.ones(2), "lm_head.weight": torch.ones(64, 31)})
    for index in range(3):
        with rank_under_zero_3(index) as called, streamed_partitions():
            with pytest.raises(
                RuntimeError, match=r"(?s)size mismatch for lm_head.*\[64, 31\].*mismatch for model.norm"
            ):
                whole_model(folder)
            assert called == []


def test_names_that_the_checkpoint_lacks_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_weights(tmp_path)
    change(
        folder, lambda all_: {name: one for name, one in all_.items() if name != "model.layers.1.mlp.up_proj.weight"}
    )
    with rank_under_zero_3(0), streamed_partitions():
        _, said = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, output_loading_info=True)
    assert said["missing_keys"] == {"model.layers.1.mlp.up_proj.weight"}


def test_a_conversion_that_fails_names_its_weights(tmp_path: Path) -> None:
    folder = write_weights(tmp_path, "mixtral", num_local_experts=4)
    name = "model.layers.0.block_sparse_moe.experts.1.w1.weight"
    change(folder, lambda all_: {**all_, name: all_[name][:-1].clone()})
    with (
        rank_under_zero_3(0),
        streamed_partitions(),
        pytest.raises(RuntimeError, match=r"weights of model\.layers\.0\.mlp"),
    ):
        whole_model(folder)


def test_conversions_that_ask_for_shapes_hear_the_whole_ones() -> None:
    """ZeRO-3 has emptied the parameters themselves."""
    model: Any = torch.nn.Module()
    model.config = None
    for name, rows in (("wide", 4), ("narrow", 2)):
        parameter: Any = torch.nn.Parameter(torch.empty(0))
        parameter.ds_shape = torch.Size([rows, 3])
        model.register_parameter(name, parameter)
    split = WeightConverter("both", ["wide", "narrow"], [Split(dim=0)])
    both = torch.arange(18.0).view(6, 3)
    made = dict(Group("wide", split, {"both": [in_memory(both)]}).sources(model))
    assert torch.equal(made["wide"].whole(), both[:4])
    assert torch.equal(made["narrow"].whole(), both[4:])
    turned = WeightConverter("stored", "wide", [Transpose(0, 1, check_dims=True)])
    for stored in (both[:4], both[:4].T.contiguous()):
        ((_, source),) = Group("wide", turned, {"stored": [in_memory(stored)]}).sources(model)
        assert torch.equal(source.whole(), both[:4])


def test_experts_that_a_rank_does_not_keep_are_not_read() -> None:
    def unread() -> torch.Tensor:
        raise AssertionError("read")

    experts = [StoredTensor((1, 2, 3), unread) for _ in range(4)]
    experts[1] = in_memory(torch.arange(6.0).view(1, 2, 3))
    parameter: Any = torch.nn.Parameter(torch.empty(0))
    parameter.ds_tensor, parameter.ds_zero_partition_rank = torch.zeros(4), 2  # the elements from 8 to 12
    parameter.ds_tensor.ds_numel, parameter.ds_status = 4, type("Status", (), {"name": "NOT_AVAILABLE"})
    fill_parameter(parameter, Source((4, 2, 3), tuple(experts)))
    assert parameter.ds_tensor.tolist() == [2.0, 3.0, 4.0, 5.0]


def test_a_parameter_that_is_whole_meanwhile_gets_all_values() -> None:
    parameter: Any = torch.nn.Parameter(torch.zeros(2, 2))
    parameter.ds_tensor, parameter.ds_zero_partition_rank = torch.zeros(2), 1
    parameter.ds_tensor.ds_numel, parameter.ds_status = 2, type("Status", (), {"name": "AVAILABLE"})
    fill_parameter(parameter, Source((2, 2), (in_memory(torch.tensor([[1.0, 2.0], [3.0, 4.0]])),)))
    assert parameter.ds_tensor.tolist() == [3.0, 4.0]
    assert parameter.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_rank_holds_its_part_and_a_few_tensors(tmp_path: Path) -> None:
    """Of files of another dtype; the mapped file is memory to the profiler, and none of it is the rank's."""
    folder = write_weights(tmp_path, "mixtral", num_local_experts=8, hidden_size=128, intermediate_size=512)
    largest_bytes = 2 * 8 * 2 * 512 * 128  # gate and up of all experts of a layer
    part_bytes = 2 * whole_model(folder).num_parameters() / 3
    with rank_under_zero_3(1), streamed_partitions():
        most_bytes = allocated_bytes(lambda: whole_model(folder)) - (folder / FILE).stat().st_size
    assert part_bytes < most_bytes < part_bytes + largest_bytes


def test_nothing_stays_replaced(tmp_path: Path) -> None:
    from deepspeed.runtime.zero.partition_parameters import Init, dist

    def now() -> list[object]:
        utils: Any = modeling_utils
        own = [utils.load_state_dict, utils._load_state_dict_into_zero3_model, utils._tied_params_are_equal]
        return [*own, Init._zero_init_param, dist.broadcast]

    before = now()
    with rank_under_zero_3(0), pytest.raises(ValueError, match="Unrecognized model"), streamed_partitions():
        whole_model(tmp_path)
    assert now() == before


def test_each_weight_is_heard_of_with_zero_3_and_without(tmp_path: Path) -> None:
    folder = write_weights(tmp_path)
    count = len(load_file(folder / FILE))
    heard: list[tuple[int, int]] = []
    with weights_heard(lambda *told: heard.append(told)):
        load_model(str(folder), dtype=torch.bfloat16, trust_remote_code=False, device=torch.device("cpu"))
        with rank_under_zero_3(0), streamed_partitions():
            whole_model(folder)
    assert heard == [(number, count) for number in range(count)] * 2


def test_below_zero_3_weights_go_to_the_device_at_once(tmp_path: Path) -> None:
    folder = write_weights(tmp_path)
    loaded = load_model(str(folder), dtype=torch.bfloat16, trust_remote_code=False, device=torch.device("meta"))
    assert {parameter.device.type for parameter in loaded.parameters()} == {"meta"}


# --- What cannot be streamed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zero", "why"),
    [
        ({}, None),
        ({"offload_param": {"device": "cpu"}}, None),
        ({"offload_param": {"device": "nvme", "nvme_path": "/nvme"}}, "kept on NVMe"),
        ({"zero_hpz_partition_size": 2}, "a copy of the partitions"),
        ({"mics_shard_size": 2}, "a copy of the partitions"),
        ({"zero_quantized_nontrainable_weights": True}, "quantised"),
    ],
)
def test_partitions_that_are_no_plain_ones(zero: dict[str, Any], why: str | None, tmp_path: Path) -> None:
    folder = str(write_weights(tmp_path))
    with rank_under_zero_3(0, **zero):
        told = why_not_streamed(folder, trust_remote_code=False)
    assert (why is None) == (told is None)
    assert (why or "") in (told or "")
    assert not is_deepspeed_zero3_enabled()
    assert why_not_streamed(folder, trust_remote_code=False) is None


def test_versions_that_load_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(write_weights(tmp_path))
    with rank_under_zero_3(0):
        with monkeypatch.context() as patch:
            patch.delattr(modeling_utils, "_load_state_dict_into_zero3_model")
            assert "load otherwise" in str(why_not_streamed(folder, trust_remote_code=False))
        with monkeypatch.context() as patch:
            patch.setattr(modeling_utils, "load_state_dict", lambda file: {})
            assert "load otherwise" in str(why_not_streamed(folder, trust_remote_code=False))
        assert why_not_streamed(folder, trust_remote_code=False) is None


def test_quantised_weights_are_loaded_as_before(tmp_path: Path) -> None:
    folder = write_weights(tmp_path)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "quantization_config": {"quant_method": "mxfp4"}}))
    assert "quantised" in str(why_not_streamed(str(folder), trust_remote_code=False))


_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own_llama"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""
_OWN_LOADING = """
    @classmethod
    def from_pretrained(cls, *arguments, **options):
        return super().from_pretrained(*arguments, **options)
"""


@pytest.mark.parametrize("is_own", [True, False])
def test_code_that_loads_by_itself(is_own: bool, tmp_path: Path) -> None:
    folder = write_weights(tmp_path / ("own_loading" if is_own else "own_model"))
    (folder / "modeling_own.py").write_text(_CODE + (_OWN_LOADING if is_own else ""))
    values = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    (folder / "config.json").write_text(json.dumps({**values, "model_type": "own_llama", "auto_map": classes}))
    why = why_not_streamed(str(folder), trust_remote_code=True)
    assert why == ("its own code loads them" if is_own else None)
    assert why_not_streamed(str(folder), trust_remote_code=False) is None  # refused elsewhere, before any code runs
