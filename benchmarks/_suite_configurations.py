"""What the GPU suite tries: models that are only a config, and configurations in the order of what they teach."""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.request import Request
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.workload import DataProfile

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TOKENIZER = EXAMPLES / "tiny-llama"
GB = 10**9
SMALL, MEDIUM, LARGE = "0.2B", "1.1B", "7B"

_WORDS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
SHAPES = {
    # TinyLlama's and Llama-2-7B's shapes, and a smaller one.
    DeviceKind.CUDA: {
        SMALL: (1024, 2816, 12, 16, 16), MEDIUM: (2048, 5632, 22, 32, 4), LARGE: (4096, 11008, 32, 32, 32),
    },
    DeviceKind.CPU: {SMALL: (64, 192, 2, 4, 4), MEDIUM: (128, 320, 3, 8, 2), LARGE: (256, 640, 4, 8, 8)},
}  # fmt: skip
VOCABULARY = {DeviceKind.CUDA: 32_000, DeviceKind.CPU: 2048}

# On a CPU everything is tried at a toy's size: a token stands for 32, and half a gigabyte is the runtime alone.
_CPU_TOKENS_DIVISOR = 32
_CPU_LIMITS = {16: 600_000_000, 24: 800_000_000, 40: GB, 80: 2 * GB}


@dataclass(frozen=True)
class Configuration:
    """One probe, or with `rank_count` above 1 a rehearsal of rank 0; `limit_bytes` is what the card may hold."""

    model: str
    tokens: int
    micro_batch: int
    limit_bytes: int
    rank_count: int = 1
    zero_stage: int = 1
    method: Method = Method.FULL
    gradient_checkpointing: GradientCheckpointing = GradientCheckpointing.OFF
    attention: Attention = Attention.SDPA
    offload: Offload = Offload.NONE
    accumulation: int = 1
    is_padded: bool = False
    dtype: Dtype = Dtype.BF16

    def __str__(self) -> str:
        rows = " padded" if self.is_padded else ""
        steps = f" acc{self.accumulation}" if self.accumulation > 1 else ""
        limit = f"{self.limit_bytes / GB:g} GB"
        return f"{self.model} {self.strategy}{steps} W{self.rank_count} s{self.tokens}{rows} in {limit}"

    @property
    def is_rehearsal(self) -> bool:
        return self.rank_count > 1

    @property
    def strategy(self) -> Strategy:
        rung = Rung(
            method=self.method, zero_stage=self.zero_stage, offload=self.offload,
            gradient_checkpointing=self.gradient_checkpointing,
            attention=self.attention, dtype=self.dtype
        )  # fmt: skip
        return Strategy(rung, self.micro_batch, self.accumulation)

    @property
    def has_save(self) -> bool:
        """A large model would be gathered and written for longer than all its steps take."""
        return self.method is Method.LORA or self.model != LARGE

    @property
    def profile(self) -> DataProfile:
        lengths = (self.tokens // 2, self.tokens * 3 // 4, self.tokens) if self.is_padded else (self.tokens,)
        return DataProfile("the suite", "text", 1000, 0, self.tokens, lengths)

    def request(self, model: str) -> Request:
        """`model` is its folder, or only its name where nothing is to be read."""
        rows = self.rank_count * self.micro_batch * self.accumulation
        return Request(model, self.tokens, global_batch=rows, memory_limit_bytes=self.limit_bytes, ranks=1)


def make_model(name: str, kind: DeviceKind, folder: Path) -> None:
    """A folder with a config, a tokenizer and the header of weights that nobody reads: probes draw their own."""
    folder.mkdir(parents=True)
    config = json.loads((TOKENIZER / "config.json").read_text("utf-8"))
    sizes = dict(zip(_WORDS, SHAPES[kind][name], strict=True))
    sizes["head_dim"] = sizes["hidden_size"] // sizes["num_attention_heads"]
    config |= sizes | {"vocab_size": VOCABULARY[kind], "max_position_embeddings": 4096}
    (folder / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / file, folder / file)
    _write_hollow_weights(config, folder / "model.safetensors")


def _write_hollow_weights(config: dict[str, int], path: Path) -> None:
    """Names and shapes in bf16, and a hole in the file where the numbers would be."""
    tensors, end_bytes = {}, 0
    for name, shape in _tensors(config):
        begin_bytes, end_bytes = end_bytes, end_bytes + 2 * math.prod(shape)
        tensors[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin_bytes, end_bytes]}
    header = json.dumps(tensors).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + end_bytes)


def _tensors(config: dict[str, int]) -> Iterator[tuple[str, list[int]]]:
    """A Llama's, with their shapes."""
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, narrow = (config[word] * config["head_dim"] for word in ("num_attention_heads", "num_key_value_heads"))
    attention = {"q": [heads, hidden], "k": [narrow, hidden], "v": [narrow, hidden], "o": [hidden, heads]}
    network = {"gate": [inner, hidden], "up": [inner, hidden], "down": [hidden, inner]}
    yield "model.embed_tokens.weight", [vocabulary, hidden]
    for layer in range(config["num_hidden_layers"]):
        yield from ((f"model.layers.{layer}.self_attn.{name}_proj.weight", shape) for name, shape in attention.items())
        yield from ((f"model.layers.{layer}.mlp.{name}_proj.weight", shape) for name, shape in network.items())
        for norm in ("input", "post_attention"):
            yield f"model.layers.{layer}.{norm}_layernorm.weight", [hidden]
    yield "model.norm.weight", [hidden]
    yield "lm_head.weight", [vocabulary, hidden]


def configurations(kind: DeviceKind, dtype: Dtype, *, has_flash: bool) -> tuple[Configuration, ...]:
    """Those that teach most first; a compiler is needed by the last ones alone (DeepSpeed's host Adam)."""
    flash = _with_flash() if has_flash and dtype is not Dtype.FP32 else ()
    chosen = chain(_single(), _rehearsed(), _between(kind), flash, _details(), _offloaded())
    return tuple(_sized(replace(each, dtype=dtype), kind) for each in chosen)


def _single() -> tuple[Configuration, ...]:
    """Methods, checkpointing and micro-batches on the card alone: the runtime, fragmentation, kernels' speeds."""
    lora = Method.LORA
    return (
        Configuration(SMALL, 1024, 4, 16 * GB),
        Configuration(MEDIUM, 2048, 1, 40 * GB),
        Configuration(MEDIUM, 2048, 1, 24 * GB),  # on the edge
        Configuration(MEDIUM, 2048, 4, 40 * GB, gradient_checkpointing=GradientCheckpointing.ON),
        Configuration(MEDIUM, 2048, 4, 40 * GB, method=lora),
        Configuration(MEDIUM, 2048, 4, 16 * GB, method=lora, gradient_checkpointing=GradientCheckpointing.ON),
        Configuration(MEDIUM, 2048, 1, 16 * GB),  # cannot fit: the states alone take more
        Configuration(LARGE, 2048, 1, 24 * GB, method=lora, gradient_checkpointing=GradientCheckpointing.ON),
        Configuration(
            LARGE, 2048, 1, 16 * GB, method=lora, gradient_checkpointing=GradientCheckpointing.ON
        ),  # on the edge
    )


def _rehearsed() -> tuple[Configuration, ...]:
    """Each stage of 8 and of 64."""
    medium = [
        Configuration(
            MEDIUM,
            2048,
            2,
            24 * GB,
            rank_count=ranks,
            zero_stage=stage,
            gradient_checkpointing=GradientCheckpointing.ON,
        )
        for ranks, stage in ((8, 1), (8, 2), (8, 3), (64, 1), (64, 2), (64, 3))
    ]
    return (
        *medium,
        Configuration(
            LARGE, 2048, 1, 80 * GB, rank_count=8, zero_stage=3, gradient_checkpointing=GradientCheckpointing.ON
        ),
        Configuration(
            LARGE, 2048, 1, 40 * GB, rank_count=64, zero_stage=3, gradient_checkpointing=GradientCheckpointing.ON
        ),
        Configuration(LARGE, 2048, 2, 40 * GB, rank_count=8, zero_stage=2, method=Method.LORA),
        Configuration(
            LARGE, 2048, 1, 80 * GB, rank_count=8, zero_stage=2, gradient_checkpointing=GradientCheckpointing.ON
        ),
    )


def _between(kind: DeviceKind) -> tuple[Configuration, ...]:
    """Between checkpointing and none, and with what is kept in host memory, for which a CPU has no other place."""
    return tuple(
        Configuration(MEDIUM, 2048, 4, 40 * GB, gradient_checkpointing=one)
        for one in GradientCheckpointing
        if one.is_between and (kind, one) != (DeviceKind.CPU, GradientCheckpointing.OFFLOAD)
    )


def _with_flash() -> tuple[Configuration, ...]:
    flash = Attention.FLASH_2
    return (
        Configuration(MEDIUM, 2048, 4, 40 * GB, gradient_checkpointing=GradientCheckpointing.ON, attention=flash),
        Configuration(MEDIUM, 2048, 4, 40 * GB, method=Method.LORA, attention=flash),
    )


def _details() -> tuple[Configuration, ...]:
    """What else moves memory and time: rows, their lengths, a mask, accumulation, the eager kernel."""
    lora = Method.LORA
    return (
        Configuration(MEDIUM, 2048, 8, 80 * GB),
        Configuration(SMALL, 2048, 4, 40 * GB, attention=Attention.EAGER),
        Configuration(SMALL, 2048, 4, 40 * GB, attention=Attention.FLEX),
        Configuration(MEDIUM, 512, 16, 24 * GB, method=lora),
        Configuration(MEDIUM, 1024, 8, 24 * GB, method=lora, is_padded=True),
        Configuration(SMALL, 1024, 1, 16 * GB, accumulation=4),
        Configuration(MEDIUM, 1024, 2, 24 * GB, rank_count=8, zero_stage=2, accumulation=3),
        Configuration(SMALL, 1024, 16, 16 * GB),
    )


def _offloaded() -> tuple[Configuration, ...]:
    optimizer, everything = Offload.OPTIMIZER, Offload.ALL
    return (
        Configuration(
            MEDIUM, 2048, 4, 16 * GB, zero_stage=2, offload=optimizer, gradient_checkpointing=GradientCheckpointing.ON
        ),
        Configuration(
            MEDIUM, 2048, 4, 16 * GB, zero_stage=3, offload=everything, gradient_checkpointing=GradientCheckpointing.ON
        ),
        Configuration(
            MEDIUM, 2048, 2, 16 * GB, 8, 3, offload=optimizer, gradient_checkpointing=GradientCheckpointing.ON
        ),
    )


def _sized(configuration: Configuration, kind: DeviceKind) -> Configuration:
    if kind is not DeviceKind.CPU:
        return configuration
    limit_bytes = _CPU_LIMITS[configuration.limit_bytes // GB]
    return replace(configuration, tokens=configuration.tokens // _CPU_TOKENS_DIVISOR, limit_bytes=limit_bytes)
