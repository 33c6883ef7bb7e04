"""A hub that answers in this process alone, and a cache with nothing in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from tests.stand_in_hub import StandInHub, stand_in_hub, use_cache


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    huggingface_hub.close_session()  # it knows the proxies of when it was made
    with stand_in_hub() as hub:
        use_cache(monkeypatch, tmp_path / "cache", hub.url)
        yield hub
    huggingface_hub.close_session()
