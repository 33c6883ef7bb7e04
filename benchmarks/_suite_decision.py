"""One real search as a user would run it, and everything else that may fit, to see what its pick gives away."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from _suite_configurations import EXAMPLES, SMALL
from _suite_probes import environment_of

from autofit.app.tools import Tools
from autofit.app.train import train
from autofit.domain.event import Chosen, Event, ProbeStarted, TrainingEnded, TrialEnded
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.pins import Pins
from autofit.domain.outcome import Measured
from autofit.domain.request import Request, SearchOptions, Training
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Trial
from autofit.hardware.machine import detect_here
from autofit.planning.plan.fit import fits
from autofit.store import Store

TOKENS = {DeviceKind.CUDA: 2048, DeviceKind.CPU: 64}
LIMIT_BYTES = {DeviceKind.CUDA: 8_000_000_000, DeviceKind.CPU: 700_000_000}
GLOBAL_BATCH = 8
ROW_COUNT = 64
PROBE_TIMEOUT_S = 45.0  # of silence: nothing is compiled here


@dataclass(frozen=True)
class Decision:
    """Speeds in tokens/s; `regret` is the share of the best measured speed that the pick gives away."""

    pick: Strategy
    decide_s: float  # agent's start, survey and traces included
    search_s: float  # from the ladder to the choice
    probe_count: int
    why: str
    pick_tokens_per_s: float
    best: Strategy
    best_tokens_per_s: float
    tried_count: int  # by the search and by the sweep after it, each strategy once
    is_exhaustive: bool  # False: the time was up before everything was probed

    @property
    def regret(self) -> float:
        return max(0.0, 1 - self.pick_tokens_per_s / self.best_tokens_per_s)


class TimeIsUp(Exception):
    """Another probe would begin too late."""


class _Notebook:
    """A screen that only remembers; it ends the run at the first probe after `until_s` (time.monotonic)."""

    def __init__(self, until_s: float) -> None:
        self._until_s = until_s
        self.trials: list[Trial] = []
        self.chosen: Chosen | None = None

    def show(self, event: Event) -> None:
        if isinstance(event, TrialEnded):
            self.trials.append(event.trial)
        elif isinstance(event, Chosen):
            self.chosen = event
        elif isinstance(event, ProbeStarted) and time.monotonic() > self._until_s:
            raise TimeIsUp


def decide(hardware: Hardware, device: str, root: Path, limit_s: float) -> Decision:
    """Begins no probe after `limit_s` seconds; AutofitError when nothing fits, TimeIsUp when there is no choice yet."""
    began_at_s = time.monotonic()
    request = _request(hardware.kind, root)
    until_s = began_at_s + limit_s
    search, sweep = _Notebook(until_s), _Notebook(until_s)
    _train(request, root / "search", search, device, is_exhaustive=False)
    assert search.chosen is not None
    decide_s = time.monotonic() - began_at_s
    is_exhaustive = True
    try:
        _train(request, root / "sweep", sweep, device, is_exhaustive=True)
    except TimeIsUp:
        is_exhaustive = False
    return _decision(search.chosen, decide_s, [*sweep.trials, *search.trials], request, is_exhaustive)


def _decision(chosen: Chosen, decide_s: float, trials: list[Trial], request: Request, is_exhaustive: bool) -> Decision:
    """Of a strategy measured twice the faster time counts."""
    assert request.memory_limit_bytes is not None
    pick = chosen.choice.strategy
    speeds = {pick: chosen.choice.probed.tokens_per_s}
    for trial in trials:
        outcome = trial.outcome
        if isinstance(outcome, Measured) and fits(outcome, request.memory_limit_bytes):
            speeds[trial.strategy] = max(speeds.get(trial.strategy, 0.0), outcome.tokens_per_s)
    best = max(speeds, key=speeds.__getitem__)
    return Decision(
        pick=pick,
        decide_s=decide_s,
        search_s=chosen.decided_s,
        probe_count=chosen.probe_count,
        why=chosen.choice.why,
        pick_tokens_per_s=speeds[pick],
        best=best,
        best_tokens_per_s=speeds[best],
        tried_count=len({trial.strategy for trial in trials}),
        is_exhaustive=is_exhaustive,
    )


def _train(request: Request, folder: Path, screen: _Notebook, device: str, *, is_exhaustive: bool) -> None:
    """Up to the choice; nothing is remembered from before."""
    tools = Tools(
        detect=partial(detect_here, environment=environment_of(device)),
        run_training=_no_training,
        open_store=lambda: Store(folder.with_suffix(".sqlite")),
    )
    train(
        request,
        output_dir=folder,
        screen=screen,
        options=SearchOptions(is_exhaustive=is_exhaustive, probe_timeout_s=PROBE_TIMEOUT_S),
        tools=tools,
    )


def _no_training(hardware: Hardware, files: object, log_path: Path, show: object, *, standby: object) -> TrainingEnded:
    return TrainingEnded("", None, 0, None, None, None, 0, 0, 0.0)


def _request(kind: DeviceKind, root: Path) -> Request:
    data = root / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": row}) + "\n" for row in _rows()), "utf-8")
    return Request(
        model=str(root / SMALL),
        sequence_length=TOKENS[kind],
        global_batch=GLOBAL_BATCH,
        data=str(data),
        pins=Pins(offload=Offload.NONE),  # offload would compile DeepSpeed's host Adam for a minute
        training=Training(max_steps=1),
        memory_limit_bytes=LIMIT_BYTES[kind],
        ranks=1,
    )


def _rows() -> list[str]:
    """Each longer than any sequence length here, so that every row is full."""
    lines = (EXAMPLES / "dialogues.jsonl").read_text("utf-8").splitlines()
    text = "\n\n".join(dialogue["prompt"] + dialogue["completion"] for dialogue in map(json.loads, lines))
    return [text[start:] + text[:start] for start in range(0, ROW_COUNT * 16, 16)]
