"""Which optimizers may be asked for, against transformers' own list and torch's own updates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import Adafactor
from transformers.training_args import OptimizerNames

from autofit.domain.errors import UsageError
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.pins import Pins
from autofit.domain.request import Request, Training
from autofit.worker.training.optimizers import ELEMENTWISE, KNOB, OFFLOADED, UNFAITHFUL, check_optimizer
from tests.builders import make_request


def asking(name: str, offload: Offload | None = None) -> Request:
    return make_request(pins=Pins(offload=offload), extra=("--optim", name))


def test_every_optimizer_of_transformers_is_judged_once() -> None:
    judged = [*OFFLOADED, *ELEMENTWISE, *KNOB, *UNFAITHFUL]
    assert sorted(judged) == sorted(name.value for name in OptimizerNames)


@pytest.mark.parametrize("name", sorted(UNFAITHFUL))
def test_another_algorithm_is_refused_by_name_with_the_reason(name: str) -> None:
    with pytest.raises(UsageError, match=f"--optim {name} would be another algorithm") as caught:
        check_optimizer(asking(name, Offload.NONE))
    assert UNFAITHFUL[name] in str(caught.value)


def test_what_offload_would_replace_needs_the_pin() -> None:
    with pytest.raises(UsageError, match=r"--optim rmsprop: with offload .*; add --offload none"):
        check_optimizer(asking("rmsprop"))
    check_optimizer(asking("rmsprop", Offload.NONE))
    check_optimizer(asking("adamw_torch", Offload.ALL))
    check_optimizer(replace(asking("rmsprop"), training=Training()))


@pytest.mark.parametrize("name", sorted(KNOB))
def test_what_the_knob_has_is_asked_for_by_its_flag(name: str) -> None:
    with pytest.raises(UsageError, match=f"--optim {name} is autofit's to set; use --optimizer {KNOB[name].value}$"):
        check_optimizer(asking(name, Offload.NONE))


def test_a_kind_of_adamw_stands_beside_no_other_optimizer() -> None:
    plain = asking("adamw_torch")
    check_optimizer(replace(plain, pins=Pins(optimizer=Optimizer.ADAMW), allow=("nf4",)))
    for other in (replace(plain, pins=Pins(optimizer=Optimizer.LION)), replace(plain, allow=("last-resorts",))):
        with pytest.raises(UsageError, match="--optim adamw_torch and --optimizer or --allow name the optimizer"):
            check_optimizer(other)


def flat_step(kind: Any, settings: dict[str, float], *, is_flat: bool) -> torch.Tensor:
    """Both parameters after three steps, as they are or as one flat tensor."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 4), (6,)]
    parts = [torch.randn(shape, generator=generator) for shape in shapes]
    parameters = [torch.cat([part.flatten() for part in parts])] if is_flat else parts
    for parameter in parameters:
        parameter.requires_grad_()
    optimizer = kind(parameters, lr=0.1, **settings)
    for _ in range(3):
        gradients = [
            torch.randn(shape, generator=generator) * size for shape, size in zip(shapes, (1, 100), strict=True)
        ]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        for parameter, gradient in zip(parameters, [flat] if is_flat else gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


@pytest.mark.parametrize(
    ("kind", "settings", "is_same"),
    [
        (torch.optim.AdamW, {}, True),
        (torch.optim.SGD, {"momentum": 0.9}, True),
        (torch.optim.Adagrad, {}, True),
        (torch.optim.RMSprop, {}, True),
        (Adafactor, {"scale_parameter": False, "relative_step": False}, False),
    ],
)
def test_an_elementwise_update_is_the_same_on_a_flat_tensor(
    kind: Any, settings: dict[str, float], is_same: bool
) -> None:
    whole, flat = (flat_step(kind, settings, is_flat=is_flat) for is_flat in (False, True))
    assert torch.allclose(whole, flat, atol=1e-6) is is_same
