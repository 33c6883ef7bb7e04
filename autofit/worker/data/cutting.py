"""How trl cuts rows that are too long, or leaves them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autofit.domain.request import Request
from autofit.planning.data.truncation import Truncation


def truncation_of(request: Request, extra: Mapping[str, Any]) -> Truncation:
    """What becomes of rows in the task's trainer, by what trl 1.16 does in each; `extra` are arguments after `--`.

    SFTTrainer and DPOTrainer cut by `truncation_mode`, KTOTrainer at the end; RewardTrainer leaves longer rows out. So
    are prompts whose longest answers would not fit: GRPOTrainer itself knows no limit for them.
    """
    limit = request.sequence_length
    if not request.task.traits.cuts_rows:
        return Truncation(limit, is_whole=True)
    if extra.get("packing"):  # by `packing_strategy`, which may divide rows instead
        return Truncation(limit if extra.get("packing_strategy", "bfd") == "bfd" else None)
    return Truncation(limit, extra.get("truncation_mode", "keep_start") == "keep_start")
