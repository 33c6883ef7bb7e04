"""Faults of what stands above and beside a probe's ranks: the survey, the fork server, the agent. None of them is a
bug of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from autofit.probing.agent_program import Limits
from tests.faults.bench import lose_agent
from tests.faults.fault import Fault
from tests.faults.job import Inputs
from tests.faults.kinds import AGENT_FAULTS, AGENT_FAULTS_ALWAYS, AGENT_SILENCE_S, PROBE_SILENCE_S
from tests.spread import with_matrix

pytestmark = pytest.mark.slow

LIMITS = Limits(survey_s=AGENT_SILENCE_S, answer_s=AGENT_SILENCE_S)


@pytest.mark.parametrize("fault", with_matrix(AGENT_FAULTS_ALWAYS, AGENT_FAULTS), ids=str)
def test_a_fault_beside_the_ranks_is_told_and_leaves_nothing(inputs: Inputs, fault: Fault, tmp_path: Path) -> None:
    lose_agent(inputs, fault, tmp_path, silence_s=PROBE_SILENCE_S, limits=LIMITS).check(fault)
