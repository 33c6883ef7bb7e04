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

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
"""config.json of each model, as its class in transformers takes it; the folder's name is the model's."""

Planned = Callable[[str], dict[str, Any]]


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
    ("--model llama-2-70b --seq 2048 --batch-size 8 --method lora --on 8xA100-80GB", {"none"}),
    ("--model falcon-180b --seq 2048 --batch-size 16 --method lora --on 2x8xV100-32GB", {"none", "all"}),
    ("--model mpt-30b --seq 2048 --method full --on 8xA100-80GB", {"none"}),
    ("--model llama-2-70b --seq 1024 --method full --batch-size 8 --on 8xRTX-3090,host=2TB", {"optimizer", "all"}),
]
"""The words, and what may lie on the host: falcon's share of the weights is 22.4 of 33.9 GB, with 12 more for whole
parameters and activations at hand."""


@pytest.mark.slow
@pytest.mark.parametrize(("words", "offloads"), CHOICES, ids=[words for words, _ in CHOICES])
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
    assert " ".join(shown.split()).endswith(f"next autofit train {words.partition(' --on')[0]}")


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
@pytest.mark.parametrize("optimizer", ["lomo", "adalomo"])
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
    ("--model llama-2-7b --seq 2048 --batch-size 1 --method full --on 1xRTX-4090,host=128GB", False),
    ("--model llama-2-70b --seq 1024 --batch-size 8 --method full --on 8xRTX-3090,host=512GB", True),
    ("--model llama-2-70b --seq 2048 --batch-size 1 --method lora --on 1xRTX-3090", True),
]
"""The words, and whether it is sure: the states of 7 B parameters on one host are 18 to 20 bytes each, 121 to 135 GB,
those of 70 B 1.2 TB and more, and their weights alone 138 GB."""


@pytest.mark.slow
@pytest.mark.parametrize(("words", "is_sure"), NOTHING_FITS, ids=[words for words, _ in NOTHING_FITS])
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
