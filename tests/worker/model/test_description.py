"""What a model's class says of it: on shapes of other families than Llama."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.pins import Pins
from autofit.domain.model import ModelFacts, Positions
from autofit.domain.request import Lora
from autofit.inputs.model_config import described_shape
from autofit.planning.data.positions import check_positions
from autofit.worker.model.description import describe
from autofit.worker.model.positions import positions_of
from tests.builders import make_request
from tests.worker.model.small_models import small_config, small_model, write


def facts_of(folder: Path, model_type: str, **asked: Any) -> ModelFacts:
    return describe(make_request(write(folder, small_config(model_type)), **{"lora": Lora(r=2), **asked}))


def lacks(facts: ModelFacts, knob: str) -> dict[str, str]:
    return {one.word: one.why for one in facts.lacking if one.knob == knob}


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "mamba2", "bamba", "deepseek_v3", "opt", "mpt", "gemma2"])
def test_parameters_are_counted_as_the_class_builds_them(tmp_path: Path, model_type: str) -> None:
    facts = facts_of(tmp_path, model_type)
    real = AutoModelForCausalLM.from_config(small_config(model_type))
    assert facts.parameter_count == sum(parameter.numel() for parameter in real.parameters())
    assert described_shape("small", facts).layer_count == 2
    trained = sum(group.element_count * group.tensor_count for group in facts.adapted if group.is_trained)
    frozen = sum(group.element_count * group.tensor_count for group in facts.adapted if not group.is_trained)
    assert (frozen, trained > 0) == (facts.parameter_count, True)


def test_sizes_that_a_class_fills_in_are_read(tmp_path: Path) -> None:
    """As Gemma-3 is published: its config.json leaves most of its text model to the class."""
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "gemma3_text", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 64})
    )
    shape = described_shape("small", describe(make_request(tmp_path)))
    assert (shape.head_count, shape.key_value_head_count, shape.head_size) == (8, 4, 256)


def test_the_kernels_that_a_class_has(tmp_path: Path) -> None:
    kernels = {
        name: set(lacks(facts_of(tmp_path / name, name), "attention")) for name in ("llama", "gemma2", "bloom", "gpt2")
    }
    assert kernels == {
        "llama": set(),
        "gemma2": {"sdpa"},
        "bloom": {"flash_attention_2", "sdpa", "flex_attention"},
        "gpt2": {"flex_attention"},
    }


def test_heads_that_flash_attention_does_not_take(tmp_path: Path) -> None:
    config = small_config("llama", head_dim=512)
    facts = describe(make_request(write(tmp_path, config)))
    assert "heads of at most 256, LlamaForCausalLM has 512" in lacks(facts, "attention")["flash_attention_2"]


def test_a_class_that_takes_another_flash_kernel(tmp_path: Path) -> None:
    config = small_config("gpt_oss", num_local_experts=4, head_dim=8)
    said = lacks(describe(make_request(write(tmp_path, config))), "attention")
    assert "does not support FlashAttention-2: its flash attention is" in said["flash_attention_2"]
    assert "sdpa" in said


@pytest.mark.parametrize(
    ("model_type", "positions"),
    [
        ("llama", Positions.ROTARY),
        ("gpt2", Positions.TABLE),
        ("opt", Positions.TABLE),
        ("bloom", Positions.OTHER),
        ("mamba2", Positions.OTHER),
        ("xglm", Positions.OTHER),  # its table grows by itself
    ],
)
def test_how_positions_are_told(model_type: str, positions: Positions) -> None:
    assert positions_of(small_model(model_type)) is positions


@pytest.mark.parametrize(
    ("model_type", "packages"), [("llama", ()), ("bamba", ("causal-conv1d", "mamba-ssm")), ("gpt2", ())]
)
def test_the_packages_whose_kernels_a_model_calls(tmp_path: Path, model_type: str, packages: tuple[str, ...]) -> None:
    assert facts_of(tmp_path, model_type).kernel_packages == packages


def test_rows_beyond_a_table_are_refused_by_what_the_class_says(tmp_path: Path) -> None:
    """GPT-2 with 64 positions, and rows of 128 tokens: an index beyond the table, otherwise, in the first step."""
    facts = describe(make_request(write(tmp_path, small_config("gpt2", n_positions=64))))
    shape = described_shape("short", facts)
    assert check_positions(64, shape, facts.positions, DeviceKind.CPU) == ()
    with pytest.raises(UsageError, match="--seq 128 is beyond the 64 positions of short"):
        check_positions(128, shape, facts.positions, DeviceKind.CPU)


def test_a_module_that_the_user_named_and_that_is_not_there(tmp_path: Path) -> None:
    named = Lora(target_modules=("q_proj",))
    with pytest.raises(UsageError, match="--lora-target-modules q_proj: no module is named q_proj; there are c_attn"):
        facts_of(tmp_path, "gpt2", lora=named)
    facts = facts_of(tmp_path, "gpt2", lora=named, pins=Pins(method=Method.FULL))
    assert "no module is named q_proj" in lacks(facts, "method")["lora"]


def test_a_model_of_no_known_type(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama9", "hidden_size": 32}))
    with pytest.raises(UsageError, match=r"of the type llama9, which transformers .* does not know: install a newer"):
        describe(make_request(tmp_path))


@pytest.mark.parametrize(("model_type", "said"), [("t5", "is an encoder-decoder"), ("clip", "is a clip, which AutoM")])
def test_what_predicts_no_next_token(tmp_path: Path, model_type: str, said: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(UsageError, match=said):
        describe(make_request(tmp_path))


def test_weights_stored_in_mxfp4_are_described_as_plain_ones(tmp_path: Path) -> None:
    folder = Path(write(tmp_path, small_config("gpt_oss", num_local_experts=4, head_dim=8)))
    plain = describe(make_request(folder)).parameter_count
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "mxfp4"}}))
    assert describe(make_request(folder)).parameter_count == plain


# --- What a quantised base keeps in fewer bits ------------------------------------------------------------------------


def linear_shapes(facts: ModelFacts) -> dict[tuple[int, int], int]:
    """How many weights there are of so many elements and rows that can be quantised."""
    marked = [group for group in facts.adapted if group.linear_rows]
    assert not any(group.is_trained for group in marked)
    return {(group.element_count, group.linear_rows): group.tensor_count for group in marked}


@pytest.mark.parametrize(
    ("model_type", "shapes"),
    [
        ("llama", {(32 * 32, 32): 4, (32 * 16, 16): 4, (32 * 48, 48): 4, (32 * 48, 32): 2}),
        ("gpt2", {(32 * 96, 96): 2, (32 * 32, 32): 2, (32 * 128, 128): 2, (128 * 32, 32): 2}),  # transposed
        ("gemma2", {(32 * 1024, 1024): 2, (32 * 512, 512): 4, (1024 * 32, 32): 2, (32 * 48, 48): 4, (48 * 32, 32): 2}),
    ],
)
def test_every_linear_layer_but_the_head_can_be_quantised(
    tmp_path: Path, model_type: str, shapes: dict[tuple[int, int], int]
) -> None:
    """Of a model whose head is tied to its embeddings as well."""
    assert linear_shapes(facts_of(tmp_path, model_type)) == shapes


@pytest.mark.parametrize(("model_type", "layer_weights"), [("llama", 0), ("falcon", 4)])
def test_weights_of_which_a_class_keeps_views_are_told(tmp_path: Path, model_type: str, layer_weights: int) -> None:
    """All linear layers of Falcon's decoder have a product of their own, and its head has not."""
    groups = facts_of(tmp_path, model_type).parameters
    viewed = sum(group.tensor_count for group in groups if group.is_viewed)
    assert viewed == layer_weights * 2


def test_what_a_stored_model_leaves_out_is_as_it_says(tmp_path: Path) -> None:
    folder = Path(write(tmp_path, small_config("llama")))
    config = json.loads((folder / "config.json").read_text())
    stored = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": False}
    quantization = {**stored, "llm_int8_skip_modules": ["lm_head", "gate_proj"]}
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}))
    facts = describe(make_request(folder, lora=Lora(r=2)))
    assert linear_shapes(facts) == {(32 * 32, 32): 4, (32 * 16, 16): 4, (32 * 48, 48): 2, (32 * 48, 32): 2}
    assert facts.has_wide_scales
    assert not facts_of(tmp_path / "plain", "llama").has_wide_scales


@pytest.mark.parametrize(
    ("model_type", "why"),
    [
        ("mamba2", "state space"),
        ("bamba", "state space"),
        ("mixtral", "of the weights between MixtralForCausalLM's embeddings and its head"),
        ("falcon", "FalconForCausalLM has no linear layer that can be quantised"),
    ],
)
def test_what_cannot_be_quantised_says_why(tmp_path: Path, model_type: str, why: str) -> None:
    told = lacks(facts_of(tmp_path, model_type), "quantization")
    assert set(told) == {"nf4", "int8"}
    assert all(why in one for one in told.values())


# --- Code that lies beside the weights --------------------------------------------------------------------------------

_CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path(__file__).with_name("has_run").touch()
Path({mark!r}).touch()

class OwnConfig(LlamaConfig):
    model_type = "own_llama"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose class lies beside it; `has_run` appears next to its folder once the code was run."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "modeling_own.py").write_text(_CODE.format(mark=str(tmp_path / "has_run")))
    values = small_config("llama").to_dict()
    classes = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    (folder / "config.json").write_text(json.dumps({**values, "model_type": "own_llama", "auto_map": classes}))
    return folder


def test_code_of_its_own_is_refused_before_any_of_it_runs(own_model: Path) -> None:
    with pytest.raises(UsageError, match=r"none of it has run: .* --trust-remote-code"):
        describe(make_request(own_model))
    assert not (own_model.parent / "has_run").exists()


def test_code_of_its_own_runs_where_it_is_trusted(own_model: Path) -> None:
    facts = describe(make_request(own_model, trust_remote_code=True, lora=Lora(target_modules=("all-linear",))))
    assert (own_model.parent / "has_run").exists()
    llama = AutoModelForCausalLM.from_config(small_config("llama"), dtype=torch.bfloat16)
    assert facts.parameter_count == sum(parameter.numel() for parameter in llama.parameters())
    assert "down_proj" in facts.lora_targets
