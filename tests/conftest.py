"""What every test needs."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is remembered stays among the tests: in a file of their own, for child processes too."""
    os.environ["AUTOFIT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
