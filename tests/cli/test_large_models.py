"""`autofit plan` for models of 7 to 180 B parameters on machines that people have: traced for real, from config.json
alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autofit.app import plan
from autofit.app.tools import REAL_TOOLS
from autofit.store import Store
from tests.cli.command import end
from tests.in_process_tracer import start_tracer
from tests.spread import with_matrix

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
"""config.json of each model, as its class in transformers takes it; the folder's name is the model's."""

Planned = Callable[[str], dict[str, Any]]


def _words(value: object) -> str | None:
    """The words as a part of a test's name; pytest names what is expected of them."""
    return value if isinstance(value, str) else None


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that no model is traced twice."""
    return tmp_path_factory.mktemp("large") / "store.sqlite"


@pytest.fixture(autouse=True)
def beside_the_configs(monkeypatch: pytest.MonkeyPatch, store_path: Path) -> None:
    tools = replace(REAL_TOOLS, open_store=lambda: Store(store_path), start_tracer=start_tracer)
    monkeypatch.setattr(plan.plan, "__kwdefaults__", {"tools": tools})
    monkeypatch.chdir(CONFIGS)


@pytest.fixture
def planned(capsys: pytest.CaptureFixture[str]) -> Planned:
    """What a plan with these words says as JSON; nothing of it was estimated without a trace."""

    def run(words: str) -> dict[str, Any]:
        assert end("plan", *words.split(), "--json") == 0
        said = capsys.readouterr()
        assert said.err == ""
        body: dict[str, Any] = json.loads(said.out)
        return body

    return run


CHOICES = [
    ("--model llama-2-70b --seq 2048 --batch-size 8 --method lora --on 8xV100-32GB", {"none"}),
    ("--model falcon-180b --seq 2048 --batch-size 16 --method lora --on 2x8xV100-32GB", {"none", "all"}),
    ("--model llama-2-70b --seq 1024 --method full --batch-size 8 --on 8xRTX-3090,host=2TB", {"optimizer", "all"}),
]
MORE_CHOICES = [
    ("--model llama-2-70b --seq 2048 --batch-size 8 --method lora --on 8xA100-80GB", {"none"}),
    ("--model mpt-30b --seq 2048 --method full --on 8xA100-80GB", {"none"}),
]
"""The words, and what may lie on the host: falcon's share of the weights is 22.4 of 33.9 GB, with 12 more for whole
parameters and activations at hand."""


QLORA_7B = "--model llama-2-7b --quantize nf4 --method lora --seq 512 --batch-size 1"
QLORA_70B = "--model llama-2-70b --quantize nf4 --method lora --seq 1024 --batch-size 8"


@pytest.mark.slow
@pytest.mark.matrix
def test_7b_in_4_bits_takes_less_than_10_gb(planned: Planned, capsys: pytest.CaptureFixture[str]) -> None:
    """About 5 GB with checkpointing, as QLoRA's smallest model (2305.14314, introduction): 3.3 GB of linear layers, 0.5
    that stay 16-bit, 0.5 of adapters, and activations and the CUDA context."""
    words = f"{QLORA_7B} --on 1xRTX-3090"
    body = planned(words)
    assert body["choice"]["strategy"]["quantization"] == "nf4"
    assert body["choice"]["memory"]["high_bytes"] < 10e9
    on_device = [one for one in body["candidates"] if one["strategy"]["offload"] == "none"]
    assert 4.5e9 < min(one["memory"]["peak_bytes"] for one in on_device) < 5.5e9
    assert end("plan", *words.split()) == 0
    assert "bitsandbytes must be installed there" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
@pytest.mark.matrix
def test_70b_in_4_bits_is_divided_over_two_cards_of_24_gb(planned: Planned) -> None:
    """36 GB of packed weights and scales: whole on no card; a half is 17.7 GB with 1.1 GB of scales, which are not
    divided."""
    body = planned(f"{QLORA_70B} --on 2xRTX-3090,host=128GB")
    assert body["choice"]["strategy"]["zero_stage"] == 3
    assert body["choice"]["memory"]["host_bytes"] < 128e9
    on_device = [
        one["memory"]
        for one in body["candidates"]
        if one["strategy"]["zero_stage"] == 3
        and one["strategy"]["offload"] == "none"
        and one["strategy"]["gradient_checkpointing"]
    ]
    assert all(18e9 < one["parameters_bytes"] < 19.5e9 for one in on_device)
    assert min(one["peak_bytes"] for one in on_device) < 25.8e9
    undivided = [one for one in body["candidates"] if one["strategy"]["zero_stage"] < 3]
    assert {one["verdict"] for one in undivided} == {"too_large"}


@pytest.mark.slow
@pytest.mark.matrix
def test_65b_in_4_bits_fits_one_card_of_48_gb(planned: Planned) -> None:
    """As published (QLoRA, abstract), with checkpointing and rows of 512 tokens; in 16 bits the weights alone are 130
    GB."""
    words = "--model llama-65b --method lora --seq 512 --batch-size 1 --on 1xRTX-A6000,host=256GB"
    body = planned(f"{words} --quantize nf4 --offload none --gradient-checkpointing on")
    assert body["choice"] is not None
    assert 36e9 < body["choice"]["memory"]["peak_bytes"] < 48e9
    plain = planned(f"{words} --offload none")
    assert plain["choice"] is None


@pytest.mark.slow
def test_4_bits_are_as_much_slower_as_published(planned: Planned) -> None:
    """2.79 h for 1.85 h (S. Raschka, Practical tips for finetuning LLMs, 2023: Lit-GPT, 7B, one A100, Alpaca's rows of
    about 110 tokens, one at a time): 1.5 times; long rows lose less."""

    def slowdown(tokens: int) -> float:
        words = f"--model llama-2-7b --method lora --batch-size 1 --seq {tokens} --on 1xA100-40GB --zero-stage 0"
        speeds = [
            planned(f"{words} --gradient-checkpointing off --quantize {bits}")["choice"]["speed"]["tokens_per_s"]
            for bits in ("none", "nf4")
        ]
        return float(speeds[0] / speeds[1])

    assert 1.3 < slowdown(128) < 1.9
    assert 1.0 < slowdown(2048) < 1.2


@pytest.mark.slow
@pytest.mark.parametrize(("words", "offloads"), with_matrix(CHOICES, MORE_CHOICES), ids=_words)
def test_there_is_a_choice(
    planned: Planned, capsys: pytest.CaptureFixture[str], words: str, offloads: set[str]
) -> None:
    strategy = planned(words)["choice"]["strategy"]
    assert strategy["zero_stage"] == 3  # nothing else divides the weights
    assert strategy["offload"] in offloads
    assert strategy["dtype"] == ("fp16" if "V100" in words else "bf16")
    assert end("plan", *words.split()) == 0
    shown = capsys.readouterr().out
    assert "\npick " in shown
    assert " ".join(shown.replace("\\", "").split()).endswith(f"next autofit train {words.partition(' --on')[0]}")


NEIGHBOURS = [
    "--model llama-2-13b --seq 2048 --batch-size 8 --method full --on 8xA100-40GB",
    "--model codellama-34b --seq 2048 --batch-size 4 --method lora --on 4xRTX-4090,host=512GB",
    "--model mixtral-8x7b --seq 2048 --batch-size 8 --method lora --on 8xA100-80GB",
    "--model qwen-72b --seq 2048 --batch-size 8 --method lora --on 8xA100-80GB",
    "--model opt-66b --seq 2048 --batch-size 8 --method lora --on 8xA100-80GB",
    "--model llama-2-70b --seq 4096 --batch-size 32 --method full --on 4x8xA100-80GB",
    "--model falcon-7b --seq 2048 --batch-size 1 --method lora --on 1xRTX-3090",
    "--model falcon-40b --seq 2048 --batch-size 8 --method lora --on 8xA100-40GB",
    "--model llama-2-7b --seq 2048 --batch-size 1 --method full --on 1xRTX-4090,host=256GB",
]


@pytest.mark.slow
@pytest.mark.matrix
@pytest.mark.parametrize("words", NEIGHBOURS)
def test_there_is_a_choice_where_people_run_it(planned: Planned, words: str) -> None:
    assert planned(words)["choice"] is not None


EIGHT_3090 = "--model llama-65b --seq 1024 --method full --batch-size 8 --on 8xRTX-3090,host=512GB"


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", with_matrix(["lomo"], ["adalomo"]))
def test_all_parameters_of_a_65b_train_on_eight_cards_of_24_gb(
    planned: Planned, capsys: pytest.CaptureFixture[str], optimizer: str
) -> None:
    """As Lv et al. trained it (2306.09782, abstract; the model's figures: huggyllama/llama-65b, config.json). A rank
    has 2P / 8 = 16.3 GB of weights."""
    choice = planned(f"{EIGHT_3090} --optimizer {optimizer}")["choice"]
    assert (choice["strategy"]["zero_stage"], choice["strategy"]["offload"]) == (3, "none")
    memory = choice["memory"]
    assert 16.3e9 < memory["parameters_bytes"] < 16.4e9
    assert memory["gradients_bytes"] == 0
    assert memory["optimizer_bytes"] < (0.1e9 if optimizer == "adalomo" else 1)
    assert 0.1 < memory["peak_bytes"] / choice["adamw_zero3_peak_bytes"] < 0.2
    assert end("plan", *EIGHT_3090.split(), "--optimizer", optimizer) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"memory {choice_name(choice)} takes" in shown
    assert "% of what AdamW with ZeRO-3 would take on the same rows" in shown


def choice_name(choice: dict[str, Any]) -> str:
    strategy = choice["strategy"]
    return f"zero{strategy['zero_stage']}+gc+{strategy['optimizer']}+fa2 mb{strategy['micro_batch']}"


NOTHING_FITS = [
    (f"{EIGHT_3090} --optimizer adamw", True),
    ("--model llama-2-7b --seq 2048 --batch-size 1 --method full --on 1xRTX-4090,host=96GB", True),
    ("--model llama-2-7b --seq 2048 --batch-size 1 --method full --on 1xRTX-4090,host=120GB", False),
]
MORE_THAT_FITS_NOWHERE = [
    ("--model llama-2-70b --seq 1024 --batch-size 8 --method full --on 8xRTX-3090,host=512GB", True),
    ("--model llama-2-70b --seq 2048 --batch-size 1 --method lora --on 1xRTX-3090", True),
]
"""The words, and whether it is sure: the states of 7 B parameters on one host are 18 to 20 bytes each, 121 to 135 GB,
119 where the device keeps a part; those of 70 B 1.2 TB and more, and their weights alone 138 GB."""


@pytest.mark.slow
@pytest.mark.parametrize(("words", "is_sure"), with_matrix(NOTHING_FITS, MORE_THAT_FITS_NOWHERE), ids=_words)
def test_where_nothing_fits_it_is_said_what_would_help(
    planned: Planned, capsys: pytest.CaptureFixture[str], words: str, is_sure: bool
) -> None:
    body = planned(words)
    assert body["choice"] is None
    may_fit = {one["verdict"] for one in body["candidates"]} & {"fits", "probe"}
    assert not (is_sure and may_fit)
    assert end("plan", *words.split()) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "pick " not in shown
    assert "more free host memory" in shown
    assert ("Nothing is expected to fit" in shown) is is_sure


NEEDS_RESORT = "--model llama-65b --seq 1024 --method full --batch-size 8 --on 8xRTX-3090,host=512GB"
"""The machine of LOMO's paper (Lv et al., 2306.09782, section 4.2), for all parameters of a 65B."""


@pytest.mark.slow
def test_where_nothing_plain_fits_the_last_resorts_are_named_and_taken_where_they_are_allowed(planned: Planned) -> None:
    named = planned(NEEDS_RESORT)
    assert (named["choice"], named["plain"]) == (None, None)
    assert [one["allow"] for one in named["last_resorts"]] == [["lomo"], ["adalomo"]]
    taken = planned(f"{NEEDS_RESORT} --allow last-resorts")
    assert taken["choice"]["strategy"] == named["last_resorts"][0]["strategy"]
    assert (taken["plain"], taken["last_resorts"]) == (None, [])
