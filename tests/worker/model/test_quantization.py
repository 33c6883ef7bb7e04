"""Base weights in few bits: as `from_pretrained` makes them, whoever keeps them, and what their layers do."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, modeling_utils

from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.quantization import Quantization
from autofit.worker.model.divided_layers import divided
from autofit.worker.model.linear_layers import linear_layers
from autofit.worker.model.loading import build_without_memory, load_model, load_plain
from autofit.worker.model.quantization import bits_config, prepare_to_divide, quantized_layers, settle, stored_bits
from autofit.worker.model.random_weights import quantized_model
from tests.spread import with_matrix
from tests.worker.model.partitions import RANKS, rank_under_zero_3
from tests.worker.model.small_models import small_config, write_weights
from tests.worker.trace.real_step import allocated_bytes

pytest.importorskip("bitsandbytes")

CPU, BF16 = torch.device("cpu"), torch.bfloat16
BITS = [Quantization.NF4, Quantization.INT8]
Load = Callable[[], PreTrainedModel]


def loader(folder: Path, quantization: Quantization, **changed: Any) -> Load:
    bits = None if stored_bits(str(folder)) else bits_config(quantization, BF16)
    return partial(load_model, str(folder), dtype=BF16, trust_remote_code=False, device=CPU, bits=bits, **changed)


def scales(layer: Any) -> list[torch.Tensor]:
    """What stays of a layer on every rank."""
    if hasattr(layer, "state"):
        return [layer.weight.SCB if layer.state.SCB is None else layer.state.SCB]
    quant = layer.weight.quant_state
    return [quant.absmax, quant.code, *([] if quant.state2 is None else [quant.offset, quant.state2.absmax])]


# --- Loaded -----------------------------------------------------------------------------------------------------------


MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "gpt2": ("gpt2", {}),
    "mixtral": ("mixtral", {"num_local_experts": 4}),
}


@pytest.mark.parametrize(
    ("model_name", "quantization"),
    with_matrix(
        [("tied", Quantization.NF4), ("gpt2", Quantization.INT8), ("mixtral", Quantization.NF4)],
        [
            *((name, Quantization.INT8) for name in ("llama", "tied", "mixtral")),
            *((name, Quantization.NF4) for name in ("llama", "gpt2")),
        ],
    ),
)
def test_ranks_hold_what_from_pretrained_makes(model_name: str, quantization: Quantization, tmp_path: Path) -> None:
    """To the last bit, and without a word to each other; GPT-2's linear layers are turned."""
    model_type, changed = MODELS[model_name]
    folder = write_weights(tmp_path, model_type, **changed)
    bits = bits_config(quantization, BF16)
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=BF16, quantization_config=bits)
    parts: list[dict[str, tuple[torch.Size, torch.Tensor]]] = []
    for index in range(RANKS):
        with rank_under_zero_3(index) as called:
            model = divided(loader(folder, quantization))
            named = model.named_parameters(remove_duplicate=False)
            parts.append({name: (one.ds_shape, one.ds_tensor) for name, one in named})
        assert called == []
        for layer, expected in zip(quantized_layers(model), quantized_layers(whole), strict=True):
            assert all(map(torch.equal, scales(layer), scales(expected)))
    for name, parameter in whole.named_parameters(remove_duplicate=False):
        shape = parts[0][name][0]
        joined = torch.cat([part[name][1] for part in parts])[: shape.numel()].view(shape)
        assert torch.equal(joined, parameter), name
    assert sum(1 for _ in quantized_layers(whole)) == sum(1 for _ in linear_layers(build_without_memory(whole.config)))


@pytest.mark.parametrize("quantization", BITS)
def test_a_rank_never_holds_the_model(quantization: Quantization, tmp_path: Path) -> None:
    """A 16-bit file of 18 MB: its part, whole scales, and what one tensor takes to be quantised on a CPU. The mapped
    file is memory to the profiler, and none of it is the rank's."""
    folder = write_bf16(tmp_path, hidden_size=256, intermediate_size=2048, num_hidden_layers=5)
    file_bytes = (folder / "model.safetensors").stat().st_size
    assert file_bytes > 17e6
    load, packed_bytes = loader(folder, quantization), file_bytes / (4 if quantization is Quantization.NF4 else 2)
    largest_bytes = 2 * 256 * 2048
    with rank_under_zero_3(1):
        kept: list[PreTrainedModel] = []
        peak_bytes = allocated_bytes(lambda: kept.append(divided(load))) - file_bytes
        part_bytes = sum(one.ds_tensor.nbytes for one in kept[0].parameters())
    assert part_bytes == pytest.approx(packed_bytes / RANKS, rel=0.05)
    assert part_bytes < peak_bytes < part_bytes + 0.1 * packed_bytes + 8 * largest_bytes


def test_nothing_is_reserved_for_a_model_that_is_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU transformers has the allocator reserve what all of it takes before it loads."""
    asked: list[object] = []
    monkeypatch.setattr(modeling_utils, "caching_allocator_warmup", lambda *told: asked.append(told))
    load = loader(write_weights(tmp_path), Quantization.NF4)
    load()
    assert len(asked) == 1
    with rank_under_zero_3(0):
        divided(load)
    assert len(asked) == 1


def write_bf16(folder: Path, **changed: Any) -> Path:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(small_config("llama", **changed), dtype=BF16).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("quantization", BITS)
@pytest.mark.parametrize("zero_stage", [2, 3])
def test_random_weights_are_kept_like_those_of_a_file(
    quantization: Quantization, zero_stage: int, tmp_path: Path
) -> None:
    folder = write_weights(tmp_path, tie_word_embeddings=True)
    make = partial(
        quantized_model,
        small_config("llama", tie_word_embeddings=True),
        bits_config(quantization, BF16),
        dtype=BF16,
        attention=Attention.SDPA,
        device=CPU,
    )
    if zero_stage == 2:
        assert outlined(make()) == outlined(loader(folder, quantization)())
        return
    with rank_under_zero_3(1):
        assert outlined(divided(make)) == outlined(divided(loader(folder, quantization)))


def outlined(model: PreTrainedModel) -> list[object]:
    tensors = itertools.chain(model.named_parameters(), model.named_buffers())
    kept = [[(one.shape, one.dtype) for one in scales(layer)] for layer in quantized_layers(model)]
    parts = ((name, one, getattr(one, "ds_tensor", one)) for name, one in tensors)
    return [*((name, type(one), part.shape, part.dtype) for name, one, part in parts), *kept]


# --- Stored quantised -------------------------------------------------------------------------------------------------


def store(folder: Path, quantization: Quantization, storage: torch.dtype = torch.uint8) -> Path:
    """A small model as bitsandbytes' users publish one."""
    bits = bits_config(quantization, torch.float16)
    assert bits is not None
    bits.bnb_4bit_quant_storage = storage
    plain = write_weights(folder / "plain")
    AutoModelForCausalLM.from_pretrained(plain, dtype=BF16, quantization_config=bits).save_pretrained(folder / "stored")
    return folder / "stored"


@pytest.mark.parametrize(
    ("quantization", "storage"),
    [(Quantization.NF4, torch.uint8), (Quantization.NF4, BF16), (Quantization.INT8, torch.uint8)],
)
def test_what_is_stored_quantised_is_taken_as_it_is(
    quantization: Quantization, storage: torch.dtype, tmp_path: Path
) -> None:
    """Packed weights that are stored as floating-point numbers would be cast by an engine in another dtype."""
    folder = store(tmp_path, quantization, storage)
    fresh = loader(tmp_path / "plain", quantization)()
    loaded = loader(folder, quantization)()
    settle(loaded, torch.float32)
    for layer, expected in zip(quantized_layers(loaded), quantized_layers(fresh), strict=True):
        assert torch.equal(layer.weight, expected.weight)
        assert layer.compute_dtype is torch.float32
        assert all(map(torch.equal, scales(layer), scales(expected)))
    with rank_under_zero_3(0):
        parts = divided(loader(folder, quantization))
        assert not any(layer.weight.is_floating_point() for layer in quantized_layers(parts))
        assert all(hasattr(one, "ds_tensor") for one in parts.parameters())


@pytest.mark.parametrize("quantization", BITS)
def test_what_is_stored_quantised_is_merged_into_as_plain_weights(quantization: Quantization, tmp_path: Path) -> None:
    folder = store(tmp_path, quantization)
    plain = load_plain(str(folder), dtype=BF16, trust_remote_code=False)
    ids = torch.arange(12).view(1, 12)
    quantized = loader(folder, quantization)()
    settle(quantized, BF16)
    with torch.no_grad():
        expected = quantized.train()(ids).logits  # trained, so that 8-bit products round no inputs
        torch.testing.assert_close(plain(ids).logits, expected, rtol=2e-2, atol=2e-2)
    plain.save_pretrained(tmp_path / "saved")
    again = load_model(str(tmp_path / "saved"), dtype=BF16, trust_remote_code=False)
    assert not any(True for _ in quantized_layers(again))
    assert all(torch.equal(one, other) for one, other in zip(plain.parameters(), again.parameters(), strict=True))


# --- Computed with ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    product: torch.Tensor
    gradient: torch.Tensor


def layer_of(quantization: Quantization, tmp_path: Path) -> Any:
    model = loader(write_weights(tmp_path), quantization)()
    layer: Any = model.model.layers[0].mlp.down_proj
    layer.owner = (model,)  # in a tuple: no module of its own
    return layer.train()


def stepped(layer: Any, between: Callable[[], None] = lambda: None) -> Step:
    torch.manual_seed(1)
    inputs = torch.randn(2, 6, layer.in_features, dtype=BF16, requires_grad=True)
    product = layer(inputs)
    between()
    product.backward(torch.randn_like(product))
    assert inputs.grad is not None
    return Step(product.detach(), inputs.grad)


@pytest.mark.parametrize("quantization", BITS)
def test_a_product_takes_its_weight_where_it_lies_in_the_backward_pass(
    quantization: Quantization, tmp_path: Path
) -> None:
    """ZeRO-3 frees what it has gathered after the forward pass, and gathers it again."""
    layer = layer_of(quantization, tmp_path)
    usual = stepped(layer)
    settle(layer.owner[0], BF16)
    prepare_to_divide(layer)

    def gather_elsewhere() -> None:
        gathered = layer.weight.data
        layer.weight.data = gathered.clone()
        gathered.zero_()

    late = stepped(layer, gather_elsewhere)
    assert torch.equal(late.product, usual.product)
    assert torch.equal(late.gradient, usual.gradient)


@pytest.mark.parametrize("quantization", BITS)
def test_evaluation_leaves_a_layer_as_it_is(quantization: Quantization, tmp_path: Path) -> None:
    """Where a CPU computes bf16 by itself, bitsandbytes repacks a weight for that, and trains it no more."""
    layer = layer_of(quantization, tmp_path)
    layer.support_avx512bf16_for_cpu = True
    settle(layer.owner[0], BF16)
    before, packed = stepped(layer), layer.weight.data.clone()
    with torch.no_grad():
        layer.eval()(torch.randn(2, 6, layer.in_features, dtype=BF16))
    assert torch.equal(layer.weight.data, packed)
    assert torch.equal(stepped(layer.train()).gradient, before.gradient)
