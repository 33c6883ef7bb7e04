"""What autofit's plan says of a published run: its strategy on its machine, traced by the real tracer."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from _published_memory import MeasuredPart, measured_part
from _published_rows import Row
from _published_software import as_published

from autofit.app.context import Context, shape_of
from autofit.app.estimation import ALL_INSTALLED, assumed_setting
from autofit.app.tools import REAL_TOOLS, Tools
from autofit.app.tracing import TraceProvider
from autofit.domain.estimate import Estimate
from autofit.domain.hardware import Hardware
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.plan import Verdict
from autofit.domain.request import Lora, Request
from autofit.domain.strategy import Rung, Strategy
from autofit.hardware.machine_spec import parse_machine
from autofit.inputs.model_files import read_model_files
from autofit.planning.memory.activations import micro_step
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.plan.fit import judge
from autofit.planning.setting import Setting
from autofit.planning.speed.step_time import estimate_speed
from autofit.store import Store

NETWORKS = {"llm-foundry": ",network=200GB"}
"""Between nodes: "1600 Gbps node-node interconnect" (scripts/train/benchmarking/README.md, of its A100; its H100 are
taken to have no less)."""

_POSITIONS = "n_positions"


@dataclass(frozen=True)
class Prediction:
    memory: MeasuredPart
    tokens_per_s: float  # of one device
    verdict: Verdict


class Predictor:
    """Models and what was traced of them; traces are kept in autofit's store."""

    def __init__(self, root: Path, tools: Tools = REAL_TOOLS) -> None:
        self._root, self._tools = root, tools

    def predict(self, row: Row) -> Prediction:
        strategy, setting = strategy_of(row), self._setting(row)
        estimate = Estimate(estimate_memory(strategy, setting), estimate_speed(strategy, setting))
        return Prediction(
            memory=measured_part(row, estimate.memory, strategy, setting),
            tokens_per_s=estimate.speed.tokens_per_s / setting.rank_count,
            verdict=judge(strategy, estimate, setting).verdict,
        )

    def _setting(self, row: Row) -> Setting:
        request, hardware = self._request(row), machine_of(row)
        with self._tools.open_store() as store, self._tracing(request, store) as tracing:
            facts = tracing.facts()
            shape = shape_of(row["model"], facts, read_model_files(request.model, needs_weights=False).shape)
            assumed = assumed_setting(Context(request, hardware, shape, facts), ALL_INSTALLED)
            setting = replace(assumed, is_padded=row.is_padded)
            step = micro_step(strategy_of(row).rung, row.micro_batch, setting)
            return as_published(row, replace(setting, traces=tracing.traces((step,))))

    def _tracing(self, request: Request, store: Store) -> TraceProvider:
        return TraceProvider(request, store, self._tools.start_tracer, lambda text: print(text, file=sys.stderr))

    def _request(self, row: Row) -> Request:
        lora = Lora(r=int(row["lora_r"]), target_modules=row.targets) if row.is_lora else Lora()
        return Request(str(self._folder(row)), row.tokens, global_batch=_global_batch(row), lora=lora)

    def _folder(self, row: Row) -> Path:
        """The model's architecture; a table of positions has the row's length, as its source builds it."""
        config = json.loads((row.config / "config.json").read_text(encoding="utf-8"))
        if _POSITIONS in config:
            config[_POSITIONS] = row.tokens
        folder = self._root / f"{row.config.name}-{row.tokens}"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder


def strategy_of(row: Row) -> Strategy:
    """The run's own strategy."""
    rung = Rung(
        zero_stage=row.zero_stage,
        method=Method.LORA if row.is_lora else Method.FULL,
        gradient_checkpointing=GradientCheckpointing(row.is_checkpointed),
        offload=Offload.NONE,
        dtype=Dtype.BF16,
        attention=Attention.FLASH_2 if row.is_flash else Attention.SDPA,
    )
    return Strategy(rung, row.micro_batch, row.accumulation)


def machine_of(row: Row) -> Hardware:
    """The run's machine, as `autofit plan --on` describes it."""
    nodes = int(row["nodes"])
    network = NETWORKS.get(row.source, "") if nodes > 1 else ""
    return parse_machine(f"{nodes}x{row.rank_count // nodes}x{row['gpu']}{network}")


def _global_batch(row: Row) -> int:
    return row.rank_count * row.micro_batch * row.accumulation
