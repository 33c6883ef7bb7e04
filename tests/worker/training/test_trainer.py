"""What the trainer of probes and full runs leaves when it saves."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from autofit.domain.knobs.method import Method
from autofit.domain.outcome import Phase
from autofit.worker.training.trainer import PhasedTrainer
from tests.models.families import write_model
from tests.models.job import job_of, trainer_of

BESIDE = ["tokenizer.json", "tokenizer_config.json", "training_args.bin"]


def trainer(tmp_path: Path, method: Method = Method.FULL) -> PhasedTrainer:
    return trainer_of(job_of(write_model("gpt2", tmp_path / "base"), method=method), tmp_path)


def test_a_model_is_saved_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    phases: list[Phase] = []
    saving = trainer(tmp_path)
    saving.phase_hook = phases.append
    saving.save_beside = lambda folder: (folder / "beside").touch()
    saving.processing_class.chat_template = "{{ messages }}"
    saving.save_model(str(tmp_path / "saved"))
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "beside", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", *BESIDE,
    ]  # fmt: skip
    assert set(phases) == {Phase.SAVE}
    assert len(phases) == len(load_file(tmp_path / "saved" / "model.safetensors"))  # it is alive at each tensor


def test_an_adapter_is_saved_alone_and_names_the_model_that_the_user_named(tmp_path: Path) -> None:
    trainer(tmp_path, Method.LORA).save_model(str(tmp_path / "saved"))
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", *BESIDE,
    ]  # fmt: skip
    adapter = json.loads((tmp_path / "saved" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(tmp_path / "base")


def test_what_cannot_be_streamed_is_saved_by_transformers_and_that_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    saving = trainer(tmp_path)
    saving.tell = told.append
    saving.save_beside = lambda folder: (folder / "beside").touch()
    saving.model.register_buffer("odd", torch.ones(2, dtype=torch.complex64))
    saving.save_model(str(tmp_path / "saved"))
    assert told == [
        "saving takes memory for a copy of the model, which is not written in a stream: its state holds what a "
        "safetensors file does not"
    ]
    assert (tmp_path / "saved" / "beside").exists()
    assert load_file(tmp_path / "saved" / "model.safetensors")["odd"].dtype == torch.complex64


def test_a_tied_weight_is_saved_once_where_accelerate_has_copied_it(tmp_path: Path) -> None:
    saving = trainer(tmp_path)
    copies = {name: tensor.detach().clone() for name, tensor in saving.model.state_dict().items()}
    saving._save(str(tmp_path / "saved"), state_dict=copies)
    assert "lm_head.weight" not in load_file(tmp_path / "saved" / "model.safetensors")
    _, said = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert {key: list(names) for key, names in said.items() if names} == {}
