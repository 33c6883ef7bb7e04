"""Data: rows of every kind of file, and whole files that are damaged."""

from __future__ import annotations

import contextlib
import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autofit.domain.task import Task
from autofit.planning.data.chat_turns import BadRow
from autofit.planning.data.task_rows import columns_of, example_of, format_of
from autofit.worker.data.first_rows import check_first_rows
from autofit.worker.data.located_rows import located
from autofit.worker.data.source import Files

from .junk import VALUES, changed, clean, damaged, json_bytes

CHAT = [{"role": "user", "content": "a", "weight": 0}, {"from": "gpt", "value": "b", "reasoning": "c"}]
ROWS: list[dict[str, Any]] = [
    {"text": "a"},
    {"prompt": "a", "completion": "b", "system": "c", "history": [["d", "e"]]},
    {"instruction": "a", "input": "b", "output": "c"},
    {"messages": CHAT},
    {"conversations": '[{"from": "human", "value": "a"}]'},
    {"input_ids": [1, 2], "labels": [1, -100], "attention_mask": [1, 1], "loss_mask": [0, 1]},
    {"prompt": "a", "chosen": "b", "rejected": "c", "margin": 1.0},
    {"chosen": CHAT, "rejected": CHAT},
    {"prompt": "a", "completion": "b", "label": True},
    {"prompt": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
]
JSON_LINES = b"".join(json_bytes(row) + b"\n" for row in ROWS[:2])
CSV = b'text,prompt\r\n"a, b",c\r\n"d\r\ne",f\r\n'


@given(st.sampled_from(ROWS).flatmap(changed), st.sampled_from(Task))
@settings(max_examples=200)
def test_a_row_of_odd_values(row: Any, task: Task) -> None:
    if not isinstance(row, dict):
        return
    columns = tuple(row)
    found = format_of(task, columns, row)
    if found is None:
        return
    with contextlib.suppress(BadRow):
        example_of(task, found, {name: row[name] for name in columns_of(task, found, columns)})


@given(st.lists(st.one_of(st.sampled_from(ROWS), VALUES), max_size=4), st.booleans())
def test_lines_of_odd_values(tmp_path: Path, rows: list[Any], is_array: bool) -> None:
    path = tmp_path / "d.json"
    path.write_bytes(json_bytes(rows) if is_array else b"\n".join(map(json_bytes, rows)))
    said = clean(lambda: check_first_rows(str(path), Task.SFT))
    assert said is None or str(path) in str(said)


@pytest.mark.parametrize(("name", "content"), [("d.jsonl", JSON_LINES), ("d.csv", CSV)])
@given(st.data())
def test_a_damaged_file(tmp_path: Path, name: str, content: bytes, data: st.DataObject) -> None:
    path = tmp_path / name
    path.write_bytes(data.draw(damaged(content)))
    said = clean(lambda: list(located(Files("csv" if name.endswith("csv") else "json", (path,)))))
    assert not isinstance(said, str) or str(path) in said


@given(damaged(gzip.compress(JSON_LINES, mtime=0)))
def test_a_damaged_packing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "d.jsonl.gz"
    path.write_bytes(content)
    said = clean(lambda: list(located(Files("json", (path,)))))
    assert not isinstance(said, str) or str(path) in said


def _parquet() -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", None], "n": [1, 2]}), stream)
    return stream.getvalue()


@given(damaged(_parquet()))
def test_a_damaged_parquet_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "d.parquet"
    path.write_bytes(content)
    said = clean(lambda: check_first_rows(str(path), Task.SFT))
    assert said is None or str(path) in str(said)


def test_a_line_of_many_megabytes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"text": "' + b"a" * 20_000_000 + b'"}\n')
    assert clean(lambda: check_first_rows(str(path), Task.SFT)) is None
