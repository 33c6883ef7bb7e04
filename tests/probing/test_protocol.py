from dataclasses import replace

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.domain.workload import BatchShape
from autofit.probing.protocol import (
    Heartbeat,
    Job,
    ProbeSpec,
    Refused,
    RunProbe,
    RunProbes,
    read_command,
    read_message,
    read_probe,
    read_report,
    to_line,
)
from tests.builders import make_request, make_rung

STRATEGY = Strategy(
    make_rung(1),
    1,
    4,
)
JOB = Job(make_request(), STRATEGY, '{"a": 1}', DeviceKind.CPU, 2)


def test_a_command_is_one_line_and_comes_back_whole() -> None:
    shapes = (BatchShape(64, 60.5), BatchShape(32, 32.0))
    probe = RunProbe(7, ProbeSpec(JOB, shapes[:1], shapes, "s", "l\n", 1.5, True))
    assert read_probe(to_line(probe)) == probe
    command = RunProbes((probe, replace(probe, number=8)))
    line = to_line(command)
    assert line.count(b"\n") == 1
    assert read_command(line) == command


def test_a_message_of_the_wrong_direction_is_refused() -> None:
    assert read_message(to_line(Refused("no"))) == Refused("no")
    with pytest.raises(ValueError, match="Refused"):
        read_command(to_line(Refused("no")))
    with pytest.raises(ValueError, match="Heartbeat"):
        read_report(to_line(Heartbeat(1, 0, Phase.BUILD, 0)))
