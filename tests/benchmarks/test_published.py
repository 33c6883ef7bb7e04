"""The published rows: their data, and what is predicted of them without a trace."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from _published_prediction import Predictor, machine_of, strategy_of
from _published_rows import MemoryKind, Row, left_out, read_rows
from allocator_growth import Allocator, Shape, growth
from published import Compared, summary

from autofit.app.tools import REAL_TOOLS, Tools
from autofit.domain.errors import AutofitError
from autofit.inputs.model_config import read_shape
from autofit.store import Store

ROWS = read_rows()
USED = [row for row in ROWS if left_out(row) is None]


@pytest.fixture
def untraced(tmp_path: Path) -> Tools:
    """The closed form stands in for every trace."""

    def no_tracer(log_path: Path) -> object:
        raise AutofitError("nothing is traced here")

    return replace(REAL_TOOLS, open_store=lambda: Store(tmp_path / "store.sqlite"), start_tracer=no_tracer)


def test_every_row_names_its_source_and_none_stands_twice() -> None:
    assert all(row.source and row["ref"] for row in ROWS)
    assert len({row.id for row in ROWS}) == len(ROWS) == 150


@pytest.mark.parametrize("row", USED, ids=lambda row: row.id)
def test_a_used_row_has_a_machine_a_strategy_and_its_model(row: Row) -> None:
    assert machine_of(row).rank_count == row.rank_count
    assert strategy_of(row).micro_batch == row.micro_batch
    config = json.loads((row.config / "config.json").read_text())
    if "n_positions" in config:
        config["n_positions"] = row.tokens
    shape = read_shape(row["model"], config, None)
    assert shape is not None
    assert shape.parameter_count == pytest.approx(row.parameter_count, rel=0.003)


def test_what_has_no_rung_is_left_out_by_its_reason() -> None:
    reasons = {row.id: left_out(row) for row in ROWS}
    assert reasons["qwen-014"] == "method qlora: no rung"
    assert reasons["torchtune-010"] == "compiled by torch: no rung"
    assert reasons["ms-swift-020"] is not None
    assert len(USED) > 60


def test_what_was_read_decides_what_it_is_held_against() -> None:
    kinds = {row.id: row.memory_kind for row in ROWS}
    assert kinds["ms-swift-002"] is MemoryKind.RESERVED
    assert kinds["deepspeed-002"] is MemoryKind.ALLOCATED
    assert kinds["llamafactory-002"] is MemoryKind.WHOLE


@pytest.mark.parametrize("card", ["A100-80GB", "A100-40GB", "H100-80GB"])
def test_cards_are_met_without_a_trace(card: str, tmp_path: Path, untraced: Tools) -> None:
    """By formula, which counts a Llama's bytes beside products where MPT has fewer; no two cards err apart."""
    predictor = Predictor(tmp_path, untraced)
    rows = [row for row in USED if row.source == "llm-foundry" and row["gpu"] == card]
    ratios = [Compared(row, predictor.predict(row)).speed_ratio for row in rows]
    assert len(ratios) >= 10
    assert 0.85 < statistics.median(ratios) < 1.05  # type: ignore[type-var]


def test_the_summary_counts_what_lies_outside(tmp_path: Path, untraced: Tools) -> None:
    row = next(row for row in USED if row.id == "qwen-028")
    predicted = Predictor(tmp_path, untraced).predict(row)
    inside = Compared(row, replace(predicted, memory=replace(predicted.memory, low_bytes=0.0, high_bytes=1e12)))
    outside = Compared(row, replace(predicted, memory=replace(predicted.memory, low_bytes=0.0, high_bytes=1.0)))
    found = summary([inside, outside], [ROWS[0]])
    assert found["memory"]["all"]["inside_share"] == 0.5  # type: ignore[index]
    assert found["outside_interval"] == ["qwen-028"]


def test_an_allocator_gives_blocks_again_and_grows_for_longer_rows() -> None:
    allocator = Allocator()
    allocator.give_back(allocator.take(100_000_000))
    allocator.give_back(allocator.take(90_000_000))
    assert allocator.reserved_bytes == 100_663_296
    allocator.give_back(allocator.take(110_000_000))
    assert allocator.reserved_bytes > 200_000_000
    assert growth(Shape("tiny", 2048, 5504, 2), 1024, 60) > 1.5
