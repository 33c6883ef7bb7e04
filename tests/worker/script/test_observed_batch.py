"""Rows and tokens of batches, in whatever form scripts hand them to a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BatchEncoding

from autofit.worker.script.observed_batch import observe_batch

IDS = torch.ones(4, 16, dtype=torch.long)
MASK = (torch.arange(16) < 10).expand(4, 16)
JOINED = torch.ones(1, 60, dtype=torch.long)


@pytest.mark.parametrize(
    ("inputs", "kwargs", "seen"),
    [
        ((), {"input_ids": IDS, "attention_mask": MASK}, (4, 16, 40)),
        ((BatchEncoding({"input_ids": IDS, "attention_mask": MASK}),), {}, (4, 16, 40)),
        (({"rest": [{"labels": torch.ones(9)}], "inputs": {"input_ids": IDS}},), {}, (4, 16, 64)),
        ((IDS,), {"labels": IDS}, (4, 16, 64)),
        ((), {"input_ids": IDS, "attention_mask": torch.ones(4, 1, 16, 16)}, (4, 16, 64)),
        ((torch.ones(8, 3, 32, 32), torch.ones(8)), {}, (8, None, 8)),
        ((), {"input_ids": JOINED, "position_ids": JOINED}, (3, 20, 60)),
        ((None, "text"), {}, (None, None, 0)),
    ],
)
def test_a_batch_says_its_rows_and_tokens(inputs: Any, kwargs: Any, seen: tuple[int | None, ...]) -> None:
    observed = observe_batch((inputs, kwargs), micro_batch=3)
    assert (observed.rows, observed.tokens, int(observed.real_tokens)) == seen
