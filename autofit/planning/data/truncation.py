"""What is left of rows that are cut at the sequence length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autofit.domain.errors import UsageError
from autofit.domain.request import Request
from autofit.domain.workload import DataProfile, RowCounts

_ROUND_TOKENS = 8  # a sequence length that is proposed is a multiple of this


@dataclass(frozen=True, slots=True)  # there are as many as rows
class RowExtent:
    """A row's length in tokens, and the places of the first and the last that is learned; -1 twice where none is."""

    length: int
    first: int
    last: int
    is_untold: bool = False


@dataclass(frozen=True)
class Truncation:
    """How rows are cut: `limit_tokens` from the start or from the end of a row are trained on; None: all of it is.
    `is_whole`: none is cut, and longer ones are left out."""

    limit_tokens: int | None
    keeps_start: bool = True
    is_whole: bool = False

    def needed_tokens(self, row: RowExtent) -> int:
        """The least limit at which something of the row is learned; the first token of a row never is."""
        if self.is_whole:
            return row.length
        return row.first + 1 if self.keeps_start else row.length - row.last + 1

    def keeps(self, row: RowExtent) -> bool:
        return row.first > 0 and (self.limit_tokens is None or self.needed_tokens(row) <= self.limit_tokens)

    def shortens(self, row: RowExtent) -> bool:
        return self.limit_tokens is not None and row.length > self.limit_tokens

    def shortens_answer(self, row: RowExtent) -> bool:
        if self.limit_tokens is None:
            return False
        return row.last >= self.limit_tokens if self.keeps_start else row.first < row.length - self.limit_tokens


def count_rows(rows: Sequence[RowExtent], truncation: Truncation, allowed_drop: float) -> RowCounts:
    """What becomes of `rows`; `allowed_drop` is the share of them that may be lost."""
    kept = [row for row in rows if truncation.keeps(row)]
    empty = sum(row.first < 1 for row in rows)
    beyond = len(rows) - empty - len(kept)
    return RowCounts(
        total=len(rows),
        empty=empty,
        dropped=0 if truncation.is_whole else beyond,
        too_long=beyond if truncation.is_whole else 0,
        cut=sum(truncation.shortens(row) for row in kept),
        cut_answers=sum(truncation.shortens_answer(row) for row in kept),
        untold=sum(row.is_untold for row in kept),
        enough_tokens=_enough_tokens(rows, truncation, allowed_drop),
    )


def _enough_tokens(rows: Sequence[RowExtent], truncation: Truncation, allowed_drop: float) -> int | None:
    needed = sorted(truncation.needed_tokens(row) for row in rows if row.first > 0)
    wanted = math.ceil(len(rows) * (1 - allowed_drop))
    if not 1 <= wanted <= len(needed):
        return None
    return math.ceil(needed[wanted - 1] / _ROUND_TOKENS) * _ROUND_TOKENS


def check_lost_rows(request: Request, profile: DataProfile) -> None:
    """Checks what is lost; UsageError, with what to do, where that is more rows than the request allows."""
    sources = ((profile.rows, profile.source), (profile.eval_rows, request.eval_data))
    for counts, source in sources:
        if counts is not None and counts.lost > request.allowed_drop * counts.total:
            raise UsageError(_sentence(counts, source or profile.source, request))


def _sentence(counts: RowCounts, source: str, request: Request) -> str:
    dropped = f"all that is learned of {counts.dropped:,} lies beyond --seq {request.sequence_length}"
    reasons = [dropped] if counts.dropped else []
    reasons += [f"{counts.too_long:,} are longer than --seq {request.sequence_length}"] if counts.too_long else []
    reasons += [f"{counts.empty:,} hold nothing to learn from"] if counts.empty else []
    what = f"{counts.lost:,} of {counts.total:,} rows would not be trained on ({', '.join(reasons)})"
    longer = f"--seq {counts.enough_tokens} keeps enough of them; " if counts.enough_tokens else ""
    return f"{source}: {what}. Nothing was started.\n{longer}--allow-drop trains without them."
