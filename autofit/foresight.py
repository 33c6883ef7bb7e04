"""What can be known before anything is tried: the machine's limits, the model's traces, and the plan they make."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from autofit.domain.errors import AutofitError, UsageError
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.knobs.attention import Attention
from autofit.domain.ladder import Ladder
from autofit.domain.model import ModelShape
from autofit.domain.plan import Plan
from autofit.domain.request import Request
from autofit.domain.strategy import Rung
from autofit.domain.trace import MicroStep, Trace
from autofit.hardware import sku
from autofit.hardware.hub import Hub
from autofit.hardware.machine_spec import parse_machine
from autofit.hardware.model_files import read_model_files
from autofit.hardware.requirements import OPTIONAL, installed_here
from autofit.planning.activations import wanted_micro_steps
from autofit.planning.axes import rungs, settle
from autofit.planning.ladder import build_ladder
from autofit.planning.plan import make_plan
from autofit.planning.setting import Setting
from autofit.probing.prober import Tracer
from autofit.scene import absolute
from autofit.store import Store
from autofit.store.fingerprint import trace_fingerprint
from autofit.store.machine_kind import DeviceKey
from autofit.store.versions import versions
from autofit.tools import REAL_TOOLS, StartTracer, Tools

TRACER_VERSION = 2
"""Rises when a trace of the same micro-step would say something else."""

ALL_INSTALLED = frozenset(one.package for one in OPTIONAL)
"""What a described machine is taken to have."""

Tell = Callable[[str], None]


class Tracing:
    """The traces of one request's model, from `with` to its end; the tracer starts when the first one is missing."""

    def __init__(self, request: Request, store: Store, start: StartTracer, tell: Tell) -> None:
        self._request, self._store, self._start, self._tell = request, store, start, tell
        self._tracer: Tracer | None = None
        self._is_traceable = True
        self._open = ExitStack()

    def __enter__(self) -> Tracing:
        self._folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="autofit-trace-")))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def traces(self, micro_steps: Iterable[MicroStep]) -> tuple[Trace, ...]:
        """Those of `micro_steps` that can be had; what cannot be traced is told once."""
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
    """UsageError for what cannot be asked for."""
    return build_ladder(setting, settle(setting))


def foresee(
    request: Request,
    hardware: Hardware,
    shape: ModelShape,
    *,
    worst_tokens: int,
    is_padded: bool,
    mean_tokens: float | None,
    installed: frozenset[str],
    store: Store,
    tracing: Tracing,
) -> Setting:
    """The setting with all that is remembered of such devices and all traces that its rungs want."""
    setting = Setting(
        request,
        hardware,
        shape,
        worst_tokens,
        is_padded,
        mean_tokens,
        known_constants=store.get_constants(DeviceKey.of(hardware.devices[0], versions())),
        installed=installed,
    )
    return replace(setting, traces=tracing.traces(wanted_micro_steps(_rungs(setting), setting)))


def plan(request: Request, on: tuple[str, ...], *, tell: Tell, tools: Tools = REAL_TOOLS) -> tuple[Plan, ...]:
    """One plan for each machine that `on` describes, best first; of the machine here when it is empty.

    UsageError for a machine, a model or a batch that cannot be. The data is not looked at: rows are taken to be as long
    as the request allows, and some of them shorter, so that there is a mask.
    """
    model = read_model_files(request.model, needs_weights=False)
    notes = (*model.notes, *_data_notes(request))
    request = replace(request, model=absolute(model.path_or_id))
    machines = [_described(text, request) for text in on] or [tools.look(Path(), request)]
    with tools.open_store() as store, Tracing(request, store, tools.start_tracer, tell) as tracing:
        plans = [_plan(request, machine, bool(on), model.shape, notes, store, tracing) for machine in machines]
    return best_first(plans)


def best_first(plans: Iterable[Plan]) -> tuple[Plan, ...]:
    """By the speed of their choice."""
    return tuple(sorted(plans, key=_speed, reverse=True))


def _plan(
    request: Request,
    hardware: Hardware,
    is_described: bool,
    shape: ModelShape,
    notes: tuple[str, ...],
    store: Store,
    tracing: Tracing,
) -> Plan:
    setting = foresee(
        request,
        hardware,
        shape,
        worst_tokens=request.sequence_length,
        is_padded=True,
        mean_tokens=None,
        installed=ALL_INSTALLED if is_described else installed_here(),
        store=store,
        tracing=tracing,
    )
    if is_described and any(rung.attention is Attention.FLASH_2 for rung in _rungs(setting)):
        notes = (*notes, "FlashAttention-2 must be installed there (pip install flash-attn).")
    return make_plan(setting, bigger=_other_machines(hardware), notes=notes)


def _rungs(setting: Setting) -> tuple[Rung, ...]:
    """None where the device lacks what is pinned: the plan says so, and nothing needs to be traced."""
    try:
        return rungs(setting, settle(setting))
    except UsageError:
        return ()


def _data_notes(request: Request) -> tuple[str, ...]:
    if request.data is None:
        return ()
    return (f"{request.data} is not looked at: all rows are taken to be {request.sequence_length:,} tokens long.",)


def _described(text: str, request: Request) -> Hardware:
    if request.ranks is not None:
        raise UsageError(f"--ranks {request.ranks} is for the machine here; --on {text} says how many devices it has.")
    return replace(parse_machine(text), memory_limit_bytes=request.memory_limit_bytes)


def _other_machines(hardware: Hardware) -> tuple[Hardware, ...]:
    """With as many of each other known device in the same hosts; none beside CPU ranks, which only stand in."""
    if hardware.kind is DeviceKind.CPU:
        return ()
    node = hardware.nodes[0]
    described = (parse_machine(f"{len(node.devices)}x{product.key}").nodes[0] for product in sku.known())
    others = (replace(other, host=node.host, network_bytes_per_s=node.network_bytes_per_s) for other in described)
    return tuple(Hardware((other,) * len(hardware.nodes)) for other in others)


def _speed(one: Plan) -> float:
    """Relative speeds say nothing across machines: such a machine stands behind the others."""
    estimate = None if one.choice is None else one.choice.estimate
    if estimate is None:
        return 0.0
    return 1.0 + estimate.speed.tokens_per_s if estimate.speed.is_absolute else 1.0


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
