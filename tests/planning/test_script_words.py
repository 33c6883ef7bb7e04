from __future__ import annotations

import pytest

from autofit.planning.script_words import CONFIG_FLAGS, INDIFFERENT_FLAGS, find, put, without


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--deepspeed_config", "ds.json"), "ds.json"),
        (("--deepspeed_config=ds.json", "--lr", "1"), "ds.json"),
        (("--deepspeed", "--deepspeed_config", "ds.json"), "ds.json"),
        (("--deepspeed", "ds.json"), "ds.json"),
        (("--deepspeed=ds.json",), "ds.json"),
        (("--deepspeed-config", "a.json", "--deepspeed_config", "b.json"), "b.json"),
    ],
)
def test_the_config_is_found_as_argparse_would(words: tuple[str, ...], named: str) -> None:
    value = find(words, CONFIG_FLAGS)
    assert value is not None
    assert value.text == named


@pytest.mark.parametrize(
    "words", [(), ("--deepspeed",), ("--deepspeed", "--lr"), ("ds.json",), ("--deepspeed_conf", "x")]
)
def test_a_line_without_a_config_names_none(words: tuple[str, ...]) -> None:
    assert find(words, CONFIG_FLAGS) is None


def test_the_config_is_replaced_where_it_stood() -> None:
    assert put(("--a", "--deepspeed=ds.json", "--b"), CONFIG_FLAGS, "/x y/z.json") == (
        "--a",
        "--deepspeed=/x y/z.json",
        "--b",
    )
    assert put(("--deepspeed", "ds.json"), CONFIG_FLAGS, "z") == ("--deepspeed", "z")
    assert put(("--deepspeed",), CONFIG_FLAGS, "z") == ("--deepspeed",)


def test_flags_are_taken_out_with_their_values() -> None:
    words = ("--x", "1", "--resume_from_checkpoint", "out/5", "--resume", "--y")
    assert without(words, INDIFFERENT_FLAGS) == ("--x", "1", "--y")
