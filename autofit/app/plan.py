"""The story of `autofit plan`: a request, the machines that are described, and a plan for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from autofit.app.context import Context, absolute, model_notes, shape_of
from autofit.app.estimation import (
    ALL_INSTALLED,
    assumed_setting,
    package_note,
    prepare_setting,
    usable_rungs,
    with_resort_traces,
)
from autofit.app.machine_order import MachineOrder
from autofit.app.stored_model import as_stored
from autofit.app.tools import REAL_TOOLS, Tools
from autofit.app.tracing import TraceProvider
from autofit.domain.errors import UsageError
from autofit.domain.event import Tell
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.knobs.attention import FLASH_PACKAGE, Attention
from autofit.domain.knobs.optimizer import PACKAGES
from autofit.domain.knobs.quantization import QUANTIZING_PACKAGE, Quantization
from autofit.domain.plan import Plan
from autofit.domain.request import Request
from autofit.domain.strategy import Change
from autofit.hardware import sku
from autofit.hardware.machine_spec import parse_machine
from autofit.hardware.requirements import installed_here
from autofit.inputs.model_files import read_model_files
from autofit.inputs.scoring_head import check_trainable
from autofit.planning.plan.candidates import make_plan
from autofit.planning.setting import Setting
from autofit.planning.speed.basis import speed_basis


def plan(
    request: Request,
    on: tuple[str, ...],
    *,
    tell: Tell,
    order: MachineOrder | None = None,
    tools: Tools = REAL_TOOLS,
) -> tuple[Plan, ...]:
    """One plan for each machine that `on` describes, best first; of the machine here when it is empty.

    UsageError for a machine, a price, a model or a batch that cannot be. The data is not looked at: rows are taken to
    be as long as the request allows, and some of them shorter, so that there is a mask.
    """
    order = order or MachineOrder()
    with prepared(request, on, tell=tell, tools=tools, check=order.check) as found:
        plans = [_plan(setting, found.notes, found.tracing, is_described=bool(on)) for setting in found.settings]
    return order.best_first(plans)


@dataclass(frozen=True)
class Prepared:
    """The settings of a request, one for each machine in the order in which they were named, with all that is known of
    them; `notes` are told of the request, whatever the machine."""

    settings: tuple[Setting, ...]
    notes: tuple[str, ...]
    tracing: TraceProvider


@contextmanager
def prepared(
    request: Request,
    on: tuple[str, ...],
    *,
    tell: Tell,
    tools: Tools,
    check: Callable[[Sequence[Hardware]], None] = lambda machines: None,
) -> Iterator[Prepared]:
    """What predictions are made of; the tracer runs until the end of `with`. UsageError as `plan`, and whatever `check`
    raises of the machines before anything is traced."""
    model = read_model_files(request.model, needs_weights=False)
    check_trainable(model, request.task)
    notes = (*model.notes, *_data_notes(request))
    installed = ALL_INSTALLED if on else installed_here()
    request = as_stored(replace(request, model=absolute(model.path_or_id)), model.stored, installed)
    machines = [_described(text, request) for text in on] or [tools.detect_for(Path(), request)]
    check(machines)
    with tools.open_store() as store, TraceProvider(request, store, tools.start_tracer, tell) as tracing:
        facts = tracing.facts()
        shape = shape_of(request.model, facts, model.shape)
        contexts = [Context(request, machine, shape, facts) for machine in machines]
        notes = (*notes, *dict.fromkeys(note for context in contexts for note in model_notes(context)))
        settings = [assumed_setting(context, installed) for context in contexts]
        yield Prepared(tuple(prepare_setting(setting, store, tracing) for setting in settings), notes, tracing)


def setting_notes(setting: Setting, *, is_described: bool) -> tuple[str, ...]:
    """What people are told of the packages and the speeds that a prediction rests on."""
    told = _needed_there(setting) if is_described else package_note(setting)
    return tuple(note for note in (told, speed_basis(setting)) if note)


def _plan(setting: Setting, notes: tuple[str, ...], tracing: TraceProvider, *, is_described: bool) -> Plan:
    found = (*notes, *setting_notes(setting, is_described=is_described))
    others = _other_machines(setting.hardware)
    made = make_plan(setting, bigger=others, notes=found)
    if made.choice is not None and made.choice.strategy.rung.change is not Change.NUMERICS:
        return made
    traced = with_resort_traces(setting, tracing)  # last resorts have a say, some of which are traced apart
    return made if traced == setting else make_plan(traced, bigger=others, notes=found)


def _needed_there(setting: Setting) -> str | None:
    """What a described machine is taken to have, of the packages that this model would use."""
    usable = usable_rungs(setting)
    has_flash = any(rung.attention is Attention.FLASH_2 for rung in usable)
    names = {FLASH_PACKAGE: "FlashAttention-2"} if has_flash else {}
    if any(rung.quantization is not Quantization.NONE for rung in usable):
        names[QUANTIZING_PACKAGE] = QUANTIZING_PACKAGE
    names |= {package: package for rung in usable if (package := PACKAGES.get(rung.optimizer))}
    names |= {package: package for package in setting.called_packages}
    if not names:
        return None
    return f"{', '.join(names.values())} must be installed there (pip install {' '.join(names)})."


def _data_notes(request: Request) -> tuple[str, ...]:
    if request.data is None:
        return ()
    return (f"{request.data} is not looked at: all rows are taken to be {request.sequence_length:,} tokens long.",)


def _described(text: str, request: Request) -> Hardware:
    if request.ranks is not None:
        raise UsageError(f"--ranks {request.ranks} is for the machine here; --on {text} says how many devices it has.")
    return replace(parse_machine(text), memory_limit_bytes=request.memory_limit_bytes)


def _other_machines(hardware: Hardware) -> tuple[Hardware, ...]:
    """The machine with as many of each other known device in the same hosts; none beside CPU ranks, which only stand
    in."""
    if hardware.kind is DeviceKind.CPU:
        return ()
    node = hardware.nodes[0]
    described = (parse_machine(f"{len(node.devices)}x{product.key}").nodes[0] for product in sku.known())
    others = (replace(other, host=node.host, network_bytes_per_s=node.network_bytes_per_s) for other in described)
    return tuple(Hardware((other,) * len(hardware.nodes)) for other in others)
