from __future__ import annotations

import pytest

from autofit.planning.script.script_arguments import INDIFFERENT_FLAGS, config_flags, find, is_config, put, without


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--deepspeed_config", "ds.json"), "ds.json"),
        (("--deepspeed_config=ds.json", "--lr", "1"), "ds.json"),
        (("--deepspeed", "--deepspeed_config", "ds.json"), "ds.json"),
        (("--deepspeed", "ds.json"), "ds.json"),
        (("--deepspeed=ds.json",), "ds.json"),
        (("--deepspeed-config", "a.json", "--deepspeed_config", "b.json"), "b.json"),
        (("--deepspeed_config", "ds.json", "--deepspeed", "data.json"), "ds.json"),
        (("--deepspeed", "data.json", "--deepspeed_config=ds.json"), "ds.json"),
    ],
)
def test_the_config_is_found_as_argparse_would(words: tuple[str, ...], named: str) -> None:
    value = find(words, config_flags(words))
    assert value is not None
    assert value.text == named


@pytest.mark.parametrize(
    "words", [(), ("--deepspeed",), ("--deepspeed", "--lr"), ("ds.json",), ("--deepspeed_conf", "x")]
)
def test_a_line_without_a_config_names_none(words: tuple[str, ...]) -> None:
    assert find(words, config_flags(words)) is None


def replaced(*words: str, by: str) -> tuple[str, ...]:
    return put(words, config_flags(words), by)


def test_the_config_is_replaced_where_it_stood() -> None:
    assert replaced("--a", "--deepspeed=ds.json", "--b", by="/x y/z.json") == ("--a", "--deepspeed=/x y/z.json", "--b")
    assert replaced("--deepspeed", "ds.json", by="z") == ("--deepspeed", "z")
    assert replaced("--deepspeed", by="z") == ("--deepspeed",)


def test_what_follows_a_switch_is_no_config_beside_a_config_that_is_named() -> None:
    words = ("--deepspeed_config", "ds.json", "--deepspeed", "data.json")
    assert replaced(*words, by="z") == ("--deepspeed_config", "z", "--deepspeed", "data.json")


@pytest.mark.parametrize("content", [{"zero_optimization": {}}, {"train_batch_size": "auto", "more": 1}])
def test_a_config_says_something_of_the_batch_or_of_zero(content: object) -> None:
    assert is_config(content)


@pytest.mark.parametrize(
    "content", [[], {}, {"version": 1, "data": [{"train_batch_size": 1}]}, "train_batch_size", None]
)
def test_data_is_no_config(content: object) -> None:
    assert not is_config(content)


def test_flags_are_taken_out_with_their_values() -> None:
    words = ("--x", "1", "--resume_from_checkpoint", "out/5", "--resume", "--y")
    assert without(words, INDIFFERENT_FLAGS) == ("--x", "1", "--y")
