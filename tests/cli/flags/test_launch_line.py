"""A line of `deepspeed` is taken apart as DeepSpeed would, and put together again as it was."""

from __future__ import annotations

import click
import pytest

from autofit.cli.flags.deepspeed_options import HelpAsked
from autofit.cli.flags.launch_line import parse_launch
from autofit.domain.deepspeed_line import LauncherOptions, LaunchLine, LaunchSettings, Override

GIB = 2**30


def parse(line: str) -> tuple[LaunchLine, LaunchSettings]:
    return parse_launch(line.split())


@pytest.mark.parametrize(
    ("line", "script", "arguments"),
    [
        ("train.py", "train.py", ""),
        ("train.py --deepspeed ds.json -q --help", "train.py", "--deepspeed ds.json -q --help"),
        ("--num_gpus 2 train.py a", "train.py", "a"),
        ("--num_gpus=2 --module pkg.train --x", "pkg.train", "--x"),
        ("-q -H hosts -i h:0@g train.py --num_gpus 3", "train.py", "--num_gpus 3"),
        ("-Hhosts -qe h:0 train.py", "train.py", ""),
        ("--num_acc 2 --launcher_arg=--x train.py", "train.py", ""),
        ("--node_rank -1 train.py -1", "train.py", "-1"),
        ("-- train.py -q", "train.py", "-q"),
        ("-- --odd-name.py -- -q", "--odd-name.py", "-- -q"),
    ],
)
def test_a_line_comes_out_as_it_went_in(line: str, script: str, arguments: str) -> None:
    found, settings = parse(line)
    assert (found.script, found.arguments) == (script, tuple(arguments.split()))
    assert found.words == tuple(line.split())
    assert settings == LaunchSettings()


@pytest.mark.parametrize("line", ["train.py -- x", "train.py -- -- x", "-q train.py a -- x", "train.py --"])
def test_dashes_behind_the_script(line: str) -> None:
    """DeepSpeed's parser swallows them right behind the script: what is handed over must mean the same to it."""
    found, _ = parse(line)
    again, _ = parse_launch(list(found.words))
    assert (again.script, again.arguments) == (found.script, found.arguments)
    assert "--" not in found.arguments[:1] or line == "train.py -- -- x"


def test_words_with_blanks_and_empty_ones_stay_whole() -> None:
    words = ["--launcher_args", "-a -b", "my train.py", "", "a b"]
    found, _ = parse_launch(words)
    assert list(found.words) == words
    assert found.arguments == ("", "a b")


def test_the_launchers_options_are_read() -> None:
    line = "-H hosts --incl a:0 --num_n 3 --num_accelerators 4 --master_p 1 --master_a m --launcher slurm --autot run"
    found, _ = parse(f"{line} --module --no_l --no_ssh --exc b s.py")
    assert found.options == LauncherOptions(
        hostfile="hosts",
        include="a:0",
        exclude="b",
        num_nodes=3,
        num_gpus=4,
        master_port=1,
        master_addr="m",
        launcher="slurm",
        autotuning="run",
        is_module=True,
        no_local_rank=True,
        no_ssh=True,
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--num_gpus 2",
        "--num_gpus",
        "--num_gpus two train.py",
        "--num 2 train.py",
        "--elastic_training train.py",
        "--autotuning maybe train.py",
        "--module=yes train.py",
        "--num_gpus 2 --bad train.py --x",
    ],
)
def test_what_deepspeed_refuses_goes_to_it_as_it_is(line: str) -> None:
    found, _ = parse(f"--autofit-steps 3 {line}")
    assert found.is_refused
    assert found.words == tuple(line.split())


def test_an_empty_word_for_a_script() -> None:
    found, _ = parse_launch(["-q", "", "x"])
    assert found.words == ("-q", "", "x")


def test_our_own_options_wherever_they_stand_before_the_script() -> None:
    line = (
        "--autofit-dry-run --num_gpus 2 --autofit-memory-limit 24GiB -q --autofit-steps=5 --autofit_timeout 7.5 "
        "--autofit-tolerance 1% --autofit-override stage,micro-batch --autofit-output-dir runs/a train.py "
        "--autofit-off x"
    )
    found, settings = parse(line)
    assert found.words == ("--num_gpus", "2", "-q", "train.py", "--autofit-off", "x")
    assert settings == LaunchSettings(
        is_dry_run=True,
        memory_limit_bytes=24 * GIB,
        steps=5,
        timeout_s=7.5,
        override=frozenset({Override.STAGE, Override.MICRO_BATCH}),
        output_dir="runs/a",
        tolerance=0.01,
    )


def test_ours_do_not_make_an_abbreviation_of_theirs_ambiguous() -> None:
    found, _ = parse("--autofit-off --auto run train.py")
    assert found.options.autotuning == "run"


def test_an_override_of_everything() -> None:
    assert parse("--autofit-override all train.py")[1].override == frozenset(Override)


@pytest.mark.parametrize(("value", "is_off"), [("1", True), ("0", False), ("", False), ("true", True)])
def test_a_job_is_switched_off_from_outside(monkeypatch: pytest.MonkeyPatch, value: str, is_off: bool) -> None:
    monkeypatch.setenv("AUTOFIT_OFF", value)
    assert parse("train.py")[1].is_off is is_off


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--autofit-of train.py", "--autofit-off"),
        ("--autofit-steps none train.py", "--autofit-steps"),
        ("--autofit-steps 0 train.py", "--autofit-steps"),
        ("--autofit-memory-limit 24apples train.py", "write it like 24GiB"),
        ("--autofit-override stages train.py", "stage, offload, micro-batch, buckets, or all"),
        ("--autofit-off=1 train.py", "--autofit-off"),
        ("--autofit-timeout", "--autofit-timeout"),
    ],
)
def test_a_wrong_option_of_ours(line: str, told: str) -> None:
    with pytest.raises(click.UsageError) as error:
        parse(line)
    assert told in error.value.format_message()


@pytest.mark.parametrize("line", ["-h", "--help train.py", "--num_gpus 2 -h", "--autofit-off --help", "--autofit-help"])
def test_help_that_stands_before_the_script(line: str) -> None:
    with pytest.raises(HelpAsked):
        parse(line)


@pytest.mark.parametrize(
    "words", [["--autotuning", "run"], ["--autotuning=run"], ["--autot", "tune"], ["--num_gpus", "2", "--auto", "run"]]
)
def test_autotuning_can_be_taken_away(words: list[str]) -> None:
    line, _ = parse_launch([*words, "train.py", "--autotuning", "x"])
    assert line.option_words == tuple(words)
    tuned = line.without_autotuning
    assert tuned.option_words == tuple(words[: words.index("2") + 1] if "2" in words else [])
    assert tuned.options.autotuning == ""
    assert tuned.arguments == ("--autotuning", "x")
