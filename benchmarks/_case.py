"""What is to be decided: a model, its data, a memory that is too small for some of it, and all that could be tried."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from autofit.domain.hardware import Hardware
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import METHOD, Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.pins import Pins
from autofit.domain.knobs.zero_stage import ZERO_STAGE
from autofit.domain.model import ModelShape
from autofit.domain.request import Lora, Request, Training
from autofit.domain.strategy import Rung, Strategy
from autofit.hardware.machine import detect
from autofit.inputs.model_files import read_model_files
from autofit.planning.export.deepspeed_config import engine_config
from autofit.planning.memory.device_share import sized_for
from autofit.planning.micro_batches import accumulation, micro_batches
from autofit.planning.setting import Setting

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
MODEL = EXAMPLES / "tiny-llama"
RANKS = 2
LORA_R = 8
ROW_DIALOGUES = 12  # joined into one row: longer than any sequence length used here, so that every row is full


@dataclass(frozen=True)
class Case:
    request: Request
    hardware: Hardware
    shape: ModelShape

    @property
    def flags(self) -> list[str]:
        """The request as `autofit train` takes it."""
        request = self.request
        words: dict[str, object] = {
            "--model": request.model,
            "--data": request.data,
            "--seq": request.sequence_length,
            "--batch-size": request.global_batch,
            "--ranks": request.ranks,
            "--method": method.value if (method := request.pins.of(METHOD)) else "auto",
            "--lora-r": request.lora.r,
            "--dtype": Dtype.BF16.value,
            "--attention": Attention.SDPA.value,
            "--memory-limit": request.memory_limit_bytes,
            "--max-steps": request.training.max_steps,
        }
        return [str(word) for pair in words.items() for word in pair]

    @property
    def candidates(self) -> tuple[Strategy, ...]:
        """Every rung with every micro-batch, whatever anybody predicts of it; offload moves nothing off a CPU."""
        pinned, batch = self.request.pins.of(METHOD), self.request.global_batch
        methods = (pinned,) if pinned else (Method.FULL, Method.LORA)
        stages = [value.value for value in ZERO_STAGE.values]
        return tuple(
            strategy(method, stage, is_checkpointing, size, batch)
            for method, is_checkpointing, stage in product(methods, (False, True), stages)
            for size in micro_batches(batch, RANKS)
        )

    @property
    def tokens_per_step(self) -> int:
        """Of an optimizer step; every row is full."""
        return self.request.global_batch * self.request.sequence_length

    def of_steps(self, step_count: int) -> Case:
        return replace(self, request=replace(self.request, training=Training(max_steps=step_count)))

    def deepspeed_config(self, strategy: Strategy) -> dict[str, object] | None:
        """As autofit writes it, for rows of full length; None where no engine trains."""
        request, hardware, shape = self.request, self.hardware, self.shape
        sized = sized_for(strategy, Setting(request, hardware, shape, request.sequence_length))
        return engine_config(strategy, request, shape, hardware.kind, sized.bucket_elements, sized.split)


def make_case(
    folder: Path, *, sequence_length: int, global_batch: int, limit_bytes: int, method: Method | None
) -> Case:
    """`limit_bytes` is what each rank may hold; the data is written into `folder`."""
    data = write_rows(folder)
    request = Request(
        model=str(MODEL),
        sequence_length=sequence_length,
        global_batch=global_batch,
        data=str(data),
        lora=Lora(r=LORA_R),
        pins=Pins(method=method, attention=Attention.SDPA, dtype=Dtype.BF16),
        training=Training(max_steps=1),
        memory_limit_bytes=limit_bytes,
        ranks=RANKS,
    )
    hardware = detect(ranks=RANKS, memory_limit_bytes=limit_bytes, visible_devices="", disk_path=folder)
    return Case(request, hardware, read_model_files(str(MODEL)).shape)


def write_rows(folder: Path) -> Path:
    """A file in `folder` of rows that are longer than any sequence length used here."""
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": row}) + "\n" for row in _rows()))
    return data


def strategy(method: Method, stage: int, is_checkpointing: bool, micro_batch: int, global_batch: int) -> Strategy:
    rung = Rung(
        method=method,
        zero_stage=stage,
        offload=Offload.NONE,
        gradient_checkpointing=GradientCheckpointing(is_checkpointing),
        attention=Attention.SDPA,
        dtype=Dtype.BF16,
    )
    return Strategy(rung, micro_batch, accumulation(global_batch, RANKS, micro_batch))


def _rows() -> list[str]:
    lines = (EXAMPLES / "dialogues.jsonl").read_text().splitlines()
    texts = [dialogue["prompt"] + dialogue["completion"] for dialogue in map(json.loads, lines)]
    return ["\n\n".join((texts + texts)[start : start + ROW_DIALOGUES]) for start in range(len(texts))]
