"""Predicted against published: what a plan says of other people's runs, memory, speed and whether they fit.

python benchmarks/published.py [--rows FILE] [--only WORD] [--table] [--date 2026-11-26]

Prints one JSON object, or a table with --table. The rows and their sources are in benchmarks/published/rows.csv, the
models' architectures beside it; what a source's software does otherwise than autofit's is told, with its reason, in
_published_software.py, and rows that autofit has no strategy for are counted by the reason. Each model is traced once
(a quarter of an hour on two busy cores; the traces are kept in autofit's cache), nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from _machine import add_date, header
from _published_prediction import Prediction, Predictor
from _published_rows import ROWS, Row, left_out, read_rows

from autofit.domain.plan import Verdict


@dataclass(frozen=True)
class Compared:
    row: Row
    predicted: Prediction

    @property
    def memory_ratio(self) -> float | None:
        """Predicted ÷ published bytes."""
        published = self.row.memory_bytes
        return None if published is None else self.predicted.memory.expected_bytes / published

    @property
    def speed_ratio(self) -> float | None:
        """Predicted ÷ published tokens/s."""
        published = self.row.tokens_per_s
        return None if published is None else self.predicted.tokens_per_s / published

    @property
    def is_inside(self) -> bool:
        published, memory = self.row.memory_bytes, self.predicted.memory
        return published is not None and memory.low_bytes <= published <= memory.high_bytes

    @property
    def is_wrong(self) -> bool:
        """Whether the verdict is false: `fits` of what ran out of memory, or `too large` of what ran."""
        return self.predicted.verdict is (Verdict.FITS if self.row.is_out_of_memory else Verdict.TOO_LARGE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=ROWS, help="other rows with the same columns")
    parser.add_argument("--only", default="", help="rows whose id contains this")
    parser.add_argument("--table", action="store_true", help="lines for people instead of JSON")
    add_date(parser)
    options = parser.parse_args()
    chosen = [row for row in read_rows(options.rows) if options.only in row.id]
    if not chosen:
        parser.error("no row has that id")
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the tracer's libraries print
    compared = compare([row for row in chosen if left_out(row) is None])
    if options.table:
        print("\n".join(line(one) for one in compared), file=answer)
    whole = summary(compared, [row for row in chosen if left_out(row) is not None])
    rows = {} if options.table else {"rows": [entry(one) for one in compared]}
    print(json.dumps(header("published", options.date) | whole | rows, indent=2), file=answer)
    answer.close()


def compare(rows: Sequence[Row]) -> list[Compared]:
    with tempfile.TemporaryDirectory() as root:
        predictor = Predictor(Path(root))
        return [Compared(row, predictor.predict(row)) for row in rows]


def summary(compared: Sequence[Compared], others: Sequence[Row]) -> dict[str, object]:
    # What trains in 16 bits alone is no strategy of autofit's, so its verdict says nothing.
    judged = [one for one in compared if not one.row.is_pure_bf16]
    return {
        "memory": _grouped(compared, lambda one: one.memory_ratio, has_interval=True),
        "speed": _grouped(compared, lambda one: one.speed_ratio, has_interval=False),
        "verdicts": {
            "row_count": len(judged),
            "by_verdict": dict(Counter(one.predicted.verdict.value for one in judged)),
            "wrong": [one.row.id for one in judged if one.is_wrong],
        },
        "outside_interval": [one.row.id for one in compared if one.memory_ratio is not None and not one.is_inside],
        "left_out": dict(Counter(left_out(row) for row in others).most_common()),
    }


def _grouped(
    compared: Sequence[Compared], ratio: Callable[[Compared], float | None], *, has_interval: bool
) -> dict[str, object]:
    """Figures of all rows that have this ratio, and of each card, source and source with its card."""
    groups: dict[str, list[Compared]] = {"all": []}
    for one in compared:
        if ratio(one) is None:
            continue
        card, source = one.row["gpu"], one.row.source
        for name in ("all", card, source, f"{source}, {card}"):
            groups.setdefault(name, []).append(one)
    return {name: _figures(group, ratio, has_interval=has_interval) for name, group in groups.items() if group}


def _figures(
    group: Sequence[Compared], ratio: Callable[[Compared], float | None], *, has_interval: bool
) -> dict[str, object]:
    ratios = sorted(found for one in group if (found := ratio(one)) is not None)
    inside = {"inside_share": round(sum(one.is_inside for one in group) / len(group), 3)} if has_interval else {}
    return {
        "row_count": len(ratios),
        "median": round(statistics.median(ratios), 3),
        "lowest": round(ratios[0], 3),
        "highest": round(ratios[-1], 3),
        **inside,
    }


def entry(one: Compared) -> dict[str, object]:
    memory = one.predicted.memory
    return {
        "id": one.row.id,
        "model": one.row["model"],
        "gpu": f"{one.row.rank_count} x {one.row['gpu']}",
        "memory_kind": one.row.memory_kind.value,
        "published_bytes": one.row.memory_bytes,
        "predicted_bytes": [round(value) for value in (memory.low_bytes, memory.expected_bytes, memory.high_bytes)],
        "published_tokens_per_s": one.row.tokens_per_s,
        "predicted_tokens_per_s": round(one.predicted.tokens_per_s, 1),
        "verdict": one.predicted.verdict.value,
    }


def line(one: Compared) -> str:
    row = one.row
    what = (
        f"{row.id:16} {row['model']:14} {row.rank_count:3} x {row['gpu']:11} {row.tokens:6} tokens x {row.micro_batch}"
    )
    memory = "" if one.memory_ratio is None else f"  memory {one.memory_ratio:.2f} {'' if one.is_inside else 'OUTSIDE'}"
    speed = "" if one.speed_ratio is None else f"  speed {one.speed_ratio:.2f}"
    return f"{what} {row['method']:5}{memory}{speed}  {one.predicted.verdict.value}"


if __name__ == "__main__":
    main()
