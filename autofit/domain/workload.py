"""What was found in the data: how many examples and how long they are in tokens."""

from __future__ import annotations

from dataclasses import dataclass

DATA_KINDS = {".json": "json", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".parquet": "parquet"}
"""The endings of files that can be trained on, with the name of what reads them in `datasets`."""


@dataclass(frozen=True)
class DataProfile:
    """Lengths are in tokens as the trainer will see them: after the chat template, truncation and packing."""

    source: str
    data_format: str  # text, prompt/completion, messages, ...
    example_count: int
    eval_example_count: int
    longest_tokens: int
    sampled_lengths_tokens: tuple[int, ...]  # sorted; a sample of the data, never empty
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchShape:
    """One micro-batch of a probe: `padded_tokens` wide, of which `mean_tokens` a row are real."""

    padded_tokens: int
    mean_tokens: float
