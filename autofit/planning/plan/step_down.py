"""What a full run that ran out of memory goes on with: the nearest strategy that needs less of it.

Less of the device's memory, in this order: half the micro-batch with twice the accumulation, gradient checkpointing,
offload, another ZeRO stage that loads the same checkpoint. Less of the host's: less offload, as far as the device has
room. What is trained, with which numerics, and what the user has pinned stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from autofit.domain.checkpoint import Checkpoint
from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING
from autofit.domain.knobs.knob import Knob
from autofit.domain.knobs.offload import OFFLOAD
from autofit.domain.knobs.zero_stage import ZERO_STAGE
from autofit.domain.outcome import OutOfMemory, Place
from autofit.domain.strategy import KNOBS, Rung, Strategy
from autofit.planning.micro_batches import accumulation, asked_micro_batches
from autofit.planning.setting import Setting
from autofit.planning.space.axes import rungs, settle
from autofit.planning.space.ladder_builder import estimate_of
from autofit.planning.space.resumption import can_resume

from .fit import leaves_room

_TURNED: tuple[Knob[Any], ...] = (GRADIENT_CHECKPOINTING, OFFLOAD, ZERO_STAGE)
"""What a step down turns beside the micro-batch, in the order in which it does."""


@dataclass(frozen=True)
class Lighter:
    """The strategy to go on with, and what it changes: `half the micro-batch`."""

    strategy: Strategy
    change: str


@dataclass(frozen=True)
class NothingLighter:
    """No strategy is left that needs less, and why not."""

    why: str


def step_down(
    failed: Strategy,
    end: OutOfMemory,
    setting: Setting,
    checkpoint: Checkpoint | None,
    tried: Collection[Strategy] = (),
) -> Lighter | NothingLighter:
    """What goes on from `checkpoint`, or from the beginning where there is none, after `failed` has come to `end`.

    `setting` is the user's request with what is known of its model and machine; what was `tried` is not tried again.
    Of the strategies that are estimated to need less, the nearest that is estimated to fit, by what the end has taught
    of the estimates; the nearest of all where none is.
    """
    if end.place is Place.SHARED:
        return NothingLighter("what is short is /dev/shm, and every rung needs the same of it")
    is_device = end.place is Place.DEVICE or setting.kind is DeviceKind.CPU
    around = _Around(failed, setting, checkpoint)
    found = around.on_device() if is_device else around.on_host()
    lighter = [one for one in dict.fromkeys(found) if one not in tried and _needs_less(one, failed, setting, is_device)]
    if not lighter:
        return NothingLighter(around.why_nothing() if is_device else _why_nothing_on_host(failed))
    factor = _underestimate(failed, end, setting) if is_device else 1.0
    fitting = (one for one in lighter if leaves_room(estimate_of(one, setting).memory, setting, factor))
    strategy = next(fitting, lighter[0])
    return Lighter(strategy, _change_text(failed, strategy))


@dataclass(frozen=True)
class _Around:
    """The strategies around one that failed that the request, the machine and a checkpoint allow."""

    failed: Strategy
    setting: Setting
    checkpoint: Checkpoint | None

    def on_device(self) -> Iterator[Strategy]:
        """Those that may need less of the device, the nearest first: one thing turned at a time."""
        yield from self._smaller(self.failed.rung)
        for knob in _TURNED:
            yield from (replace(self.failed, rung=rung) for rung in self._turned(knob))

    def on_host(self) -> Iterator[Strategy]:
        """Those that may need less of the host: less is moved there, and the device has room for it."""
        for rung in (self.failed.rung, *self._less_moved()):
            for strategy in (replace(self.failed, rung=rung), *self._smaller(rung)):
                if leaves_room(estimate_of(strategy, self.setting).memory, self.setting):
                    yield strategy

    def _smaller(self, rung: Rung) -> Iterator[Strategy]:
        """Half the micro-batch, or less where that is none, and so on down."""
        request, rank_count = self.setting.request, self.setting.rank_count
        for rows in reversed(asked_micro_batches(request, rank_count)):
            if rows <= self.failed.micro_batch // 2:
                yield Strategy(rung, rows, accumulation(request.global_batch, rank_count, rows))

    def _turned(self, knob: Knob[Any]) -> list[Rung]:
        """The rungs with a value of `knob` that is sure to need less, the nearest first.

        On one device ZeRO's stage divides nothing and is the one that carries the offload: it may turn with it.
        """
        now = getattr(self.failed.rung, knob.name)
        may_turn = {knob.name} | ({ZERO_STAGE.name} if knob is OFFLOAD else set())
        found = [rung for rung in self._rungs() if _differing(rung, self.failed.rung) <= may_turn]
        less = [rung for rung in found if _place(knob, getattr(rung, knob.name)) < _place(knob, now)]
        stage = self.failed.rung.zero_stage
        return sorted(less, key=lambda rung: (-_place(knob, getattr(rung, knob.name)), abs(rung.zero_stage - stage)))

    def _less_moved(self) -> list[Rung]:
        """The rungs that have less in host memory, those first that have most of it."""
        failed = self.failed.rung
        moving = (OFFLOAD, GRADIENT_CHECKPOINTING)
        places = {knob: _place(knob, getattr(failed, knob.name)) for knob in moving}
        found = [
            rung
            for rung in self._rungs()
            if rung != failed and all(_place(knob, getattr(rung, knob.name)) >= places[knob] for knob in moving)
        ]
        return sorted(found, key=lambda rung: [_place(knob, getattr(rung, knob.name)) for knob in moving])

    def _rungs(self) -> tuple[Rung, ...]:
        """All that differ from the failed one in what may be turned, and go on from the checkpoint."""
        free = {knob.name for knob in _TURNED}
        held = {name: value for name, value in self.failed.rung.by_name.items() if name not in free}
        pins = self.setting.request.pins.but(**held)
        setting = replace(self.setting, request=replace(self.setting.request, pins=pins))
        try:
            found = rungs(setting, settle(setting))
        except UsageError:  # a pin that the machine lacks: the training runs by a resort that the search had found
            return ()
        return tuple(rung for rung in found if self.checkpoint is None or can_resume(rung, self.checkpoint))

    def why_nothing(self) -> str:
        """Why nothing is left that needs less of the device, by what a user can change."""
        pins = self.setting.request.pins
        pinned = [
            f"{knob.flag.name} {knob.of(pins.of(knob)).word} is pinned"
            for knob in _TURNED
            if knob.flag is not None and pins.of(knob) is not None
        ]
        rows = self.failed.micro_batch
        batch = f"the micro-batch is {rows}" + ("" if pins.micro_batch is None else ", which is pinned")
        stage = ZERO_STAGE.of(self.failed.rung.zero_stage).text
        loads = [] if self.checkpoint is None else [f"the checkpoint is of {stage}"]
        return f"no rung is left that needs less: {'; '.join([batch, *pinned, *loads])}"


def _why_nothing_on_host(failed: Strategy) -> str:
    offload = OFFLOAD.of(failed.rung.offload).text
    return f"no rung is left that needs less host memory and fits the device: it ran with {offload}"


def _differing(rung: Rung, other: Rung) -> set[str]:
    """The names of the knobs in which two rungs differ."""
    return {knob.name for knob in KNOBS if getattr(rung, knob.name) != getattr(other, knob.name)}


def _place(knob: Knob[Any], value: Any) -> int:
    """The place of a value in the order of what it needs of the device, from the least."""
    return knob.from_least_memory.index(value)


def _needs_less(strategy: Strategy, failed: Strategy, setting: Setting, is_device: bool) -> bool:
    ours, theirs = (estimate_of(one, setting).memory for one in (strategy, failed))
    return ours.peak_bytes < theirs.peak_bytes if is_device else ours.host_bytes < theirs.host_bytes


def _underestimate(failed: Strategy, end: OutOfMemory, setting: Setting) -> float:
    """The factor by which the estimate of what failed was too low at least: it needed more than the device has, or had
    left of it."""
    wanted_bytes = (end.peak_bytes or 0) + (end.requested_bytes or 0)
    needed_bytes = max(setting.device_memory_bytes, wanted_bytes)
    return max(1.0, needed_bytes / estimate_of(failed, setting).memory.peak_bytes)


def _change_text(failed: Strategy, strategy: Strategy) -> str:
    """What is turned, in words: `half the micro-batch`, `gradient checkpointing`."""
    parts = []
    if strategy.micro_batch != failed.micro_batch:
        is_half = 2 * strategy.micro_batch == failed.micro_batch
        parts.append("half the micro-batch" if is_half else f"a micro-batch of {strategy.micro_batch}")
    names = _differing(strategy.rung, failed.rung)
    parts += [knob.of(getattr(strategy.rung, knob.name)).text for knob in _TURNED if knob.name in names]
    return " and ".join(parts)
