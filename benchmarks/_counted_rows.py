"""Predicted against counted memory of one training, on a device and on its host, phase by phase."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from _counted_cases import CountedCase, write_config
from _counted_engine import CountedJob, compile_device, describe_model, measure
from _counted_ledger import Truth
from _memory_truth import Forker, trace_steps

from autofit.domain.errors import UsageError
from autofit.domain.estimate import MemoryEstimate
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import Dtype, element_bytes
from autofit.domain.knobs.offload import Offload
from autofit.domain.model import ModelFacts
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.domain.trace import Moment, Trace
from autofit.planning.export.deepspeed_config import deepspeed_config
from autofit.planning.memory.activations import micro_step, moments
from autofit.planning.memory.device_share import sized_for
from autofit.planning.memory.fused_memory import fused_loads
from autofit.planning.memory.load import Load
from autofit.planning.memory.micro_step_memory import loads_within
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.memory.step_memory import loads_outside
from autofit.planning.parameters import parameters
from autofit.planning.setting import Setting

TIMEOUT_S = 900.0


@dataclass(frozen=True)
class CountedRow:
    """`truths` are by rank, the first one's always among them."""

    case: CountedCase
    setting: Setting
    predicted: MemoryEstimate
    loads: dict[Phase, Load]  # the largest of each phase
    truths: dict[int, Truth]

    @property
    def predicted_device_bytes(self) -> int:
        """Tensors alone: nothing is counted of a context, a communicator or what an allocator loses."""
        return self.predicted.peak_bytes - self.predicted.runtime_bytes

    @property
    def device_bytes(self) -> int:
        return max(truth.device_peak_bytes for truth in self.truths.values())

    @property
    def predicted_host_bytes(self) -> int:
        """Of one node, without its processes."""
        return self.predicted.host.peak_bytes - self.predicted.host.runtime_bytes

    @property
    def host_bytes(self) -> int:
        """Of one node, all its ranks together."""
        return max(self.host_by_phase().values())

    @property
    def device_error(self) -> float:
        """Above 0 when too much was predicted."""
        return self.predicted_device_bytes / self.device_bytes - 1

    @property
    def host_error(self) -> float | None:
        """None without offload, and where loading makes the host's peak, which is not counted: each rank has one tensor
        of the file on its way then."""
        largest_count = max(group.element_count for group in parameters(self.case.strategy.rung, self.setting).groups)
        loading_bytes = self.setting.ranks_per_node * element_bytes(Dtype.BF16) * largest_count
        if self.case.offload is Offload.NONE or self.host_bytes <= loading_bytes:
            return None
        return self.predicted_host_bytes / self.host_bytes - 1

    @property
    def is_inside(self) -> bool:
        whole_bytes = self.device_bytes + self.predicted.runtime_bytes
        return self.predicted.low_bytes <= whole_bytes <= self.predicted.high_bytes

    @property
    def is_above(self) -> bool:
        return self.device_bytes + self.predicted.runtime_bytes > self.predicted.high_bytes

    def counted_by_phase(self) -> dict[Phase, int]:
        highest: dict[Phase, int] = {}
        for truth in self.truths.values():
            for stretch in truth.stretches:
                highest[stretch.phase] = max(highest.get(stretch.phase, 0), stretch.peak.device_bytes)
        return highest

    def host_by_phase(self) -> dict[Phase, int]:
        """Of one node; ranks that were not run are like the last one that was."""
        last = self.truths[max(self.truths)]
        ranks = [self.truths.get(rank, last) for rank in range(self.setting.ranks_per_node)]
        highest: dict[Phase, int] = {}
        for stretches in zip(*(truth.stretches for truth in ranks), strict=True):
            phase, n_bytes = stretches[0].phase, sum(stretch.peak.host_bytes for stretch in stretches)
            highest[phase] = max(highest.get(phase, 0), n_bytes)
        return highest


class CountedBench:
    """Configs, descriptions and traces are made once for each model."""

    def __init__(self, root: Path, *, is_explained: bool = False) -> None:
        """UsageError where the device cannot be compiled."""
        root.mkdir(parents=True, exist_ok=True)
        self._root, self._is_explained = root, is_explained
        self._forker = Forker(root / "log", TIMEOUT_S)
        if (why := self._forker.call(compile_device)) is not None:
            raise UsageError(why)
        self._facts: dict[str, ModelFacts] = {}
        self._traces: dict[str, tuple[Trace, ...]] = {}

    def row(self, case: CountedCase) -> CountedRow:
        setting = self._setting(case)
        strategy = case.strategy
        traced = sized_for(strategy, replace(setting, traces=self._traced(case, setting)))
        truths = {rank: self._forker.call(measure, self._job(case, traced, rank)) for rank in case.counted_ranks()}
        predicted = estimate_memory(strategy, traced)
        return CountedRow(case, traced, predicted, _largest_loads(case, traced), truths)

    def _job(self, case: CountedCase, setting: Setting, rank: int) -> CountedJob:
        return CountedJob(
            setting.request.model,
            case.strategy,
            micro_step(case.strategy.rung, case.micro_batch, setting),
            deepspeed_config(
                case.strategy,
                setting.request,
                setting.shape,
                DeviceKind.CUDA,
                setting.bucket_elements,
                setting.split,
            ),
            rank,
            setting.rank_count,
            setting.device_memory_bytes - setting.runtime_bytes - setting.constants.communicator_bytes,
            is_explained=self._is_explained,
        )

    def _setting(self, case: CountedCase) -> Setting:
        folder = self._root / case.model
        if case.model not in self._facts:
            write_config(case.model, folder)
            self._facts[case.model] = self._forker.call(describe_model, case.request(folder))
        return case.setting(folder, self._facts[case.model])

    def _traced(self, case: CountedCase, setting: Setting) -> tuple[Trace, ...]:
        step = micro_step(case.strategy.rung, case.micro_batch, setting)
        known = self._traces.get(case.model, ())
        if not any(trace.of == step for trace in known):
            known += self._forker.call(trace_steps, setting.request.model, [step])
            self._traces[case.model] = known
        return known


def _largest_loads(case: CountedCase, setting: Setting) -> dict[Phase, Load]:
    traced = moments(case.strategy, setting)
    assert traced is not None
    largest: dict[Phase, Load] = {}
    for load in _loads(case.strategy, setting, traced):
        if load.phase not in largest or load.total_bytes > largest[load.phase].total_bytes:
            largest[load.phase] = load
    return largest


def _loads(strategy: Strategy, setting: Setting, traced: Sequence[Moment]) -> Iterator[Load]:
    if strategy.rung.optimizer.is_fused:
        return fused_loads(strategy, setting, traced)
    within = loads_within(strategy, setting, traced, is_first_rank=False)
    return itertools.chain(within, loads_outside(strategy, setting))
