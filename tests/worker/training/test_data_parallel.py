"""A trainer without an engine: how its model is wrapped and kept, what it saves, and what it reads again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.quantization import Quantization
from autofit.worker.training.data_parallel import ddp_options
from autofit.worker.training.job_model import saved_dtype
from autofit.worker.training.trainer import PhasedTrainer
from tests.models.families import tiny_config, write_model
from tests.models.job import job_of, trainer_of


def trainer(
    folder: Path,
    model_type: str = "gpt2",
    method: Method = Method.FULL,
    quantization: Quantization = Quantization.NONE,
) -> PhasedTrainer:
    model = write_model(model_type, folder / "base")
    job = job_of(model, method=method, zero_stage=0, dtype=Dtype.BF16, quantization=quantization)
    made = trainer_of(job, folder)
    made.saved_dtype = saved_dtype(job)
    return made


def dtypes(path: Path) -> set[torch.dtype]:
    return {tensor.dtype for tensor in load_file(path).values() if tensor.is_floating_point()}


def test_one_device_is_wrapped_in_nothing_and_trains_fp32_weights_in_the_rungs_dtype(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although its launcher gives it a local rank, for which accelerate wraps it."""
    for name, value in (("LOCAL_RANK", "0"), ("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "127.0.0.1")):
        monkeypatch.setenv(name, value)
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        alone = trainer(tmp_path)
        alone.train()
    finally:
        torch.distributed.destroy_process_group()
    assert not isinstance(alone.model_wrapped, DistributedDataParallel)
    assert alone.model_wrapped is alone.model
    assert {parameter.dtype for parameter in alone.model.parameters()} == {torch.float32}
    seen = [state["exp_avg"].dtype for state in alone.optimizer.state.values()]
    assert set(seen) == {torch.float32}
    assert alone.accelerator.mixed_precision == "bf16"


@pytest.mark.parametrize("quantization", [Quantization.NONE, Quantization.NF4])
def test_adapters_alone_are_fp32(quantization: Quantization, tmp_path: Path) -> None:
    """Those of a quantised model as well, which trl makes bf16."""
    model = trainer(tmp_path, "llama", Method.LORA, quantization).model
    trained = {parameter.dtype for parameter in model.parameters() if parameter.requires_grad}
    frozen = {parameter.dtype for parameter in model.parameters() if not parameter.requires_grad}
    assert trained == {torch.float32}
    assert frozen == {torch.bfloat16} | ({torch.uint8} if quantization is Quantization.NF4 else set())


def test_a_model_is_saved_in_the_rungs_dtype_and_a_checkpoint_as_it_trains(tmp_path: Path) -> None:
    saving = trainer(tmp_path, "gemma3")
    for name, dtype in (("model", torch.bfloat16), ("checkpoint-3", torch.float32)):
        saving.save_model(str(tmp_path / name))
        assert dtypes(tmp_path / name / "model.safetensors") == {dtype}
        config = json.loads((tmp_path / name / "config.json").read_text())
        parts = [config, *(part for part in config.values() if isinstance(part, dict) and "dtype" in part)]
        assert {part["dtype"] for part in parts} == {str(dtype).removeprefix("torch.")}
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / name)  # as the config has it
        own = saving.model.state_dict()
        assert all(torch.equal(tensor, own[key].to(tensor.dtype)) for key, tensor in loaded.state_dict().items())
        assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}


def test_an_adapter_is_saved_in_the_rungs_dtype_and_a_checkpoints_as_it_trains(tmp_path: Path) -> None:
    saving = trainer(tmp_path, "llama", Method.LORA)
    for name, dtype in (("model", torch.bfloat16), ("checkpoint-3", torch.float32)):
        saving.save_model(str(tmp_path / name))
        assert dtypes(tmp_path / name / "adapter_model.safetensors") == {dtype}


@pytest.mark.parametrize("is_best", [False, True])
def test_experts_that_are_one_tensor_go_on_from_a_checkpoint(is_best: bool, tmp_path: Path) -> None:
    """transformers' own way loads by names, and the files have them one by one."""
    going_on = trainer(tmp_path, "mixtral")
    going_on.save_model(str(tmp_path / "checkpoint-3"))
    saved = {name: tensor.clone() for name, tensor in going_on.model.state_dict().items()}
    with torch.no_grad():
        for parameter in going_on.model.parameters():
            parameter.add_(1.0)
    if is_best:
        going_on.state.best_model_checkpoint = str(tmp_path / "checkpoint-3")
        going_on._load_best_model()
    else:
        going_on._load_from_checkpoint(str(tmp_path / "checkpoint-3"))
    assert all(torch.equal(tensor, saved[name]) for name, tensor in going_on.model.state_dict().items())


def test_only_a_tower_that_text_does_not_run_through_has_unused_parameters() -> None:
    found = {name: ddp_options(tiny_config(name)).find_unused_parameters for name in ("llama", "mixtral", "gemma3")}
    assert found == {"llama": False, "mixtral": False, "gemma3": True}
