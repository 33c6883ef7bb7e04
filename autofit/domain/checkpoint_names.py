"""What the names of DeepSpeed's checkpoint files tell.

As DeepSpeed 0.19.8 writes them: `_get_ckpt_name` and `_get_zero_ckpt_prefix` of its engine.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_STAGE_3 = re.compile(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt")
_MODEL = re.compile(r"mp_rank_\d+_model_states\.pt")
_SHARD = re.compile(r"(?:bf16_)?zero_pp_rank_(\d+)_mp_rank_\d+_optim_states\.pt")


def ranks_in(names: Collection[str]) -> frozenset[int]:
    """Those whose share of the optimizer is there; none where nothing is divided."""
    return frozenset(int(match[1]) for match in map(_SHARD.fullmatch, names) if match)


def stages_in(names: Collection[str], *, is_universal: bool = False) -> tuple[int, ...]:
    """The ZeRO stages that wrote such files, and can load them; empty for files of another kind.

    Stage 3 alone divides the parameters, so that each rank has a file of them; a universal checkpoint has no shares.
    """
    if any(map(_STAGE_3.fullmatch, names)):
        return (3,)
    if any(map(_MODEL.fullmatch, names)):
        return (1, 2) if is_universal or ranks_in(names) else (0,)
    return ()
