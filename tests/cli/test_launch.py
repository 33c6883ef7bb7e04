"""The door: what the first word means, and how a launched command ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import autofit.app
from autofit.domain.deepspeed_line import LaunchLine, LaunchSettings
from autofit.domain.event import Note
from tests.cli.command import end

ROOT = Path(__file__).resolve().parents[2]


class Launches:
    """Stands for `autofit.app.launch.launch`, and remembers."""

    def __init__(self) -> None:
        self.lines: list[LaunchLine] = []
        self.code = 0

    def launch(self, line: LaunchLine, settings: LaunchSettings, *, screen: Any, log_crash: object) -> int:
        self.lines.append(line)
        with screen:
            screen.show(Note("looked"))
        return self.code


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Launches:
    heard = Launches()
    module = types.ModuleType("autofit.app.launch")
    module.launch = heard.launch  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "autofit.app.launch", module)
    monkeypatch.setattr(autofit.app, "launch", module, raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("train.py", "plan"):
        Path(name).touch()
    Path("package").mkdir()
    Path("package", "__main__.py").touch()
    return heard


@pytest.mark.parametrize(
    ("words", "script"),
    [
        ("train.py a", "train.py"),
        ("package", "package"),
        ("--num_gpus 2 nowhere.py", "nowhere.py"),
        ("-q plan", "plan"),
        ("launch plan", "plan"),
        ("launch nowhere", "nowhere"),
        ("--autofit-off --module train", "train"),
    ],
)
def test_a_line_of_deepspeed(launches: Launches, words: str, script: str) -> None:
    assert end(*words.split()) == 0
    assert [line.script for line in launches.lines] == [script]


def test_what_is_said_goes_to_stderr(launches: Launches, capsys: pytest.CaptureFixture[str]) -> None:
    end("train.py")
    said = capsys.readouterr()
    assert said.out == ""
    assert "looked" in said.err


def test_the_exit_code_is_that_of_the_launch(launches: Launches) -> None:
    launches.code = 247
    assert end("train.py") == 247


def test_a_word_that_is_neither(launches: Launches, capsys: pytest.CaptureFixture[str]) -> None:
    assert end("trian.py", "--x") == 2
    assert launches.lines == []
    message = capsys.readouterr().err
    assert "'trian.py' is neither a verb of autofit (train, launch, plan, compare, doctor, " in message


@pytest.mark.parametrize("words", ["--help", "-h"])
def test_help_of_the_whole_names_both_ways(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert end(words) == 0
    out = capsys.readouterr().out
    assert "launch" in out
    assert "autofit --num_gpus 8 train.py --deepspeed ds_config.json" in out


@pytest.mark.parametrize(
    "words", ["launch --help", "launch -h", "--autofit-help", "--num_gpus 2 -h", "launch -q --help"]
)
def test_help_of_a_launch_has_the_options_of_both(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert end(*words.split()) == 0
    out = capsys.readouterr().out
    assert "--autofit-memory-limit SIZE" in out
    assert "--num_gpus, --num_accelerators N" in out


def test_an_option_of_ours_that_is_wrong(launches: Launches, capsys: pytest.CaptureFixture[str]) -> None:
    assert end("--autofit-of", "train.py") == 2
    assert launches.lines == []
    assert "autofit launch --help tells more." in capsys.readouterr().err


_LAUNCH = """
import sys, types
module = types.ModuleType("autofit.app.launch")
def launch(line, settings, **rest):
    {body}
module.launch = launch
sys.modules["autofit.app.launch"] = module
from autofit.cli.main import main
from autofit.process.signals import wait
main(["--module", "m"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("body", ["return -{}", "import os; os.kill(os.getpid(), {}); wait((), 120)"])
def test_a_launch_dies_of_the_signal(number: signal.Signals, body: str) -> None:
    """Of the job's, and of one that comes before there is a job."""
    program = _LAUNCH.format(body=body.format(int(number)))
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == -number


def test_a_line_that_is_handed_over_at_once_waits_for_nothing_that_a_search_needs() -> None:
    heavy = ("rich", "importlib.metadata", "autofit.domain.event", "autofit.domain.request", "autofit.planning.plan")
    program = _LAUNCH.format(body=f"print([name for name in {heavy!r} if name in sys.modules]); return 0")
    program = program.replace("from autofit.cli", "import autofit.running.handover; from autofit.cli")
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_ignored_from_the_start_stays_ignored(number: signal.Signals) -> None:
    program = _LAUNCH.format(body=f"import os; os.kill(os.getpid(), {int(number)}); return 7")
    ended = subprocess.run(
        [sys.executable, "-c", program], preexec_fn=lambda: signal.signal(number, signal.SIG_IGN) and None, check=False
    )
    assert ended.returncode == 7


@pytest.mark.skipif(not (ROOT / ".venv/bin/autofit").exists(), reason="nothing is installed into .venv")
def test_the_drop_in_name_knows_no_verb(tmp_path: Path) -> None:
    """And is not fooled by itself on PATH."""
    environment = os.environ | {"PATH": f"{ROOT / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    asked = subprocess.run(["deepspeed", "--help"], env=environment, capture_output=True, text=True, check=True)
    assert "--autofit-off" in asked.stdout
    assert "--master_port N" in asked.stdout
