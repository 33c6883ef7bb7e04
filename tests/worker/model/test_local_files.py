"""Ranks that load a model of the hub: what is in the cache is asked for nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch

from autofit.domain.knobs.attention import Attention
from autofit.inputs.snapshot import local_options
from autofit.worker.data.stop_token import _generation_eos
from autofit.worker.model.configuration import load_config
from autofit.worker.model.loading import load_model, load_tokenizer
from tests.builders import make_request
from tests.stand_in_hub import COMMIT, StandInHub, stand_in_hub, use_cache

TINY = Path(__file__).parents[3] / "examples/tiny-llama"
MODEL = "me/llama"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """A hub whose model is in the cache, with all that it has."""
    with stand_in_hub() as hub:
        use_cache(monkeypatch, tmp_path / "cache", hub.url)
        hub.add(MODEL, TINY)
        huggingface_hub.snapshot_download(MODEL, endpoint=hub.url, token=False)
        hub.asked.clear()
        yield hub


def load_all() -> str:
    """Everything that a rank of the full run loads; the name that is saved with the model."""
    load_config(MODEL, trust_remote_code=False)
    load_tokenizer(MODEL, trust_remote_code=False)
    assert _generation_eos(make_request(MODEL)) == 2
    model = load_model(MODEL, dtype=torch.bfloat16, trust_remote_code=False, attention=Attention.SDPA)
    return str(model.name_or_path)


def test_a_rank_asks_the_hub_for_nothing_and_keeps_the_name(hub: StandInHub) -> None:
    assert load_all() == MODEL
    assert hub.asked == []


def test_without_the_weights_a_probe_asks_for_nothing_either(hub: StandInHub) -> None:
    folder = Path(huggingface_hub.snapshot_download(MODEL, endpoint=hub.url, token=False))
    hub.asked.clear()
    (folder / "model.safetensors").unlink()
    assert local_options(MODEL) == {"revision": COMMIT, "local_files_only": True}
    assert local_options(MODEL, needs_weights=True) == {}
    load_config(MODEL, trust_remote_code=False)
    load_tokenizer(MODEL, trust_remote_code=False)
    assert hub.asked == []


def test_a_cache_that_may_lack_something_is_no_reason_not_to_ask(hub: StandInHub) -> None:
    folder = Path(huggingface_hub.snapshot_download(MODEL, endpoint=hub.url, token=False))
    (folder / "tokenizer_config.json").unlink()
    assert local_options(MODEL) == {}


def test_a_cache_without_the_list_of_files_is_not_known_to_be_whole(hub: StandInHub) -> None:
    hub.add("me/other", TINY)
    for path in TINY.iterdir():
        huggingface_hub.hf_hub_download("me/other", path.name, endpoint=hub.url, token=False)
    assert local_options("me/other") == {}


def test_code_that_lies_in_another_repository_is_asked_for(hub: StandInHub) -> None:
    folder = Path(huggingface_hub.snapshot_download(MODEL, endpoint=hub.url, token=False))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoConfig": "other/code--config.Config"}}))
    assert local_options(MODEL) == {}


def test_a_folder_is_no_model_of_the_hub() -> None:
    assert local_options(str(TINY)) == {}
