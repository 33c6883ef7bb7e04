"""Models whose weights are stored quantised: what may be trained of them."""

from __future__ import annotations

from typing import Any

import pytest

from autofit.app.stored_model import as_stored
from autofit.domain.errors import UsageError
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.pins import Pins
from autofit.domain.knobs.quantization import QUANTIZING_PACKAGE, Quantization
from tests.builders import make_request

INSTALLED = {QUANTIZING_PACKAGE}


def asked(**pins: Any) -> Any:
    return make_request("stored", pins=Pins(**pins))


def test_plain_weights_leave_a_request_as_it_is() -> None:
    assert as_stored(asked(), None, ()) == asked()


@pytest.mark.parametrize("pins", [{}, {"method": Method.LORA}, {"quantization": Quantization.NF4, "zero_stage": 3}])
def test_adapters_are_trained_on_what_is_stored(pins: dict[str, Any]) -> None:
    expected = {**pins, "method": Method.LORA, "quantization": Quantization.NF4}
    assert as_stored(asked(**pins), Quantization.NF4, INSTALLED) == asked(**expected)


@pytest.mark.parametrize(
    ("pins", "said"),
    [
        ({"method": Method.FULL}, "--method full cannot be used: the weights of stored are stored in nf4, and only"),
        ({"quantization": Quantization.INT8}, "--quantize int8 cannot be used"),
        ({"quantization": Quantization.NONE}, "--quantize none cannot be used"),
    ],
)
def test_what_cannot_be_trained_of_it_is_refused(pins: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=f"{said}.*name the model that it was made from"):
        as_stored(asked(**pins), Quantization.NF4, INSTALLED)


def test_without_its_package_it_is_refused_with_what_to_install() -> None:
    with pytest.raises(UsageError, match=r"stored is stored quantised by bitsandbytes, .* pip install bitsandbytes"):
        as_stored(asked(), Quantization.INT8, ())
