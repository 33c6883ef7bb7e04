"""What is the user's own says no: it is shown as it is, and nothing is left behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Unsupported, UserFault
from autofit.domain.script import RuntimePatches, Script
from autofit.probing.agent import Agent
from autofit.probing.agent_program import USER_SCRIPT
from autofit.probing.protocol import ScriptJob, ScriptSpec, Share
from tests.faults.bench import ProbeBench
from tests.faults.surroundings import Surroundings

pytestmark = [pytest.mark.slow, pytest.mark.matrix]

_REFUSES = "{{ raise_exception('roles must take turns') }}"
_SCRIPTS = {
    "raises": ("raise KeyError('no column answer')", UserFault, "no column answer"),
    "leaves": ("import sys; sys.exit(3)", Unsupported, "ended by itself with exit code 3"),
}


def test_data_that_is_not_there_is_named_before_a_probe(probe_bench: ProbeBench, tmp_path: Path) -> None:
    gone = tmp_path / "gone.jsonl"
    refused = _refusal(probe_bench, tmp_path, data=str(gone))
    assert str(gone) in refused


def test_a_template_that_refuses_the_data_is_quoted_with_the_row(probe_bench: ProbeBench, tmp_path: Path) -> None:
    model, rows = tmp_path / "model", tmp_path / "chats.jsonl"
    model.mkdir()
    for path in probe_bench.inputs.model.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    config = model / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": _REFUSES}))
    turns = [{"role": "user", "content": "rain?"}, {"role": "assistant", "content": "soon"}]
    rows.write_text(f"{json.dumps({'messages': turns})}\n" * 8)
    refused = _refusal(probe_bench, tmp_path, model=str(model), data=str(rows))
    assert "roles must take turns" in refused
    assert str(rows) in refused


def _refusal(bench: ProbeBench, folder: Path, **changes: str) -> str:
    bench.agent.wait_ready()
    before = bench.surroundings.now()
    with pytest.raises(UsageError) as found:
        bench.agent.survey(replace(bench.inputs.request, **changes), log_path=folder / "survey.log")  # type: ignore[arg-type]
    assert bench.surroundings.left_behind(before) == ()
    return str(found.value)


@pytest.mark.parametrize("kind", list(_SCRIPTS))
def test_a_script_that_fails_is_told_by_its_own_words(kind: str, tmp_path: Path) -> None:
    source, ending, words = _SCRIPTS[kind]
    (tmp_path / "train.py").write_text(f"{source}\n")
    surroundings = Surroundings(tmp_path / "around")
    before = surroundings.now()
    with (
        surroundings.entered(),
        Agent(kind=DeviceKind.CPU, log_path=tmp_path / "agent.log", program=USER_SCRIPT) as agent,
    ):
        share = Share(0, 1, 0, 2, ("0", "1"), agent.master_address, agent.free_port())
        job = ScriptJob(Script("train.py", (), directory=str(tmp_path)), None, RuntimePatches(), DeviceKind.CPU, 2)
        spec = ScriptSpec(job, (share,), str(tmp_path / "scratch"), str(tmp_path / "log"), 60.0)
        outcome, _ = agent.inspect(spec, lambda phase: None)
    assert isinstance(outcome, ending), outcome
    assert words in outcome.why
    assert not (tmp_path / "scratch").exists()
    assert surroundings.left_behind(before) == ()
