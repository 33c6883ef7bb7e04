"""A choice as earlier versions wrote it, in today's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BESIDE = {"full": "strategy", "full_measured": "measured", "full_expected": "expected"}
"""The fields that told the full-parameter strategy beside LoRA, and what they are of the one that stands there now."""


def as_today(body: Mapping[str, Any]) -> dict[str, Any]:
    """The choice's JSON with what stands beside it as one value."""
    if body.get("full") is None or "plain" in body:
        return dict(body)
    beside = {now: body.get(then) for then, now in _BESIDE.items()}
    return {**body, "plain": {"type": "Beside", **beside}}
