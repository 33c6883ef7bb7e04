"""What estimates are made of before anything is tried: the model's traces, and the setting of a request."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from autofit.app.context import Context
from autofit.app.tools import StartTracer
from autofit.app.trial_memory import known_constants
from autofit.domain.errors import AutofitError, UsageError
from autofit.domain.event import Tell
from autofit.domain.ladder import Ladder
from autofit.domain.request import Request
from autofit.domain.strategy import Rung
from autofit.domain.trace import MicroStep, Trace
from autofit.domain.workload import DataProfile
from autofit.hardware.requirements import OPTIONAL
from autofit.inputs.hub import Hub
from autofit.planning.memory.activations import wanted_micro_steps
from autofit.planning.setting import Setting
from autofit.planning.space.axes import rungs, settle
from autofit.planning.space.ladder_builder import build_ladder
from autofit.probing.prober import Tracer
from autofit.store import Store
from autofit.store.fingerprint import trace_fingerprint
from autofit.store.versions import versions

TRACER_VERSION = 3
"""Rises when a trace of the same micro-step would say something else."""

ALL_INSTALLED = frozenset(one.package for one in OPTIONAL)
"""What a described machine is taken to have."""


class TraceProvider:
    """The traces of one request's model, from `with` to its end; the tracer starts when the first one is missing."""

    def __init__(self, request: Request, store: Store, start: StartTracer, tell: Tell) -> None:
        self._request, self._store, self._start, self._tell = request, store, start, tell
        self._tracer: Tracer | None = None
        self._is_traceable = True
        self._open = ExitStack()

    def __enter__(self) -> TraceProvider:
        self._folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="autofit-trace-")))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def traces(self, micro_steps: Iterable[MicroStep]) -> tuple[Trace, ...]:
        """The traces of `micro_steps` that can be had; what cannot be traced is told once."""
        wanted, fingerprint = tuple(dict.fromkeys(micro_steps)), _fingerprint(self._request)
        known = self._store.get_traces(fingerprint, wanted)
        missing = tuple(step for step in wanted if step not in {trace.of for trace in known})
        if not missing or not self._is_traceable:
            return known
        new = self._traced(missing)
        self._store.put_traces(fingerprint, new)
        return (*known, *new)

    def _traced(self, missing: tuple[MicroStep, ...]) -> tuple[Trace, ...]:
        try:
            answer = self._started().trace(self._request, missing, log_path=self._folder / "trace.log")
        except AutofitError as error:
            self._is_traceable = False
            self._tell(_closed_form_note("The model cannot be traced", str(error)))
            return ()
        if answer.failures:
            what = f"{len(answer.failures)} of {len(missing)} micro-steps cannot be traced"
            self._tell(_closed_form_note(what, answer.failures[0].why))
        return answer.traces

    def _started(self) -> Tracer:
        if self._tracer is None:
            self._tracer = self._open.enter_context(self._start(self._folder / "agent.log"))
        return self._tracer


def _closed_form_note(what: str, why: str) -> str:
    return f"{what} ({why.rstrip('.')}): their activations are estimated by a formula that is far less exact."


def ladder_of(setting: Setting) -> Ladder:
    """The ladder of a setting, its settled knobs at their best; UsageError for what cannot be asked for."""
    return build_ladder(setting, settle(setting))


def assumed_setting(context: Context, installed: frozenset[str] = frozenset()) -> Setting:
    """The setting by the request alone: rows are as long as it allows, and some of them shorter, so that there is a
    mask."""
    tokens = context.request.sequence_length
    return Setting(context.request, context.hardware, context.shape, tokens, is_padded=True, installed=installed)


def setting_of_data(context: Context, profile: DataProfile, installed: frozenset[str]) -> Setting:
    """The setting by what the data brings."""
    lengths_tokens = profile.sampled_lengths_tokens
    return replace(
        assumed_setting(context, installed),
        worst_tokens=profile.longest_tokens,
        is_padded=lengths_tokens[0] < profile.longest_tokens,
        mean_tokens=sum(lengths_tokens) / len(lengths_tokens),
    )


def prepare_setting(setting: Setting, store: Store, tracing: TraceProvider) -> Setting:
    """The setting with all that is remembered of such devices and all traces that its rungs want."""
    known = replace(setting, known_constants=known_constants(setting.hardware, store))
    return replace(known, traces=tracing.traces(wanted_micro_steps(usable_rungs(known), known)))


def usable_rungs(setting: Setting) -> tuple[Rung, ...]:
    """The rungs to try, memory aside; none where the device lacks what is pinned."""
    try:
        return rungs(setting, settle(setting))
    except UsageError:
        return ()


def _fingerprint(request: Request) -> str:
    return trace_fingerprint(
        _config(request.model),
        versions=versions(),
        tracer_version=TRACER_VERSION,
        extra_arguments=request.training.extra_arguments,
    )


def _config(model: str) -> dict[str, Any]:
    """The config.json of a model that was read once already."""
    folder = Path(model)
    path = folder / "config.json" if folder.is_dir() else Hub(None).config_path(model)
    assert path is not None
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config
