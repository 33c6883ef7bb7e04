"""On which cores rows are made, and when beside probes."""

from __future__ import annotations

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.planning.data.survey_cores import SurveyCores, survey_cores
from tests.builders import make_hardware, make_host


@pytest.mark.parametrize(
    ("kind", "ranks", "cores", "found"),
    [
        (DeviceKind.CPU, 2, 64, SurveyCores(32, is_beside=False)),  # the ranks compute on all of them
        (DeviceKind.CPU, 2, 2, SurveyCores(2, is_beside=False)),
        (DeviceKind.CUDA, 1, 16, SurveyCores(14, is_beside=True)),
        (DeviceKind.CUDA, 8, 17, SurveyCores(17, is_beside=False)),  # one would be left
        (DeviceKind.CUDA, 8, 18, SurveyCores(2, is_beside=True)),
        (DeviceKind.CUDA, 8, 192, SurveyCores(32, is_beside=True)),
        (DeviceKind.CUDA, 8, 8, SurveyCores(8, is_beside=False)),
    ],
)
def test_beside_probes_rows_are_made_on_what_no_rank_needs(
    kind: DeviceKind, ranks: int, cores: int, found: SurveyCores
) -> None:
    assert survey_cores(make_hardware(ranks, kind, host=make_host(core_count=cores))) == found
