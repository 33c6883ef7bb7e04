"""One point of the search: what is turned, and how it is written on one line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Method(str, Enum):
    FULL = "full"
    LORA = "lora"


class Offload(str, Enum):
    NONE = "none"
    OPTIMIZER = "optimizer"
    ALL = "all"  # optimizer states and parameters


class Attention(str, Enum):
    FLASH_2 = "flash_attention_2"
    SDPA = "sdpa"
    EAGER = "eager"


class Dtype(str, Enum):
    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


class Optimizer(str, Enum):
    ADAMW = "adamw"


@dataclass(frozen=True, order=True)
class Rung:
    """A Strategy but for its micro-batch: everything that is decided before counting samples."""

    method: Method
    zero_stage: int
    offload: Offload
    gradient_checkpointing: bool
    attention: Attention
    dtype: Dtype
    optimizer: Optimizer = Optimizer.ADAMW

    def __str__(self) -> str:
        parts = [f"zero{self.zero_stage}"]
        parts += ["lora"] if self.method is Method.LORA else []
        parts += ["gc"] if self.gradient_checkpointing else []
        parts += {Offload.NONE: [], Offload.OPTIMIZER: ["offload"], Offload.ALL: ["offload-all"]}[self.offload]
        parts += {Attention.FLASH_2: ["fa2"], Attention.SDPA: [], Attention.EAGER: ["eager"]}[self.attention]
        return "+".join(parts)


@dataclass(frozen=True, order=True)
class Strategy:
    """A Rung with its micro-batch; micro_batch * gradient_accumulation * ranks is the request's global batch."""

    rung: Rung
    micro_batch: int
    gradient_accumulation: int

    def __str__(self) -> str:
        return f"{self.rung} mb{self.micro_batch}"
