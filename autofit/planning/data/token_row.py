"""A row that comes as tokens: which of them are learned, as its labels and masks say."""

from __future__ import annotations

from collections.abc import Mapping

from .chat_turns import BadRow, json_type

IGNORED = -100
"""The label of a token that the loss does not count, as torch's cross entropy has it."""
_MOST_TOKENS = 2**31  # what 32 bits hold: no vocabulary comes near it
MASKS = ("completion_mask", "assistant_masks", "assistant_mask", "loss_mask")
COLUMNS = ("input_ids", "labels", "attention_mask", *MASKS)


def token_row(row: Mapping[str, object]) -> dict[str, list[int]]:
    """Gives `input_ids` and `labels` of the same length; BadRow names the column that does not fit.

    Where a mask is 0 nothing is learned. Padding, where the attention mask is 0, is left out at either end; amid a row
    it cannot be honoured, for the trainer makes its own attention mask.
    """
    ids = _numbers("input_ids", row.get("input_ids"))
    _check_tokens("input_ids", ids)
    labels = _beside(ids, "labels", row.get("labels"))
    labels = list(ids) if labels is None else labels
    _check_tokens("labels", [label for label in labels if label != IGNORED])
    for name in MASKS:
        mask = _beside(ids, name, row.get(name))
        if mask is not None:
            labels = [label if bit else IGNORED for label, bit in zip(labels, mask, strict=True)]
    real = _real(_beside(ids, "attention_mask", row.get("attention_mask")), len(ids))
    return {"input_ids": ids[real], "labels": labels[real]}


def _check_tokens(name: str, ids: list[int]) -> None:
    wrong = next((token for token in ids if not 0 <= token < _MOST_TOKENS), None)
    if wrong is not None:
        raise BadRow(f"{name} holds {wrong}, which is no token")


def _real(attention: list[int] | None, length: int) -> slice:
    """The tokens between the padding."""
    if attention is None or 1 not in attention:
        return slice(0, length if attention is None else 0)
    first, end = attention.index(1), length - attention[::-1].index(1)
    if 0 in attention[first:end]:
        raise BadRow("attention_mask has a 0 amid the row, which is not supported; only padding at an end is")
    return slice(first, end)


def _beside(ids: list[int], name: str, value: object) -> list[int] | None:
    """A column beside `input_ids`, of the same length; None where the row does not have it."""
    if value is None:
        return None
    numbers = _numbers(name, value)
    if len(numbers) != len(ids):
        raise BadRow(f"{name} has {len(numbers):,} entries for {len(ids):,} tokens")
    if name != "labels" and not set(numbers) <= {0, 1}:
        raise BadRow(f"{name} holds something else than 0 and 1")
    return numbers


def _numbers(name: str, value: object) -> list[int]:
    if not isinstance(value, list):
        raise BadRow(f"{name} is {json_type(value)}, not a list of whole numbers")
    other = next((item for item in value if not isinstance(item, int)), 0)
    if not isinstance(other, int):
        raise BadRow(f"{name} holds {other if isinstance(other, float) else json_type(other)}, not whole numbers alone")
    return [int(item) for item in value]
