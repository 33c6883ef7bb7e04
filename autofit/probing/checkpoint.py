"""What lies in a folder of DeepSpeed's checkpoints, told by names alone: nothing of it is loaded.

Names as DeepSpeed 0.19.8 writes them: `_get_ckpt_name` and `_get_zero_ckpt_prefix` of its engine.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from autofit.domain.script import Checkpoint

_STAGE_3 = re.compile(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt")
_MODEL = re.compile(r"mp_rank_\d+_model_states\.pt")
_SHARD = re.compile(r"(?:bf16_)?zero_pp_rank_(\d+)_mp_rank_\d+_optim_states\.pt")


def read_checkpoint(folder: str, tag: str | None = None, *, is_universal: bool = False) -> Checkpoint | None:
    """The checkpoint `tag` of `folder`, or the one that is named the latest; None where there is none."""
    latest = Path(folder, "latest_universal" if is_universal else "latest")
    try:
        place = Path(folder, latest.read_text().strip() if tag is None else str(tag))
        names = [path.name for path in place.iterdir()]
    except OSError:
        return None
    shards = {match[1] for match in map(_SHARD.fullmatch, names) if match}
    if any(map(_STAGE_3.fullmatch, names)):
        stages: tuple[int, ...] = (3,)
    elif any(map(_MODEL.fullmatch, names)):
        stages = (1, 2) if shards or is_universal else (0,)
    else:
        return None
    return Checkpoint(str(place), stages, len(shards) or None, is_universal=is_universal)


def to_make_universal(folder: str) -> Checkpoint | None:
    """The latest checkpoint of `folder`, where none there is universal; None where nothing can be made of it.

    DeepSpeed's tool reads what ZeRO has written, not what stage 0 has.
    """
    if read_checkpoint(folder, is_universal=True) is not None:
        return None
    found = read_checkpoint(folder)
    return None if found is None or found.zero_stages == (0,) else replace(found, is_universal=True)
