from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from autofit.domain.deepspeed_line import LauncherOptions, LaunchLine
from autofit.domain.hardware import DeviceKind
from autofit.domain.line_decision import BatchFlags, Decision
from autofit.domain.script import RuntimePatches
from autofit.running.script_command import command_script, starting_words

LINE = LaunchLine(("--num_gpus", "2"), "train.py", ("--deepspeed", "ds.json"))
OWN = Decision("as it is", DeviceKind.CUDA)
TURNED = Decision("zero2", DeviceKind.CUDA, "/run/ds.json")


def words_of(line: LaunchLine, decision: Decision, limit_bytes: int | None) -> tuple[str, ...]:
    return starting_words(line, decision, memory_limit_bytes=limit_bytes)


def test_a_changed_config_alone_starts_the_script_itself() -> None:
    words = words_of(LINE, TURNED, None)
    assert words == ("--num_gpus", "2", "train.py", "--deepspeed", "/run/ds.json")


def test_the_batch_goes_into_the_flags_that_are_there_today() -> None:
    line = replace(LINE, arguments=(*LINE.arguments, "--per_device_train_batch_size", "8", "--resume", "x"))
    words = words_of(line, replace(TURNED, flags=BatchFlags(2, 4)), None)
    assert words[5:] == ("--per_device_train_batch_size", "2", "--resume", "x", "--gradient_accumulation_steps", "4")


def test_what_is_turned_within_goes_through_the_entry() -> None:
    words = words_of(LINE, replace(TURNED, turns=RuntimePatches(gradient_checkpointing=True)), None)
    assert words[2:4] == ("--module", "autofit.worker.entry")
    assert words[5:] == ("train.py", "--deepspeed", "/run/ds.json")


def test_a_module_says_so_once() -> None:
    line = LaunchLine(("--module",), "pkg.train", (), LauncherOptions(is_module=True))
    assert words_of(line, OWN, 10**9).count("--module") == 1


def test_the_users_own_is_started_word_for_word() -> None:
    assert words_of(LINE, OWN, None) == LINE.words


def test_the_script_of_the_run_folder_survives_spaces() -> None:
    line = LaunchLine((), "my train.py", ("--x", "a b"))
    launcher = ["/my tools/python", "-m", "deepspeed.launcher.runner"]
    text = command_script(launcher, words_of(line, OWN, None), "/some where", Path("/run/ds.json"))
    assert shlex.split(text.splitlines()[-1]) == ["exec", *launcher, "my train.py", "--x", "a b"]
    assert "cd '/some where'" in text


@pytest.mark.parametrize("flag", ["--deepspeed=", ""])
def test_the_script_names_the_config_of_the_folder_that_it_lies_in(tmp_path: Path, flag: str) -> None:
    made, moved, work = (tmp_path / name for name in ("made here", "moved there", "work"))
    for folder in (made, work):
        folder.mkdir()
    launcher = tmp_path / "launcher"
    launcher.write_text('#!/bin/sh\nprintf "%s\\n" "$AUTOFIT_OFF" "$PWD" "$@"\n')
    launcher.chmod(0o755)
    script = command_script([str(launcher)], ("train.py", f"{flag}{made}/ds.json"), str(work), made / "ds.json")
    (made / "command.sh").write_text(script)
    made.rename(moved)
    ended = subprocess.run(["sh", "moved there/command.sh"], cwd=tmp_path, capture_output=True, text=True)
    assert ended.stdout.splitlines() == ["1", str(work), "train.py", f"{flag}{moved}/ds.json"], ended.stderr
