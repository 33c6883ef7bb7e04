"""Whether rows as long as a request allows have a position for each of their tokens."""

from __future__ import annotations

from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.model import ModelShape, Positions

from .batch_widths import PAD_TO_MULTIPLE, padded_tokens


def check_positions(sequence_length: int, shape: ModelShape, positions: Positions, kind: DeviceKind) -> tuple[str, ...]:
    """What people are told of rows longer than the model's positions; UsageError where there is nothing to look up.

    Batches are padded to a multiple of some tokens, which a table must hold, too.
    """
    count = shape.max_positions
    width = padded_tokens(sequence_length, PAD_TO_MULTIPLE[kind])
    if count is None or positions is Positions.OTHER or max(sequence_length, width) <= count:
        return ()
    if positions is Positions.TABLE:
        longest = count // PAD_TO_MULTIPLE[kind] * PAD_TO_MULTIPLE[kind]
        raise UsageError(
            f"--seq {sequence_length} is beyond the {count:,} positions of {shape.name}, which has no entry for later "
            f"ones: use --seq {longest} or less."
        )
    return () if sequence_length <= count else (_rotary_text(sequence_length, count, shape.name),)


def _rotary_text(sequence_length: int, count: int, name: str) -> str:
    factor = float(-(-sequence_length // count))
    scaling = f'"rope_type": "yarn", "factor": {factor}, "original_max_position_embeddings": {count}'
    return (
        f"--seq {sequence_length:,} is beyond the {count:,} positions that {name} was trained for: its rotary "
        f"positions go on where nothing was learned; {scaling} in the rope_parameters of its config.json (rope_scaling "
        "in older ones) would scale them"
    )
