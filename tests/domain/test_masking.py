"""What is shown and kept of a text that may quote a secret."""

from __future__ import annotations

import pytest

from autofit.domain.masking import masked

SECRETS = {
    "HF_TOKEN": "hf_abcdef", "WANDB_API_KEY": "0123456789abcdef", "AWS_SECRET_ACCESS_KEY": "aws/se+cret",
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "MLFLOW_TRACKING_PASSWORD": "pass word", "comet_api_key": "lower-case",
}  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_the_value_of_a_secret_variable_is_masked_wherever_it_stands(name: str) -> None:
    assert masked(f"401 for Bearer {SECRETS[name]}, sent twice: {SECRETS[name]}", SECRETS) == (
        "401 for Bearer ***, sent twice: ***"
    )


def test_a_secret_within_another_leaves_nothing_of_that() -> None:
    assert masked("the key is abcdef-ghi", {"A_TOKEN": "abcdef", "B_TOKEN": "abcdef-ghi"}) == "the key is ***"


@pytest.mark.parametrize("login", ["me:secret", "me:p@ss:word", "token"])
def test_an_address_is_told_without_its_login(login: str) -> None:
    assert masked(f"proxy 'http://{login}@proxy.here:8080/x' and mail@x.org", {}) == (
        "proxy 'http://proxy.here:8080/x' and mail@x.org"
    )


def test_what_is_no_secret_stays() -> None:
    environment = {"TOKENIZERS_PARALLELISM": "false-friend", "PWD": "/home/somebody", "X_TOKEN": "true", "HF_TOKEN": ""}
    text = "false-friend in /home/somebody: it is true that https://hub/a/b@main failed"
    assert masked(text, environment) == text
