"""Predicted against counted memory of one training, on a device and on its host, phase by phase."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from _counted_cases import CountedCase, write_config
from _counted_engine import CountedJob, compile_device, describe_model, measure
from _counted_ledger import Stretch, Truth
from _memory_truth import Forker, trace_steps

from autofit.domain.errors import UsageError
from autofit.domain.estimate import MemoryEstimate
from autofit.domain.hardware import DeviceKind
from autofit.domain.model import ModelFacts
from autofit.domain.outcome import Phase
from autofit.domain.trace import Trace
from autofit.planning.export.deepspeed_config import deepspeed_config
from autofit.planning.memory.activations import micro_step, moments
from autofit.planning.memory.load import Load
from autofit.planning.memory.micro_step_memory import loads_within
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.memory.step_memory import loads_outside
from autofit.planning.setting import Setting

TIMEOUT_S = 900.0
LITTLE_BYTES = 300_000_000
"""Of a node's host, all ranks together."""


@dataclass(frozen=True)
class CountedRow:
    """`truths` are those of the first rank and, below ZeRO-3, of the last one."""

    case: CountedCase
    setting: Setting
    predicted: MemoryEstimate
    loads: dict[Phase, Load]  # the largest of each phase
    truths: tuple[Truth, ...]

    @property
    def predicted_device_bytes(self) -> int:
        """Tensors alone: nothing is counted of a context, a communicator or what an allocator loses."""
        return self.predicted.peak_bytes - self.predicted.runtime_bytes

    @property
    def device_bytes(self) -> int:
        return max(truth.device_peak_bytes for truth in self.truths)

    @property
    def predicted_host_bytes(self) -> int:
        """Of one node, without its processes."""
        return self.predicted.host.peak_bytes - self.predicted.host.runtime_bytes

    @property
    def host_bytes(self) -> int:
        """Of one node: the first rank, and the others like the last one."""
        return max(self._node_bytes(first, last) for first, last in self._pairs())

    @property
    def device_error(self) -> float:
        """Above 0 when too much was predicted."""
        return self.predicted_device_bytes / self.device_bytes - 1

    @property
    def host_error(self) -> float | None:
        """None where next to nothing lies there, beside processes of more than a GB each."""
        return self.predicted_host_bytes / self.host_bytes - 1 if self.host_bytes > LITTLE_BYTES else None

    @property
    def is_inside(self) -> bool:
        whole_bytes = self.device_bytes + self.predicted.runtime_bytes
        return self.predicted.low_bytes <= whole_bytes <= self.predicted.high_bytes

    @property
    def is_above(self) -> bool:
        return self.device_bytes + self.predicted.runtime_bytes > self.predicted.high_bytes

    def counted_by_phase(self) -> dict[Phase, int]:
        highest: dict[Phase, int] = {}
        for truth in self.truths:
            for stretch in truth.stretches:
                highest[stretch.phase] = max(highest.get(stretch.phase, 0), stretch.peak.device_bytes)
        return highest

    def host_by_phase(self) -> dict[Phase, int]:
        highest: dict[Phase, int] = {}
        for first, last in self._pairs():
            highest[first.phase] = max(highest.get(first.phase, 0), self._node_bytes(first, last))
        return highest

    def _pairs(self) -> Iterator[tuple[Stretch, Stretch]]:
        return zip(self.truths[0].stretches, self.truths[-1].stretches, strict=True)

    def _node_bytes(self, first: Stretch, last: Stretch) -> int:
        others = self.setting.ranks_per_node - 1
        return first.peak.host_bytes + others * last.peak.host_bytes


class CountedBench:
    """Configs, descriptions and traces are made once for each model."""

    def __init__(self, root: Path, *, is_explained: bool = False) -> None:
        """UsageError where the device cannot be compiled."""
        self._root, self._is_explained = root, is_explained
        self._forker = Forker(root / "log", TIMEOUT_S)
        if (why := self._forker.call(compile_device)) is not None:
            raise UsageError(why)
        self._facts: dict[str, ModelFacts] = {}
        self._traces: dict[str, tuple[Trace, ...]] = {}

    def row(self, case: CountedCase) -> CountedRow:
        setting = self._setting(case)
        strategy, traced = case.strategy, replace(setting, traces=self._traced(case, setting))
        config = deepspeed_config(strategy, setting.request, setting.shape, DeviceKind.CUDA)
        step = micro_step(strategy.rung, case.micro_batch, setting)
        free_bytes = setting.device_memory_bytes - setting.runtime_bytes - setting.communicator_bytes
        ranks = (0,) if case.zero_stage == 3 else (0, setting.rank_count - 1)
        truths = tuple(
            self._forker.call(
                measure,
                CountedJob(
                    setting.request.model, strategy, step, config, rank, setting.rank_count, free_bytes,
                    is_explained=self._is_explained,
                ),
            )
            for rank in ranks
        )  # fmt: skip
        predicted = estimate_memory(strategy, traced)
        return CountedRow(case, traced, predicted, _largest_loads(case, traced), truths)

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
    within = loads_within(case.strategy, setting, traced, is_first_rank=False)
    for load in (*within, *loads_outside(case.strategy, setting)):
        if load.phase not in largest or load.total_bytes > largest[load.phase].total_bytes:
            largest[load.phase] = load
    return largest
