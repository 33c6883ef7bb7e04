"""What words after the dashes say of one argument, as transformers' parser reads them."""

from __future__ import annotations

import pytest

from autofit.planning.argument_words import is_switched_on, values_of


def test_the_values_of_a_name_in_both_spellings() -> None:
    words = ("--loss_type", "kto", "--beta=0.1", "--loss-type=apo_zero_unpaired", "--loss_types", "no")
    assert [*values_of(words, "loss_type")] == ["kto", "apo_zero_unpaired"]


@pytest.mark.parametrize(
    ("words", "is_on"),
    [
        ((), False),
        (("--precompute_ref_log_probs",), True),
        (("--precompute_ref_log_probs", "--beta", "1"), True),
        (("--precompute-ref-log-probs=True",), True),
        (("--precompute_ref_log_probs", "false"), False),
        (("--precompute_ref_log_probs", "true", "--precompute_ref_log_probs", "no"), False),
    ],
)
def test_a_switch_says_yes_without_a_value(words: tuple[str, ...], is_on: bool) -> None:
    assert is_switched_on(words, "precompute_ref_log_probs") is is_on
