"""A model whose weights are stored quantised, which only adapters can be trained on."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Any

from autofit.domain.errors import UsageError
from autofit.domain.knobs.knob import Knob
from autofit.domain.knobs.method import METHOD, Method
from autofit.domain.knobs.quantization import QUANTIZATION, QUANTIZING_PACKAGE, Quantization
from autofit.domain.request import Request


def as_stored(request: Request, stored: Quantization | None, installed: Container[str]) -> Request:
    """The request with the pins that a model in `stored` leaves open, unchanged where its weights are plain (None);
    UsageError where it asks for something else, or where the package that has quantised it is not `installed`."""
    if stored is None:
        return request
    if QUANTIZING_PACKAGE not in installed:
        raise UsageError(
            f"{request.model} is stored quantised by {QUANTIZING_PACKAGE}, which is not installed: pip install "
            f"{QUANTIZING_PACKAGE}, or name the model that it was made from."
        )
    _check_pin(request, METHOD, Method.LORA, stored)
    _check_pin(request, QUANTIZATION, stored, stored)
    return replace(request, pins=request.pins.but(method=Method.LORA, quantization=stored))


def _check_pin(request: Request, knob: Knob[Any], only: object, stored: Quantization) -> None:
    pinned = request.pins.of(knob)
    if pinned is not None and pinned != only:
        assert knob.flag is not None
        raise UsageError(
            f"{knob.flag.name} {knob.of(pinned).word} cannot be used: the weights of {request.model} are stored in "
            f"{stored.value}, and only adapters can be trained on them as they are; name the model that it was made "
            "from."
        )
