"""One micro-step of a model of fake tensors, some of its decoder's layers left out."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from autofit.domain.outcome import Phase
from autofit.domain.trace import MicroStep, Moment
from autofit.worker.model.decoder import decoder_layers
from autofit.worker.trace.depth import Depth
from autofit.worker.trace.fake_model import make_fake
from autofit.worker.trace.full_depth import NotRepeatedError
from autofit.worker.trace.generation import generate
from autofit.worker.trace.ledger import Ledger
from autofit.worker.trace.loss_chunks import few_loss_chunks
from autofit.worker.trace.section import Section
from autofit.worker.trace.tasks.all_tasks import TRACED_TASKS


class MicroStepRun:
    """A model whose tensors are fake from here on, with the reference beside it that has a model of its own; it runs as
    often as one asks, the micro-steps that differ in nothing but their rows."""

    def __init__(self, model: nn.Module, reference: nn.Module | None = None) -> None:
        self._model, self._reference = model, reference
        self._all = [module for module in (model, reference) if module is not None]
        self._mode = FakeTensorMode()
        self._tensors = [tensor for module in self._all for tensor in make_fake(module, self._mode)]

    def sections(self, step: MicroStep, depth: Depth) -> list[Section]:
        """The sections of the layers that run; NotRepeatedError when others cannot be left out."""
        ledger = Ledger(step.kind, _shared_shapes(self._model))
        ledger.exempt(self._tensors)
        with contextlib.ExitStack() as stack:
            passes = Passes(self._model, ledger)
            for module in self._all:
                stack.enter_context(_without(decoder_layers(module), depth))
                stack.enter_context(_marked(decoder_layers(module), depth, ledger))
                stack.callback(module.register_forward_pre_hook(passes.hear).remove)
            for parameter in self._model.parameters():
                if parameter.requires_grad:
                    stack.callback(parameter.register_post_accumulate_grad_hook(ledger.take_gradient).remove)
            with few_loss_chunks(ledger), self._mode, ledger:
                self._run(step, ledger)
        return ledger.sections

    def generation(self, step: MicroStep, depth: Depth) -> tuple[Moment, ...]:
        """The moments of a generation by the layers that run; none where no answers are generated."""
        if not step.generated_rows:
            return ()
        ledger = Ledger(step.kind)
        ledger.exempt(self._tensors)
        with _without(decoder_layers(self._model), depth), self._mode, ledger:
            return generate(self._model, step, ledger)

    def _run(self, step: MicroStep, ledger: Ledger) -> None:
        task = TRACED_TASKS[step.task]
        ledger.begin(Phase.FORWARD)
        batch = task.batch(step)
        loss = task.loss(self._model.train(), batch, self._reference)
        ledger.begin(Phase.BACKWARD)
        loss.backward()
        if ledger.sections[-1].layer is not None:
            ledger.enter(None)  # nothing below the layers is trained
        del loss
        ledger.begin(Phase.EVALUATE)
        with torch.no_grad():
            task.loss(self._model.eval(), batch, self._reference)


class Passes:
    """Hears of each forward pass of a model and of its reference, and tells the ledger whose it is."""

    def __init__(self, model: nn.Module, ledger: Ledger) -> None:
        self._model, self._ledger = model, ledger
        self._has_run = False  # the pass that the backward pass follows: what comes then is the reference's

    def hear(self, *_: object) -> None:
        is_kept = torch.is_grad_enabled()
        if not self._model.training:
            self._ledger.begin_pass(Phase.EVALUATE)
        else:
            self._ledger.begin_pass(Phase.REFERENCE if self._has_run and not is_kept else Phase.FORWARD)
        self._has_run = self._has_run or is_kept


def _shared_shapes(model: nn.Module) -> frozenset[torch.Size]:
    """The shapes of trained parameters that several modules hold, such as tied embeddings."""
    everywhere = Counter(parameter for _, parameter in model.named_parameters(remove_duplicate=False))
    return frozenset(one.shape for one, count in everywhere.items() if count > 1 and one.requires_grad)


# --- Layers that run --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _marked(layers: nn.ModuleList, depth: Depth, ledger: Ledger) -> Iterator[None]:
    """Marks where sections begin: where a layer does, forward and backward, and where the last one ends."""
    last = len(layers) - 1

    def watch(tensor: torch.Tensor, layer: int | None) -> None:
        if tensor.requires_grad:
            tensor.register_hook(lambda _: ledger.enter(layer))

    def before(index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ledger.enter(index)
        if index == 0:
            watch(_hidden_states(args, kwargs), None)

    def after(index: int, out: Any) -> None:
        watch(out if isinstance(out, torch.Tensor) else out[0], index)
        if index == last:
            ledger.enter(None)

    with contextlib.ExitStack() as stack:
        for index in set(range(len(layers))) - set(depth.left_out_layers()):
            layer = layers[index]
            on_entry, on_exit = partial(_call_before, before, index), partial(_call_after, after, index)
            stack.callback(layer.register_forward_pre_hook(on_entry, with_kwargs=True).remove)
            stack.callback(layer.register_forward_hook(on_exit).remove)
        yield


def _call_before(before: Any, index: int, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    before(index, args, kwargs)


def _call_after(after: Any, index: int, _: nn.Module, args: tuple[Any, ...], out: Any) -> None:
    after(index, out)


def _hidden_states(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """What goes through the layers: their first argument."""
    tensor: torch.Tensor = args[0] if args else kwargs["hidden_states"]
    return tensor


# --- Layers that do not -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _without(layers: nn.ModuleList, depth: Depth) -> Iterator[None]:
    """Has the layers that are left out give on what comes in, in the form in which their like gives it.

    They stay where they are: the decoder's own code chooses by the number of a layer.
    """
    forms: dict[int, tuple[Any, ...] | None] = {}

    def learn(period_index: int, _: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        forms[period_index] = None if isinstance(out, torch.Tensor) else tuple(out[1:])

    def give_on(period_index: int, *args: Any, **kwargs: Any) -> Any:
        hidden_states, rest = _hidden_states(args, kwargs), forms[period_index]
        if rest is None:
            return hidden_states
        if any(value is not None for value in rest):
            raise NotRepeatedError  # the layers hand on more than one thing
        return (hidden_states, *rest)

    left_out = depth.left_out_layers()
    with contextlib.ExitStack() as stack:
        for period_index, index in enumerate(depth.first_period() if left_out else ()):
            stack.callback(layers[index].register_forward_hook(partial(learn, period_index)).remove)
        for index in left_out:
            layer: Any = layers[index]
            layer.forward = partial(give_on, (index - depth.start) % depth.period)
            stack.callback(delattr, layer, "forward")
        yield
