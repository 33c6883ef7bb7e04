"""What planning answers is shared by the tests of a folder: most of them search with the same settings."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import cached_property
from typing import Any

import pytest

from autofit.planning.asked_once import AskedOnce

MOST = 3000  # values whose answers are kept, about 100 MB


@pytest.fixture(autouse=True, scope="package")
def shared_answers() -> Iterator[None]:
    """Planning is pure: what one setting, or one state of a search, was asked holds for every one that equals it."""
    answers: dict[AskedOnce, dict[Hashable, Any]] = {}

    def found(asked: AskedOnce) -> dict[Hashable, Any]:
        if len(answers) > MOST:
            answers.clear()
        return answers.setdefault(asked, {})

    shared = cached_property(found)
    shared.__set_name__(AskedOnce, "_found")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AskedOnce, "_found", shared)
        yield
