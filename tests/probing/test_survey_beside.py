"""A survey that goes on beside what else an agent is asked: what is heard of it, and when."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from autofit.domain.errors import InternalError, UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Measured, Phase
from autofit.domain.workload import DataProfile
from autofit.probing.agent import Agent
from autofit.probing.protocol import (
    AgentFailed,
    Foreseen,
    Message,
    Ready,
    RowsMade,
    Surveyed,
    SurveyRefused,
    Traced,
)
from tests.probing import test_agent_contract as contract
from tests.probing.test_agent_limits import REQUEST, STEP, Stage
from tests.waiting import wait_until

LOG = Path("survey.log")
WHOLE = DataProfile("d.jsonl", "text", 9, 0, 40, (20, 40))
FORETOLD = replace(WHOLE, longest_tokens=64, is_foreseen=True)
TRACED = Traced(())


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def surveyed(agent: Agent, heard: list[RowsMade], patience_s: float | None = None) -> DataProfile:
    return agent.survey(REQUEST, log_path=LOG, patience_s=patience_s, on_rows=heard.append)


def test_rows_that_are_counted_in_time_are_not_foreseen(stage: Stage) -> None:
    heard: list[RowsMade] = []
    with stage.agent(Ready(0.1), Foreseen(FORETOLD), RowsMade(1, 9), Surveyed(WHOLE)) as agent:
        assert surveyed(agent, heard, patience_s=600.0) == WHOLE
    assert heard == [RowsMade(1, 9)]


def test_what_is_foreseen_is_taken_where_patience_is_over_and_the_count_is_heard_beside(stage: Stage) -> None:
    heard: list[RowsMade] = []
    says: list[Message] = [Ready(0.1), RowsMade(1, 9), Foreseen(FORETOLD), RowsMade(5, 9), Surveyed(WHOLE), TRACED]
    with stage.agent(*says) as agent:
        assert surveyed(agent, heard, patience_s=0.0) == FORETOLD
        assert heard == [RowsMade(1, 9)]
        assert agent.trace(REQUEST, (STEP,), log_path=LOG) == TRACED
        assert heard == [RowsMade(1, 9), RowsMade(5, 9)]
        assert agent.surveyed(is_awaited=False) == WHOLE


def test_a_count_that_goes_on_is_waited_for_only_where_that_is_asked(stage: Stage) -> None:
    with stage.agent(Ready(0.1), Foreseen(FORETOLD)) as agent:
        surveyed(agent, [], patience_s=0.0)
        assert agent.surveyed(is_awaited=False) is None
    with stage.agent(Ready(0.1), Foreseen(FORETOLD), RowsMade(5, 9), Surveyed(WHOLE)) as agent:
        surveyed(agent, [], patience_s=0.0)
        assert agent.surveyed(is_awaited=True) == WHOLE


def test_rows_that_are_refused_end_whatever_is_asked_meanwhile(stage: Stage) -> None:
    with stage.agent(Ready(0.1), Foreseen(FORETOLD), SurveyRefused("row 7 is broken")) as agent:
        surveyed(agent, [], patience_s=0.0)
        with pytest.raises(UsageError, match="row 7 is broken"):
            agent.trace(REQUEST, (STEP,), log_path=LOG)


def test_a_survey_that_dies_beside_a_probe_ends_the_search(stage: Stage) -> None:
    with stage.agent(Ready(0.1), Foreseen(FORETOLD), AgentFailed("the process for Survey ended")) as agent:
        surveyed(agent, [], patience_s=0.0)
        with pytest.raises(InternalError, match="the process for Survey ended"):
            agent.surveyed(is_awaited=True)


@pytest.mark.slow
def test_a_real_survey_goes_on_beside_a_probe_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes count; the longest row comes late. What is interrupted ends with all of them."""
    mark = contract._mark(monkeypatch)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "d.jsonl"
    rows = [{"text": f"number {number}" + " and so on" * (12 if number == 20_900 else 0)} for number in range(21_000)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked, phases, heard = replace(contract.REQUEST, data=str(data), sequence_length=64), [], []  # type: ignore[var-annotated]
    how = {"log_path": tmp_path / "survey.log", "most_processes": 2, "patience_s": 0.0, "on_rows": heard.append}
    with Agent(kind=DeviceKind.CPU, log_path=tmp_path / "agent.log") as agent:
        foretold = agent.survey(asked, **how)  # type: ignore[arg-type]
        assert (foretold.is_foreseen, foretold.longest_tokens) == (True, 64)
        outcome = contract.Bench(agent, tmp_path).probe(contract.Bench(agent, tmp_path).spec(), phases.append)
        assert isinstance(outcome, Measured), outcome
        assert Phase.FORWARD in phases
        seen = agent.surveyed(is_awaited=True)
        assert seen is not None
        assert foretold.sampled_lengths_tokens[-1] < seen.longest_tokens < 64
        assert heard
        data.write_text(data.read_text().replace("number", "figure"))
        agent.survey(asked, **how)  # type: ignore[arg-type]
        wait_until(lambda: len(contract._marked(mark)) >= 6)  # the agent, its fork server, who surveys, who make rows
    wait_until(lambda: not contract._marked(mark))
