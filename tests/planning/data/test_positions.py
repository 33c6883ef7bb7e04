"""Rows that are longer than a model's positions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.model import Positions
from autofit.planning.data.positions import check_positions
from tests.builders import make_shape


def check(
    tokens: int, positions: Positions, *, count: int | None = 64, kind: DeviceKind = DeviceKind.CPU
) -> tuple[str, ...]:
    return check_positions(tokens, replace(make_shape("short", 2, 128, 10**6), max_positions=count), positions, kind)


@pytest.mark.parametrize("positions", list(Positions))
def test_rows_within_them(positions: Positions) -> None:
    assert check(64, positions) == ()


@pytest.mark.parametrize("positions", [Positions.TABLE, Positions.ROTARY])
def test_a_number_that_nobody_knows_is_no_limit(positions: Positions) -> None:
    assert check(10**6, positions, count=None) == ()


def test_a_table_ends() -> None:
    with pytest.raises(UsageError, match=r"--seq 65 is beyond the 64 positions .* use --seq 64 or less"):
        check(65, Positions.TABLE)


def test_a_table_must_hold_the_padding_too() -> None:
    """A GPU's batches are padded to a multiple of 8, so rows of 98 tokens need 104 positions."""
    assert check(98, Positions.TABLE, count=104, kind=DeviceKind.CUDA) == ()
    with pytest.raises(UsageError, match=r"beyond the 100 positions .* use --seq 96 or less"):
        check(98, Positions.TABLE, count=100, kind=DeviceKind.CUDA)


def test_rotary_positions_go_on_and_what_scales_them_is_said() -> None:
    (note,) = check(200, Positions.ROTARY)
    assert '"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64' in note


def test_a_bias_by_distance_has_no_end() -> None:
    assert check(10**6, Positions.OTHER) == ()
