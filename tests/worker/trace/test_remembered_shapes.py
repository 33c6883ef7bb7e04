"""What is remembered of an operator is what torch says of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode

from autofit.worker.trace import remembered_shapes
from autofit.worker.trace.remembered_shapes import call

ATEN = torch.ops.aten


@pytest.fixture(autouse=True)
def mode() -> Iterator[FakeTensorMode]:
    remembered_shapes._REMEMBERED.clear()
    with FakeTensorMode() as mode:
        yield mode


def row(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype)


def told(out: Any) -> Any:
    if isinstance(out, (list, tuple)):
        return [told(one) for one in out]
    if not isinstance(out, torch.Tensor):
        return out
    return out.shape, out.stride(), out.storage_offset(), out.dtype, out.device, out.untyped_storage().nbytes()


OPERATORS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "a product": (ATEN.mm.default, lambda: (row(4, 8), row(8, 3)), {}),
    "a product of a view": (ATEN.mm.default, lambda: (row(8, 4).t(), row(8, 3)), {}),
    "a sum that is spread": (ATEN.add.Tensor, lambda: (row(4, 1), row(1, 6, dtype=torch.float32)), {}),
    "a sum of a number": (ATEN.add.Tensor, lambda: (row(4), 1), {}),
    "another dtype": (ATEN._to_copy.default, lambda: (row(4, 3).t(),), {"dtype": torch.float32}),
    "a concatenation": (ATEN.cat.default, lambda: ([row(2, 3), row(4, 3)],), {}),
    "a mean that keeps its dimension": (ATEN.mean.dim, lambda: (row(4, 8), [-1], True), {}),
    "an embedding": (ATEN.embedding.default, lambda: (row(10, 4), row(2, 3, dtype=torch.int64)), {}),
    "a comparison": (ATEN.gt.Scalar, lambda: (row(4), 0), {}),
    "a transposed copy": (ATEN.clone.default, lambda: (row(4, 3).t(),), {"memory_format": torch.contiguous_format}),
    "two results": (ATEN.native_dropout.default, lambda: (row(4, 3), 0.1, True), {}),
    "a view": (ATEN.view.default, lambda: (row(4, 6), [2, 12]), {}),
    "a view that its schema does not name": (ATEN._unsafe_view.default, lambda: (row(4, 6), [24]), {}),
    "a part": (ATEN.slice.Tensor, lambda: (row(8, 6), 0, 2, 4), {}),
    "several views": (ATEN.split.Tensor, lambda: (row(8, 6), 3), {}),
    "in place": (ATEN.add_.Tensor, lambda: (row(4), row(4)), {}),
    "anew of nothing": (ATEN.arange.default, lambda: (5,), {"device": torch.device("cpu")}),
    "of a number that is known": (ATEN.mul.Tensor, lambda: (torch.tensor(2.0), torch.tensor(3.0)), {}),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_gives_what_torch_gives(name: str) -> None:
    func, arguments, named = OPERATORS[name]
    expected = told(func(*arguments(), **named))
    assert [told(call(func, arguments(), named)) for _ in range(3)] == [expected] * 3


def test_what_is_made_again_is_a_tensor_of_its_own() -> None:
    one, other = row(4, 8), row(8, 3)
    outs = [call(ATEN.mm.default, (one, other), {}) for _ in range(3)]
    assert len(remembered_shapes._REMEMBERED) == 1
    assert len({out.untyped_storage()._cdata for out in (*outs, one, other)}) == 5


@pytest.mark.parametrize("name", ["a view", "a view that its schema does not name", "a part"])
def test_a_view_lies_where_its_argument_does(name: str) -> None:
    func, arguments, _ = OPERATORS[name]
    taken = arguments()
    for _ in range(2):
        assert call(func, taken, {}).untyped_storage()._cdata == taken[0].untyped_storage()._cdata
    assert not remembered_shapes._REMEMBERED


def test_what_works_in_place_gives_what_it_was_given() -> None:
    one = row(4)
    assert call(ATEN.add_.Tensor, (one, row(4)), {}) is one


@pytest.mark.parametrize("numbers", [(1, 1.0), (True, 1)])
def test_equal_numbers_of_other_types_are_told_apart(numbers: tuple[float, float]) -> None:
    whole = row(4, dtype=torch.bool)
    dtypes = [call(ATEN.add.Tensor, (whole, number), {}).dtype for number in numbers]
    assert dtypes == [ATEN.add.Tensor(whole, number).dtype for number in numbers]
    assert dtypes[0] is not dtypes[1]


def test_a_value_that_is_known_stays_known() -> None:
    for number in (3.0, 4.0):
        out = call(ATEN.mul.Tensor, (torch.tensor(2.0), torch.tensor(number)), {})
        assert out.item() == 2 * number


def test_what_is_remembered_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered_shapes, "MOST", 2)
    for columns in range(1, 6):
        call(ATEN.mm.default, (row(4, 8), row(8, columns)), {})
        assert len(remembered_shapes._REMEMBERED) <= 2


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float32])
def test_what_is_not_told_by_its_shape_goes_torchs_way(dtype: torch.dtype) -> None:
    """Complex and sparse tensors."""
    whole = row(4, 4, dtype=dtype)
    special = whole if dtype.is_complex else whole.to_sparse()
    for _ in range(2):
        assert call(ATEN.neg.default, (special,), {}).layout is special.layout
    assert not remembered_shapes._REMEMBERED
