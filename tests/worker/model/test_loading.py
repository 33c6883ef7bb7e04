"""Models that are stored otherwise than they are trained."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.integrations import HfDeepSpeedConfig, is_deepspeed_zero3_enabled

from autofit.domain.knobs.attention import Attention
from autofit.worker.model.loading import build_model, build_without_memory, load_model
from tests.worker.model.small_models import seeing_model, small_config

_ONE = 127  # the exponent of a scale of 1
_HALF = 0x11  # two numbers of 0.5 in a byte (E2M1)


def test_weights_in_mxfp4_are_loaded_plain_and_saved_so(tmp_path: Path) -> None:
    config = small_config("gpt_oss", num_local_experts=2, head_dim=8, intermediate_size=32)
    model = build_model(config, dtype=torch.bfloat16, attention=Attention.EAGER)
    model.save_pretrained(tmp_path / "stored")
    _quantise(tmp_path / "stored")

    loaded = load_model(str(tmp_path / "stored"), dtype=torch.bfloat16, trust_remote_code=False)
    experts = loaded.model.layers[0].mlp.experts
    assert torch.all(experts.gate_up_proj == 0.5)
    loaded.save_pretrained(tmp_path / "saved")
    again = load_model(str(tmp_path / "saved"), dtype=torch.bfloat16, trust_remote_code=False)
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name


def test_what_sees_takes_the_attention_that_every_class_has() -> None:
    """Gemma-4's audio tower has no other one, and its text must not go without sdpa for that."""
    model = seeing_model(Attention.SDPA)
    kernels = {type(part).__name__: part.config._attn_implementation for part in model.modules() if _is_part(part)}
    assert (kernels["Gemma3TextModel"], kernels["SiglipVisionModel"]) == ("sdpa", "eager")


def test_a_rank_under_zero_3_builds_without_memory_as_well() -> None:
    """Where transformers finds a configuration of stage 3, it makes every layer real, on the meta device too."""
    known = HfDeepSpeedConfig({"zero_optimization": {"stage": 3}})
    assert all(parameter.is_meta for parameter in build_without_memory(small_config("llama")).parameters())
    assert is_deepspeed_zero3_enabled()
    del known
    assert not is_deepspeed_zero3_enabled()


def _is_part(module: torch.nn.Module) -> bool:
    return isinstance(module, PreTrainedModel)


def _quantise(folder: Path) -> None:
    """Writes the experts' weights as openai/gpt-oss-20b has them: blocks of 32 numbers of four bits, with a scale."""
    stored: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            count, inputs, outputs = tensor.shape
            shape = (count, outputs, inputs // 32)
            stored[f"{name}_blocks"] = torch.full((*shape, 16), _HALF, dtype=torch.uint8)
            stored[f"{name}_scales"] = torch.full(shape, _ONE, dtype=torch.uint8)
        else:
            stored[name] = tensor
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    kept = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    quantization = {"quant_method": "mxfp4", "modules_to_not_convert": kept}
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": quantization}))
