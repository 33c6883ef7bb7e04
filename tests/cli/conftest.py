"""A session that only remembers what it was asked for."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

import autofit.app
from tests.shared_answers import shared_answers

__all__ = ["calls", "replace_session", "shared_answers"]

Session = Callable[..., None]


@pytest.fixture
def replace_session(monkeypatch: pytest.MonkeyPatch) -> Callable[[Session], None]:
    """Puts a function in the place of `autofit.app.train.train`."""

    def replace(train: Session) -> None:
        module = types.ModuleType("autofit.app.train")
        module.train = train  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "autofit.app.train", module)
        monkeypatch.setattr(autofit.app, "train", module, raising=False)

    return replace


@pytest.fixture
def calls(replace_session: Callable[[Session], None], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of each call of the session, of one training or of several."""
    heard: list[dict[str, Any]] = []
    replace_session(lambda request, **rest: heard.append({"request": request, **rest}))
    module = types.ModuleType("autofit.app.phases")
    module.train_phases = lambda phases, **rest: heard.append({"phases": phases, **rest})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "autofit.app.phases", module)
    monkeypatch.setattr(autofit.app, "phases", module, raising=False)
    return heard
