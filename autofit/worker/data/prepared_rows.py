"""A source's rows as the trainer takes them: tokens and labels, counted, and those left out that teach nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, Features, List, Value
from datasets.fingerprint import Hasher

from autofit import __version__
from autofit.domain.errors import UsageError, error_text
from autofit.domain.workload import Learned, RowCounts
from autofit.planning.data.chat_turns import BadRow
from autofit.planning.data.token_row import IGNORED
from autofit.planning.data.truncation import RowExtent, Truncation, count_rows

from .kept import cache_file
from .loaded_data import LoadedData, first_rows
from .located_rows import fault
from .row_columns import column, lengths
from .row_processes import process_count
from .row_tokens import RowTokenizer

_TOKENS = List(Value("int32"))
_FEATURES = Features(
    {
        "input_ids": _TOKENS,
        "labels": _TOKENS,
        "first": Value("int32"),
        "last": Value("int32"),
        "highest": Value("int32"),
        "is_untold": Value("bool"),
        "unshown": List(Value("string")),
    }
)
THEN = (
    "Change the row or leave it out; for chats another template may do, given with `-- --chat_template_path FILE.jinja`"
)


@dataclass(frozen=True)
class Prepared:
    """What was prepared: `dataset` has `input_ids` and `labels` of the rows that are trained on, not yet cut. `notes`
    are for the user."""

    dataset: Dataset
    counts: RowCounts
    learned: Learned
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Preparation:
    """How rows are cut, the share of them that may be lost, how many tokens the model knows (None: unknown), and how
    many processes at most make the tokens."""

    truncation: Truncation
    allowed_drop: float
    embedding_count: int | None
    most_processes: int = 1


class _RowError(Exception):
    """What went wrong with the row of an index."""

    def __init__(self, index: int, what: str) -> None:
        super().__init__(index, what)
        self.index = index
        self.what = what


def prepare(loaded: LoadedData, tokenize: RowTokenizer, how: Preparation) -> Prepared:
    """Prepares the rows of a source; UsageError names the row that cannot be used."""
    try:
        rows = _tokenized(loaded.dataset, tokenize, how.most_processes)
    except _RowError as error:
        raise fault(loaded.where(error.index), error.what, THEN) from error
    if how.embedding_count is not None:
        _check_known(loaded, rows, tokenize, how.embedding_count)
    extents = _extents(rows)
    counts = count_rows(extents, how.truncation, how.allowed_drop)
    kept = [i for i, row in enumerate(extents) if how.truncation.keeps(row)]
    if not kept:
        raise nothing_left(loaded.source, counts, how.truncation)
    return Prepared(
        dataset=rows.select(kept).select_columns(["input_ids", "labels"]),
        counts=counts,
        learned=_learned(tokenize.learned(loaded.dataset[0]), counts),
        notes=(*loaded.notes, *lost_notes(extents, how.truncation), *_untold_note(counts), *_unshown_note(rows)),
    )


def _tokenized(examples: Dataset, tokenize: RowTokenizer, most_processes: int) -> Dataset:
    """The rows as tokens, cached by what the tokens depend on: the survey does it once, and every rank finds it
    done."""
    fingerprint = Hasher.hash((examples._fingerprint, __version__, tokenize.learn.value, _state(tokenize)))
    return examples.map(
        _row(tokenize),
        with_indices=True,
        remove_columns=examples.column_names,
        features=_FEATURES,
        new_fingerprint=fingerprint,
        cache_file_name=cache_file(examples, fingerprint),
        desc="Tokenizing",
        num_proc=process_count(len(examples), most_processes),
    )


def _state(tokenize: RowTokenizer) -> tuple[object, ...]:
    tokenizer = tokenize.tokenizer
    words = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else sorted(tokenizer.get_vocab().items())
    kind = type(tokenizer).__name__
    return kind, words, sorted(tokenizer.special_tokens_map.items()), tokenizer.chat_template


def _row(tokenize: RowTokenizer) -> Callable[[Mapping[str, Any], int], dict[str, object]]:
    def row(example: Mapping[str, Any], index: int) -> dict[str, object]:
        try:
            made = tokenize(example)
        except MemoryError:
            raise
        except BadRow as error:
            raise _RowError(index, str(error)) from error
        except Exception as error:  # tokenizers and templates raise what they like over a row
            raise _RowError(index, refusal(error)) from error
        learned = [i for i, label in enumerate(made.labels) if label != IGNORED and i > 0]
        return {
            "input_ids": made.ids,
            "labels": made.labels,
            "first": learned[0] if learned else -1,
            "last": learned[-1] if learned else -1,
            "highest": max(*made.ids, *made.labels, -1, -1),
            "is_untold": made.is_untold,
            "unshown": list(made.unshown),
        }

    return row


def refusal(error: Exception) -> str:
    """What is wrong with a row over which a tokenizer or its template raised `error`."""
    said = error_text(error, 300)
    return f"the tokenizer or its chat template refuses it ({said})"


def _extents(rows: Dataset) -> list[RowExtent]:
    others = (column(rows, name).to_pylist() for name in ("first", "last", "is_untold"))
    return [RowExtent(*values) for values in zip(lengths(rows), *others, strict=True)]


def _check_known(loaded: LoadedData, rows: Dataset, tokenize: RowTokenizer, embedding_count: int) -> None:
    """Checks that the model knows all tokens: without it the probe would pass, and the training die of an index."""
    for index, token in enumerate(column(rows, "highest").to_pylist()):
        if token >= embedding_count:
            raise unknown_token(loaded.where(index), token, embedding_count, len(tokenize.tokenizer))


def unknown_token(where: str, token: int, embedding_count: int, known_count: int) -> UsageError:
    """The error of a token beyond the embedding; `known_count` are the tokenizer's."""
    return fault(
        where,
        f"token {token:,} is beyond the model's embedding, which holds {embedding_count:,} "
        f"(its tokenizer knows {known_count:,})",
        _then(token, known_count),
    )


def _then(token: int, known_count: int) -> str:
    """What to do about a token beyond the embedding."""
    if token >= known_count:
        return "Make the row's tokens with the model's own tokenizer, or train the model that they were made for"
    return (
        f"Resize the embedding and save the model (model.resize_token_embeddings({known_count}), save_pretrained), "
        "or use the tokenizer that the model was trained with"
    )


def nothing_left(source: str, counts: RowCounts, truncation: Truncation) -> UsageError:
    """The error of data of which no row is trained on."""
    then = f"--seq {counts.enough_tokens} keeps enough of them" if counts.enough_tokens else "Use a longer --seq"
    if counts.too_long:
        return fault(source, f"every row is longer than {truncation.limit_tokens:,} tokens", then)
    if not counts.dropped:
        return fault(source, "no row has a text or an answer to learn from")
    return fault(source, f"all that is learned lies beyond {truncation.limit_tokens:,} tokens, in every row", then)


def _learned(learned: Learned, counts: RowCounts) -> Learned:
    return Learned.UNTOLD_TURNS if counts.untold == counts.total - counts.lost else learned


def lost_notes(extents: Sequence[RowExtent], truncation: Truncation) -> tuple[str, ...]:
    """Which rows are the first of those that are left out and of those that are dropped."""
    empty = next((number for number, row in enumerate(extents, 1) if row.first < 1), None)
    kinds = (row.first >= 1 and not truncation.keeps(row) for row in extents)
    dropped = next((number for number, is_dropped in enumerate(kinds, 1) if is_dropped), None)
    lies_beyond = "is longer than --seq" if truncation.is_whole else "learns only what lies beyond --seq"
    found = (("holds nothing to learn from", empty), (lies_beyond, dropped))
    return tuple(f"row {number:,} is the first that {what}" for what, number in found if number is not None)


def _untold_note(counts: RowCounts) -> tuple[str, ...]:
    if counts.untold in (0, counts.total - counts.lost):
        return ()
    return (f"{counts.untold:,} chats are learned whole: their turns cannot be told apart",)


def _unshown_note(rows: Dataset) -> tuple[str, ...]:
    said = first_rows(column(rows, "unshown").to_pylist())
    return (f"not shown by the chat template, or not word for word: {said}",) if said else ()
