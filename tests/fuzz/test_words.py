"""Words of a command line: numbers of flags, machines, launch lines; and recipes, which are such words in a file."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autofit.cli import plan as plan_verb
from autofit.cli import train as train_verb
from autofit.cli.flags.deepspeed_options import HelpAsked
from autofit.cli.flags.launch_line import parse_launch
from autofit.cli.flags.quantity import DevicePrice, Tokens
from autofit.cli.flags.value import RewardSource
from autofit.cli.request_builder import build_request, count_ranks
from autofit.domain.request import Request
from autofit.domain.units import parse_bytes
from autofit.hardware.machine_spec import parse_machine

from .junk import WORDS, changed, clean, damaged

NUMBERS = st.one_of(
    WORDS, st.floats().map(str), st.integers().map(str), st.integers(10**20, 10**40).map(str), st.text(max_size=6)
)
VALUED = sorted(
    name for flag in train_verb.command.params if isinstance(flag, click.Option) and not flag.is_flag
    for name in flag.opts[:1] if name not in ("--recipe", "--output-dir")
)  # fmt: skip
RECIPE = {
    "seq": "64", "lora-target-modules": ["q_proj", "o_proj"],
    "tasks": [{"task": "sft", "epochs": "1", "arguments": "--weight_decay 0.1"}, "dpo"],
}  # fmt: skip
_PARTS = "8x 2x A100-80GB gpus= memory= tflops= host= , = 48GiB 1.5 x nodes= 150 capability= 8.9 999999999999999999"
MACHINE = st.lists(st.sampled_from(_PARTS.split()) | st.text(max_size=3), max_size=7).map("".join)


@given(st.sampled_from(VALUED), NUMBERS)
def test_any_value_of_any_flag(flag: str, value: str) -> None:
    def read() -> object:
        try:
            with train_verb.command.make_context("train", ["--model", "m", f"{flag}={value}"]) as context:
                return build_request(context.params, (), count_ranks_of_two)
        except click.ClickException as error:
            return error.format_message()

    asked = clean(read)
    if isinstance(asked, Request):
        assert asked.sequence_length < 2**31
        assert asked.global_batch < 2**62
        assert asked.training.epochs <= 1e6


def count_ranks_of_two(ranks: int | None) -> int:
    return ranks or 2


@given(NUMBERS)
def test_any_quantity(text: str) -> None:
    for kind in (Tokens(), DevicePrice(), RewardSource()):
        with contextlib.suppress(click.BadParameter):
            kind.convert(text, None, None)
    with contextlib.suppress(ValueError):
        assert 0 <= parse_bytes(text) < 2**63


@given(MACHINE)
def test_any_machine(text: str) -> None:
    clean(lambda: parse_machine(text))
    clean(lambda: count_ranks(None, (text,)) if text else None)


@given(changed(RECIPE))
def test_a_recipe_of_odd_values(tmp_path: Path, body: Any) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.dump(body), "utf-8", "surrogatepass")
    _read_recipe(path)


@given(damaged(yaml.dump(RECIPE).encode()))
def test_a_damaged_recipe(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    _read_recipe(path)


def _read_recipe(path: Path) -> None:
    def read() -> object:
        try:
            return train_verb.command.make_context("train", ["--model", "m", "--recipe", str(path)]).params
        except click.ClickException as error:
            return error.format_message()

    clean(read)


def test_a_recipe_that_grows_by_references_is_refused(tmp_path: Path) -> None:
    lines = ["a: &a0 [x, x]", *(f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
    path = tmp_path / "recipe.yaml"
    path.write_text("\n".join(lines))
    _read_recipe(path)


@pytest.mark.parametrize("verb", [train_verb, plan_verb])
@pytest.mark.parametrize("flag", ["--model", "--data", "--eval-data", "--baseline"])
def test_an_empty_word_is_refused(verb: Any, flag: str) -> None:
    with pytest.raises(click.BadParameter, match="an empty word names nothing"):
        verb.command.make_context("verb", ["--model", "m", f"{flag}="])


@given(st.lists(st.sampled_from([
    "train.py", "--num_gpus", "8", "--autofit-steps", "nan", "--autofit-memory-limit=1e9", "--", "-m", "--include", "",
    "--hostfile", "--autofit-", "--autotuning", "run", "--autofit-tolerance=inf", "-h", "\0",
]), max_size=6))  # fmt: skip
def test_any_launch_line(words: list[str]) -> None:
    with contextlib.suppress(click.ClickException, HelpAsked):
        parse_launch(words)
