"""Input that nobody would write on purpose."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from autofit.domain.errors import AutofitError

WORDS = st.sampled_from(["", "x", "nan", "inf", "-1", "0", "1e309", "9" * 400, "\0", "\ud800", "é", "auto", "[", "{"])
NUMBERS = st.one_of(
    st.integers(-(10**30), 10**30), st.floats(), st.sampled_from([0, -1, 1, 2**31, 2**63, 1e300, float("nan")])
)
LONGEST_S = 3.0
"""Of the CPU, for one reading: most take milliseconds."""

SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, st.text(max_size=8))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)

Path = tuple[Any, ...]


def paths_in(value: Any, here: Path = ()) -> list[Path]:
    """The places of all values within a JSON value."""
    items: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [here, *(path for key, inner in items for path in paths_in(inner, (*here, key)))]


def with_value(value: Any, path: Path, new: Any) -> Any:
    """A copy of a JSON value in which another stands at a place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, Mapping) else list(value)
    copy[path[0]] = with_value(copy[path[0]], path[1:], new)
    return copy


def changed(value: Any) -> st.SearchStrategy[Any]:
    """JSON values that differ from a good one in a place or two."""
    one = st.tuples(st.sampled_from(paths_in(value)), VALUES).map(lambda change: with_value(value, *change))
    return one | one.flatmap(lambda other: st.tuples(st.sampled_from(paths_in(other)), VALUES).map(
        lambda change: with_value(other, *change)
    ))  # fmt: skip


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """Files that are cut off, have bytes of another kind in them, or hold something else."""
    place = st.integers(0, len(content))
    spliced = st.tuples(place, st.binary(max_size=6), place).map(
        lambda cut: content[: min(cut[0], cut[2])] + cut[1] + content[max(cut[0], cut[2]) :]
    )
    pasted = st.tuples(place, st.sampled_from([b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\r\n", b"[" * 5000, b"9" * 5000]))
    return st.one_of(
        place.map(lambda end: content[:end]),
        spliced,
        pasted.map(lambda paste: content[: paste[0]] + paste[1] + content[paste[0] :]),
        st.binary(max_size=40),
        st.just(b"\xef\xbb\xbf" + content),
    )


def json_bytes(value: Any) -> bytes:
    return json.dumps(value).encode(errors="surrogatepass")


def clean(read: Callable[[], object]) -> object:
    """What is read, or the sentence that says why nothing is; any other exception fails the test, and so does what
    computes for long."""
    began_s = time.process_time()
    try:
        return read()
    except AutofitError as error:
        return str(error)
    finally:
        assert time.process_time() - began_s < LONGEST_S
