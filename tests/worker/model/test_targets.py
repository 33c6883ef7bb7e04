"""The modules that LoRA adapts, by a request's words, on models that are no Llama."""

from __future__ import annotations

import pytest
from torch import nn

from autofit.domain.request import Lora
from autofit.worker.model.adapters import with_adapters
from autofit.worker.model.targets import lora_targets
from tests.worker.model.small_models import seeing_model, small_model


def targets(model_type: str, *words: str, exclude: tuple[str, ...] = ()) -> tuple[str, ...]:
    lora = Lora(target_modules=words or ("auto",), exclude_modules=exclude)
    return lora_targets(lora, small_model(model_type))


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("llama", ("q_proj", "v_proj")),
        ("gpt2", ("c_attn",)),
        ("gpt_neox", ("query_key_value",)),
        ("bloom", ("query_key_value",)),
        ("mpt", ("Wqkv",)),
        # whom PEFT's table does not know: every linear layer but the head
        ("phi3", ("down_proj", "gate_up_proj", "o_proj", "qkv_proj")),
        ("cohere", ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")),
        # a state space layer is adapted at its entrance alone
        ("mamba2", ("in_proj",)),
        ("bamba", ("down_proj", "gate_proj", "in_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")),
    ],
)
def test_what_a_family_is_adapted_at(model_type: str, expected: tuple[str, ...]) -> None:
    assert targets(model_type) == expected


EXEMPT = {
    "bamba": {"out_proj"},  # of a state space layer
    "deepseek_v3": {"gate_proj", "up_proj", "down_proj"},  # PEFT would take them for those of experts
}


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "deepseek_v3", "bamba", "opt"])
def test_all_linear_leaves_the_head_and_adapts_the_rest(model_type: str) -> None:
    model = small_model(model_type)
    adapted = with_adapters(model, Lora(r=2, target_modules=("all-linear",)))
    named = dict(adapted.named_modules())
    with_adapter = {name.removesuffix(".lora_A") for name in named if name.endswith(".lora_A")}
    linear = {name.removesuffix(".base_layer") for name, module in named.items() if isinstance(module, nn.Linear)}
    left = {name for name in linear - with_adapter if "lora_" not in name}
    assert with_adapter
    assert {name.rsplit(".", 1)[-1] for name in left} <= {"lm_head", *EXEMPT.get(model_type, set())}


def test_a_tower_that_sees_is_left_as_it_is() -> None:
    model = seeing_model()
    for words in (("auto",), ("all-linear",)):
        adapted = with_adapters(model, Lora(r=2, target_modules=words))
        trained = [name for name, one in adapted.named_parameters() if one.requires_grad]
        assert trained
        assert all(".language_model." in name for name in trained)
        model = adapted.unload()


def test_a_table_that_means_other_modules_is_not_taken() -> None:
    """PEFT's table knows Phi by names of an older class; a family whose modules are called otherwise gets all."""
    model = small_model("llama")
    model.config.model_type = "gpt2"
    assert lora_targets(Lora(), model) == (
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj",
    )  # fmt: skip


def test_lists_of_experts_are_adapted_only_where_they_are_asked_for() -> None:
    """As code beside weights has them: a list of small networks in each layer."""
    model = small_model("cohere")
    for layer in model.model.layers:
        layer.mlp.experts = nn.ModuleList(nn.Linear(32, 32, device="meta") for _ in range(3))
    own = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
    assert lora_targets(Lora(), model) == own
    assert set(lora_targets(Lora(target_modules=("all-linear",)), model)) > set(own)


def test_experts_are_adapted_where_they_are_named_as_before() -> None:
    """As PEFT reads them: an adapter for the experts' parameter."""
    model = small_model("mixtral", num_local_experts=4)
    lora = Lora(r=2, target_modules=("q_proj", "w1", "w2", "w3"))
    assert lora_targets(lora, model) == ("q_proj", "w1", "w2", "w3")
    trained = (name for name, one in with_adapters(model, lora).named_parameters() if one.requires_grad)
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in trained} == {"q_proj", "experts", "base_layer"}


def test_globs_and_exclusions() -> None:
    assert targets("llama", "*_proj", exclude=("mlp.*", "o_proj")) == ("k_proj", "q_proj", "v_proj")
    assert targets("llama", "all-linear", exclude=("*.self_attn.*",)) == ("down_proj", "gate_proj", "up_proj")
    assert targets("llama", "layers.1.self_attn.[qv]_proj") == ("1.self_attn.q_proj", "1.self_attn.v_proj")


def test_a_name_that_others_share_is_told_apart() -> None:
    assert targets("opt", "self_attn.out_proj", "fc1") == ("fc1", "out_proj")
    assert targets("llama", "model.layers.0.mlp.up_proj") == ("0.mlp.up_proj",)


@pytest.mark.parametrize(
    ("words", "exclude", "said"),
    [
        (("q_proj",), (), "no module is named q_proj; there are c_attn, c_fc, c_proj, lm_head, wpe, wte"),
        (("c_attn", "*_nothing"), (), r"no module is named \*_nothing"),
        (("c_attn",), ("c_nothing",), "no module is named c_nothing"),
        (("c_attn",), ("c_*",), "nothing is left of the modules c_attn"),
    ],
)
def test_words_that_no_module_matches(words: tuple[str, ...], exclude: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        targets("gpt2", *words, exclude=exclude)
