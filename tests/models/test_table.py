"""docs/models.md says of each family what its tests are declared to come to."""

from __future__ import annotations

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.models.expectations import Check, declared_families, fault
from tests.models.families import FAMILIES, LEFT_OUT
from tests.models.table import PAGE, WORKS, footnotes, number


def test_the_page_has_every_family_and_what_works_of_it() -> None:
    text = PAGE.read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    marks = {row[0]: row[1 : 1 + len(Check)] for row in rows[2:]}
    assert marks == {
        model_type: [WORKS if fault(check, model_type) is None else number(check, model_type) for check in Check]
        for model_type in FAMILIES
    }
    assert text.endswith(footnotes())


def test_what_is_declared_is_of_families_that_there_are() -> None:
    assert declared_families() <= set(FAMILIES)
    assert set(LEFT_OUT) <= set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert len(FAMILIES) >= 40
