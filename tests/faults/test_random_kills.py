"""SIGKILL at a random moment of a whole command: the same command ends as one that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from autofit.worker.agent.agent_folder import PREFIX
from tests.faults.command import Command, Running
from tests.faults.job import STEPS, Inputs
from tests.faults.saboteur import marked
from tests.spread import with_matrix

pytestmark = pytest.mark.slow

# Folders that nobody is left to take away: they go with the next start.
_TEMPORARY = (f"temporary file {PREFIX}", "temporary file autofit-trace-")
SEEDS = range(10)


@dataclass(frozen=True)
class Undisturbed:
    took_s: float
    losses: dict[int, float]
    rows: frozenset[str]
    model: bytes


@pytest.fixture(scope="module")
def undisturbed(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    command = Command.train(inputs, tmp_path_factory.mktemp("undisturbed"))
    ended = command.complete()
    assert (ended.exit_code, ended.left) == (0, ()), ended
    assert set(command.losses()) == set(range(1, STEPS + 1))
    return Undisturbed(ended.took_s, command.losses(), command.surroundings.rows, command.model())


@pytest.mark.parametrize("seed", with_matrix(SEEDS[:1], SEEDS[1:]))
def test_a_command_that_was_killed_anywhere_ends_like_one_that_was_not(
    inputs: Inputs, undisturbed: Undisturbed, seed: int, tmp_path: Path
) -> None:
    """Of every other seed the command itself is killed, of the others any process below it, which it must survive or
    explain."""
    command, draw = Command.train(inputs, tmp_path), random.Random(seed)
    running = command.start()
    has_ended = running.has_ended(draw.uniform(0.05, 0.9) * undisturbed.took_s)
    codes = {0}
    if not has_ended:
        victim = running.process.pid if seed % 2 == 0 else _any_below(running, draw)
        os.kill(victim, signal.SIGKILL)
        codes = {-signal.SIGKILL} if victim == running.process.pid else {0, 1}
    killed = running.ended()
    assert killed.exit_code in codes, killed
    assert all(one.startswith(_TEMPORARY) for one in killed.left), killed.left
    losses = command.losses()

    again = command.complete()
    assert again.exit_code == 0, again
    assert not any(one.startswith("temporary file") for one in command.surroundings.now())
    assert list(command.run.root.glob("*scratch*")) == []
    losses |= command.losses()
    assert losses == {step: undisturbed.losses[step] for step in losses}
    assert command.surroundings.rows == undisturbed.rows
    assert command.step_count() == STEPS
    assert command.model() == undisturbed.model


def _any_below(running: Running, draw: random.Random) -> int:
    below = sorted(set(marked(running.surroundings.mark)) - {running.process.pid})
    return draw.choice(below or [running.process.pid])
