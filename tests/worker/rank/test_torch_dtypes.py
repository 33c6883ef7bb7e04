"""The one table of dtypes is what torch says of them."""

from __future__ import annotations

import pytest

from autofit.domain.knobs.dtype import Dtype, element_bytes
from autofit.worker.rank.torch_dtypes import DTYPES, TORCH_DTYPES


@pytest.mark.parametrize("dtype", list(Dtype))
def test_every_dtype_is_known_to_torch_with_its_bytes(dtype: Dtype) -> None:
    assert TORCH_DTYPES[dtype].itemsize == element_bytes(dtype)
    assert DTYPES[TORCH_DTYPES[dtype]] is dtype
