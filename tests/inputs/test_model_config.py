import json

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.model import ModelFacts, ParameterGroup, Positions
from autofit.inputs.found_model import describe
from autofit.inputs.model_config import check_kind, described_shape, read_shape, stored_quantization
from autofit.inputs.packed_weights import Layout, Packing, packing
from tests.hardware.model_folder import TINY_LLAMA

LLAMA_2_7B = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000,
    "max_position_embeddings": 4096, "tie_word_embeddings": False,
}  # fmt: skip
LLAMA_2_13B = {
    **LLAMA_2_7B, "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
    "num_attention_heads": 40, "num_key_value_heads": 40,
}  # fmt: skip
GPT_2 = {
    "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12,
    "n_positions": 1024, "n_ctx": 1024, "vocab_size": 50257, "n_inner": None,
}  # fmt: skip
PYTHIA_160M = {
    "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "hidden_size": 768, "intermediate_size": 3072,
    "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 50304, "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
}  # fmt: skip
OPT_125M = {
    "architectures": ["OPTForCausalLM"], "model_type": "opt", "hidden_size": 768, "ffn_dim": 3072,
    "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 50272, "max_position_embeddings": 2048,
}  # fmt: skip
FALCON_7B = {
    "architectures": ["FalconForCausalLM"], "model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32,
    "num_attention_heads": 71, "num_kv_heads": 71, "multi_query": True, "new_decoder_architecture": False,
    "vocab_size": 65024,
}  # fmt: skip
FALCON_40B = {
    **FALCON_7B, "hidden_size": 8192, "num_hidden_layers": 60, "num_attention_heads": 128, "num_kv_heads": 8,
    "new_decoder_architecture": True,
}  # fmt: skip
GEMMA_2B = {
    "architectures": ["GemmaForCausalLM"], "model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384,
    "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256,
    "vocab_size": 256000, "max_position_embeddings": 8192,
}  # fmt: skip
QWEN2_05B = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864,
    "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
    "tie_word_embeddings": True,
}  # fmt: skip
MIXTRAL_8X7B = {
    "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000,
    "num_local_experts": 8, "num_experts_per_tok": 2, "tie_word_embeddings": False,
}  # fmt: skip
QWEN3_30B_A3B = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 2048,
    "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
    "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
    "vocab_size": 151936, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (LLAMA_2_7B, 6_738_415_616),
        (LLAMA_2_13B, 13_015_864_320),
        (GPT_2, 124_439_808),
        (PYTHIA_160M, 162_322_944),
        (OPT_125M, 125_239_296),
        (FALCON_7B, 6_921_720_704),
        (GEMMA_2B, 2_506_172_416),
        (QWEN2_05B, 494_032_768),
        (MIXTRAL_8X7B, 46_702_792_704),
        (QWEN3_30B_A3B, 30_532_122_624),
    ],
    ids=lambda value: value.get("architectures")[0] if isinstance(value, dict) else str(value),
)
def test_formula_against_published_counts(config, published):
    shape = read_shape("model", config, None)

    assert shape.parameter_count == pytest.approx(published, rel=0.002)
    assert not shape.is_counted_exactly


def test_formula_counts_routers():
    dense = read_shape("model", {**MIXTRAL_8X7B, "num_local_experts": 1, "num_experts_per_tok": 1}, None)
    sparse = read_shape("model", MIXTRAL_8X7B, None)

    seven_experts, router = 7 * 3 * 4096 * 14336, 8 * 4096
    assert sparse.parameter_count - dense.parameter_count == 32 * (seven_experts + router)


def test_a_count_from_headers_goes_before_the_formula():
    shape = read_shape("model", LLAMA_2_7B, 123)

    assert shape.parameter_count == 123
    assert shape.is_counted_exactly


def test_llama_fields():
    shape = read_shape("tiny", TINY_LLAMA, None)

    assert shape.name == "tiny"
    assert shape.model_type == "llama"
    assert (shape.layer_count, shape.hidden_size, shape.intermediate_size) == (2, 64, 176)
    assert (shape.head_count, shape.key_value_head_count, shape.head_size) == (4, 2, 16)
    assert (shape.vocabulary_size, shape.max_positions) == (100, 128)


def test_gpt2_spellings():
    shape = read_shape("gpt2", GPT_2, None)

    assert (shape.layer_count, shape.hidden_size, shape.head_count, shape.intermediate_size) == (12, 768, 12, 3072)
    assert (shape.key_value_head_count, shape.max_positions) == (12, 1024)


@pytest.mark.parametrize(("config", "heads"), [(FALCON_7B, 1), (FALCON_40B, 8), (GPT_2, 12), (GEMMA_2B, 1)])
def test_key_value_heads(config, heads):
    assert read_shape("model", config, None).key_value_head_count == heads


@pytest.mark.parametrize(("config", "width"), [(MIXTRAL_8X7B, 2 * 14336), (QWEN3_30B_A3B, 8 * 768)])
def test_a_token_meets_only_its_experts(config, width):
    assert read_shape("model", config, None).intermediate_size == width


def test_a_shared_expert_is_met_by_every_token():
    config = {**QWEN3_30B_A3B, "shared_expert_intermediate_size": 5632}

    assert read_shape("model", config, None).intermediate_size == 8 * 768 + 5632


def test_a_stated_head_size_goes_before_the_quotient():
    assert read_shape("model", GEMMA_2B, None).head_size == 256


def test_text_part_of_a_model_that_also_reads_images():
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "text_config": {**TINY_LLAMA, "model_type": "gemma3_text"},
        "vision_config": {"hidden_size": 1152},
    }

    shape = read_shape("gemma", config, None)

    assert (shape.model_type, shape.hidden_size, shape.layer_count) == ("gemma3", 64, 2)


@pytest.mark.parametrize("architecture", ["LlamaForTokenClassification", "BertForMaskedLM", "LlamaModel"])
def test_no_causal_language_model(architecture):
    with pytest.raises(UsageError, match=f"tiny is a {architecture}, not a causal language model"):
        check_kind("tiny", {**TINY_LLAMA, "architectures": [architecture]})


@pytest.mark.parametrize("architecture", ["GPT2LMHeadModel", "RwkvForCausalLM", "Gemma3ForConditionalGeneration"])
def test_a_causal_language_model_of_any_spelling(architecture):
    check_kind("tiny", {**TINY_LLAMA, "architectures": [architecture]})


def test_an_encoder_decoder():
    config = {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "is_encoder_decoder": True}

    with pytest.raises(UsageError, match="tiny is an encoder-decoder \\(t5\\): choose one"):
        check_kind("tiny", config)


@pytest.mark.parametrize(
    ("quantization", "method"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"bits": 4}, "unnamed"),
        ({"quant_method": "gptq", "bits": 3, "group_size": 128}, "gptq"),
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "checkpoint_format": "marlin"}, "gptq"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "is_marlin_format": True}, "gptq"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"-:.*": {}}}, "gptq"),
        ({"quant_method": "awq", "bits": 8, "group_size": 128}, "awq"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemv"}, "awq"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "backend": "llm-awq"}, "awq"),
    ],
)
def test_quantised_weights_are_refused_with_what_to_do(quantization, method):
    sentence = f"stored quantised \\({method}\\).*whatever is installed.*Name the model that it was made from"
    with pytest.raises(UsageError, match=sentence):
        check_kind("tiny", {**TINY_LLAMA, "quantization_config": quantization})


@pytest.mark.parametrize(
    ("quantization", "stored"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False}, Quantization.NF4),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, Quantization.INT8),
        ({"load_in_4bit": True}, Quantization.NF4),  # as it was written before the method was
        ({"quant_method": "mxfp4"}, None),
        (None, None),
    ],
)
def test_what_bitsandbytes_has_quantised_is_trained_on(quantization, stored):
    config = {**TINY_LLAMA, "quantization_config": quantization}
    check_kind("tiny", config)
    assert stored_quantization(config) is stored


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, Packing(Layout.GPTQ, 128)),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1, "format": "gptq"}, Packing(Layout.GPTQ, None)),
        (
            {"quant_method": "gptq", "bits": 2, "group_size": 64, "checkpoint_format": "gptq_v2"},
            Packing(Layout.GPTQ_V2, 64),
        ),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "GEMM"}, Packing(Layout.AWQ, 128)),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, Packing(Layout.AWQ, 128)),
        ({"quant_method": "mxfp4"}, None),
    ],
)
def test_what_gptq_and_awq_have_packed_is_read(quantization, expected):
    config = {**TINY_LLAMA, "quantization_config": quantization}
    check_kind("tiny", config)
    assert packing(config) == expected
    assert stored_quantization(config) is None
    notes = describe("tiny", config, None).notes
    assert [note for note in notes if "made plain while they are loaded" in note] == list(notes)
    assert len(notes) == (expected is not None)


@pytest.mark.parametrize(("model_type", "method"), [("gpt2", "gptq"), ("gpt2", "awq"), ("falcon", "awq")])
def test_families_that_are_packed_otherwise_are_refused(model_type, method):
    quantization = {"quant_method": method, "bits": 4, "group_size": 128}
    with pytest.raises(UsageError, match="cannot read"):
        check_kind("tiny", {**TINY_LLAMA, "model_type": model_type, "quantization_config": quantization})


def test_weights_that_transformers_makes_plain_while_it_loads_are_none_of_these():
    check_kind("tiny", {**TINY_LLAMA, "quantization_config": {"quant_method": "mxfp4"}})


@pytest.mark.parametrize("architectures", [None, []])
def test_an_architecture_that_is_not_stated_is_taken_on_trust(architectures):
    assert read_shape("tiny", {**TINY_LLAMA, "architectures": architectures}, None).layer_count == 2


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size"])
@pytest.mark.parametrize("value", [None, 0, "32", True])
def test_a_size_that_is_missing_or_no_number_is_left_to_the_models_class(key, value):
    assert read_shape("tiny", {**TINY_LLAMA, key: value}, None) is None


def test_what_has_no_attention_is_read_without_heads():
    config = {"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100, "state_size": 16}

    assert read_shape("tiny", config, None).head_count == 1


def test_the_class_of_the_model_counts_and_fills_in():
    facts = ModelFacts(json.dumps(TINY_LLAMA), (ParameterGroup(10, 3, True, 2),), Positions.ROTARY)

    shape = described_shape("tiny", facts)

    assert (shape.parameter_count, shape.is_counted_exactly, shape.layer_count) == (30, True, 2)
