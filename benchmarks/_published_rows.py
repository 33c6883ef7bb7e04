"""Published measurements of other people's runs: what a row says, and what of it can be compared."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from autofit.domain.request import ALL_LINEAR

FOLDER = Path(__file__).with_name("published")
ROWS = FOLDER / "rows.csv"
GB = 10**9


class MemoryKind(Enum):
    """What was read, and so what of a prediction it is to be held against."""

    ALLOCATED = "tensors"  # torch's allocated or active bytes
    RESERVED = "tensors and what the allocator loses between them"
    WHOLE = "everything on the device"  # as nvidia-smi prints it; also where the source does not say


_TARGETS = {  # Qwen's own modules by those of its likeness: c_proj ends the names of two
    "c_attn": ("q_proj", "k_proj", "v_proj"),
    "c_attn,c_proj,w1,w2": (ALL_LINEAR,),
    "['q_proj', 'v_proj']": ("q_proj", "v_proj"),
    "['v_proj', 'q_proj']": ("q_proj", "v_proj"),
    "all-linear": (ALL_LINEAR,),
}


@dataclass(frozen=True)
class Row:
    """One run as its source tells it, by the names of the columns; an empty field was not stated."""

    fields: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.fields[column]

    @property
    def id(self) -> str:
        return self["id"]

    @property
    def source(self) -> str:
        return self["source"]

    @property
    def config(self) -> Path:
        """The folder of the model's architecture."""
        return FOLDER / "configs" / self["model"].lower().replace(" ", "-")

    @property
    def tokens(self) -> int:
        return int(self["seq"])

    @property
    def micro_batch(self) -> int:
        return int(self["micro_batch"])

    @property
    def accumulation(self) -> int:
        """Micro-batches of an optimizer step; one where the source does not say."""
        return int(self["accum"] or 1)

    @property
    def rank_count(self) -> int:
        return int(self["gpus"])

    @property
    def parameter_count(self) -> float:
        return float(self["params_b"]) * 1e9

    @property
    def is_lora(self) -> bool:
        return self["method"] == "lora"

    @property
    def is_checkpointed(self) -> bool:
        return self["grad_ckpt"].startswith("on")

    @property
    def zero_stage(self) -> int:
        """FSDP's full sharding divides what ZeRO-3 does; on one device nothing is divided, which stage 1 stands for."""
        if self["zero_stage"]:
            return int(self["zero_stage"])
        if self.source == "qwen" and not self.is_lora:
            return 3  # as its row on two GPUs: finetune_ds.sh starts both
        return 0 if "DDP" in self["sharding"] else 1

    @property
    def is_pure_bf16(self) -> bool:
        """Whether weights, gradients and states are all in 16 bits, with no fp32 master weights. transformers' Trainer
        updates the weights as they are, 16-bit ones (ms-swift loads them so); its adapters were fp32 until PEFT 0.6."""
        told = self["state_precision"]
        is_trainer = told == "as HF Trainer bf16" and self.source == "ms-swift" and not self.is_lora
        return is_trainer or told.startswith(("pure bf16", "bf16 master"))

    @property
    def has_varying_lengths(self) -> bool:
        return self["seq_exact"].startswith("max: longer rows are dropped")

    @property
    def is_flash(self) -> bool:
        return self["attention"].lower().replace("_", "").startswith("flash")

    @property
    def targets(self) -> tuple[str, ...]:
        return _TARGETS[self["lora_targets"]]

    @property
    def is_padded(self) -> bool:
        """Whether rows of different lengths stand in one micro-batch."""
        return self["seq_exact"].startswith("max") and self.micro_batch > 1

    @property
    def memory_kind(self) -> MemoryKind:
        told = self["mem_kind"]
        if "reserved" in told:
            return MemoryKind.RESERVED
        return MemoryKind.ALLOCATED if "torch" in told else MemoryKind.WHOLE

    @property
    def memory_bytes(self) -> float | None:
        """Of the fullest device; None where the source has none that can be compared."""
        use = self["usable_for"]
        is_marked = use.startswith("both") or (use.startswith("memory") and "order" not in use)
        return float(self["mem_gb_per_gpu"]) * GB if is_marked and self["mem_gb_per_gpu"] else None

    @property
    def tokens_per_s(self) -> float | None:
        """Of one device; None where the source has none that can be compared."""
        use = self["usable_for"]
        is_marked = use.startswith(("both", "speed")) and not self["seq_exact"].startswith("max")
        return float(self["tok_s_gpu"]) if is_marked and self["tok_s_gpu"] else None

    @property
    def is_out_of_memory(self) -> bool:
        return self["outcome"] == "OOM"


def read_rows(path: Path = ROWS) -> tuple[Row, ...]:
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(Row(fields) for fields in csv.DictReader(file))


def left_out(row: Row) -> str | None:
    """Why autofit has no strategy that is this run; None where it has one."""
    return next((why for why in _reasons(row) if why), None)


def _reasons(row: Row) -> Iterable[str | None]:
    yield None if row["method"] in ("full", "lora") else f"method {row['method']}: no rung"
    yield None if row["offload"] == "none" or not row["offload"] else f"offload of {row['offload']}: another software's"
    yield None if row["sharding"].split(" (")[0] in _DIVISIONS else f"{row['sharding']}: no rung"
    yield None if row["optimizer"].lower() in _ADAMS else f"optimizer {row['optimizer'] or 'not stated'}: no rung"
    yield None if row["compile"] in ("", "no") else "compiled by torch: no rung"
    is_shorter = row["seq_exact"] in _SHORTER
    yield f"rows shorter than the sequence length ({row['seq_exact']})" if is_shorter else None
    yield None if "99th" not in row["mem_kind"] else "memory of the 99th percentile of its steps, not of the worst rows"
    checkpointing = row["grad_ckpt"] or "not stated"
    yield None if checkpointing.split(" ")[0] in ("on", "off") else f"checkpointing {checkpointing}"
    yield None if row["seq"] and row["micro_batch"] else "sequence length or micro-batch not stated"
    yield None if not row.is_lora or (row["lora_r"] and row["lora_targets"] in _TARGETS) else "adapters not stated"
    is_compared = row.memory_bytes or row.tokens_per_s or "fit" in row["usable_for"]
    yield None if is_compared else f"usable for {row['usable_for']}"
    yield None if row.config.is_dir() else f"no architecture of {row['model']}"


_SHORTER = ("max, padded, not packed", "max; data shorter", "alpaca, unpacked")  # by how much is not stated
_DIVISIONS = ("none", "", "DeepSpeed", "FSDP FULL_SHARD", "FSDP2", "FSDP in DDP mode")
_ADAMS = ("adamw", "decoupled_adamw", "fusedadam", "adamw fused")
