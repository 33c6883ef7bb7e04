"""The frozen copy of the model by which preference training measures the one that it trains."""

from __future__ import annotations

from autofit.domain.knobs.method import Method
from autofit.domain.request import Request
from autofit.domain.strategy import Rung
from autofit.planning.argument_words import is_switched_on, values_of


def has_reference_pass(request: Request) -> bool:
    """Whether each micro-step has a forward pass of the reference: not where its log-probabilities are computed before
    the training begins (`-- --precompute_ref_log_probs`), and of a task that generates only where the distance from it
    counts (`-- --beta 0.04`)."""
    if request.task.traits.generates:
        return _weighs(["0", *values_of(request.training.extra_arguments, "beta")][-1])
    is_precomputed = is_switched_on(request.training.extra_arguments, "precompute_ref_log_probs")
    return request.task.traits.has_reference and not is_precomputed


def _weighs(text: str) -> bool:
    """Whether a number is not 0; what is no number is refused elsewhere."""
    try:
        return float(text) != 0
    except ValueError:
        return False


def keeps_reference(rung: Rung, request: Request) -> bool:
    """Whether the reference is a model of its own: beside an adapter it is the model with the adapter switched off."""
    return has_reference_pass(request) and rung.method is Method.FULL


def runs_more_than_once(rung: Rung, request: Request) -> bool:
    """Whether the model that trains has other forward passes in a micro-step than the one that a backward pass follows:
    the one without its adapter, or those with rows' answers behind each other's prompts."""
    is_own_reference = has_reference_pass(request) and rung.method is Method.LORA
    return is_own_reference or compares_rows(request)


def forward_passes(request: Request) -> int:
    """The forward passes of a micro-step, the reference's among them, of which a backward pass follows one."""
    return (1 + compares_rows(request)) * (1 + has_reference_pass(request))


def compares_rows(request: Request) -> bool:
    """Whether a row's answer is also held against another row's prompt of its micro-batch, which takes two rows and one
    more forward pass of each model: KTO's estimate of how far the model has gone (Ethayarajh et al., 2024, section
    4.1), which trl 1.16 makes for its default loss alone."""
    losses = ["kto", *values_of(request.training.extra_arguments, "loss_type")]
    return request.task.traits.compares_rows and losses[-1] == "kto"
