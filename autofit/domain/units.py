"""Reading and writing of sizes, counts and durations. GB is 1e9 bytes, GiB is 2**30."""

from __future__ import annotations

import re

_FACTORS = {
    "": 1, "b": 1,
    "k": 2**10, "kib": 2**10, "kb": 10**3,
    "m": 2**20, "mib": 2**20, "mb": 10**6,
    "g": 2**30, "gib": 2**30, "gb": 10**9,
    "t": 2**40, "tib": 2**40, "tb": 10**12,
}  # fmt: skip
_MOST_BYTES = 2**63 - 1  # what 64 bits hold


def parse_bytes(text: str) -> int:
    """Reads `24GiB`, `24GB`, `900MiB` or a plain number as bytes; ValueError names the text and the forms that work."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    factor = _FACTORS.get(match.group(2).lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"'{text}' is not a size; write it like 24GiB, 24GB or 900MiB")
    size_bytes = float(match.group(1)) * factor
    if size_bytes > _MOST_BYTES:
        raise ValueError(f"'{text[:40]}' is more than any memory; write it like 24GiB, 24GB or 900MiB")
    return int(size_bytes)


def format_bytes(n_bytes: float) -> str:
    """A size in decimal units, with three significant figures: `79.2 GB`, `512 MB`."""
    sign, size = ("-", -n_bytes) if n_bytes < 0 else ("", n_bytes)
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor * 0.9995:
            value = size / factor
            return f"{sign}{value:.0f} {unit}" if value >= 99.95 else f"{sign}{value:.1f} {unit}"
    return f"{sign}{size:.0f} B"


def format_count(n: float) -> str:
    """A count of parameters as people read it: `13.0 B`, `33.6 M`, `412 k`, `87`."""
    for unit, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= factor * 0.9995:
            value = n / factor
            return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:.1f} {unit}"
    return f"{n:.0f}"


def format_seconds(seconds: float) -> str:
    """A duration as people read it: `0:42:10`, `3:07`, `6.1 s`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def brief_seconds(seconds: float) -> str:
    """A duration in as few figures as matter: `1:10`, `42 s`, `6.1 s`."""
    return f"{seconds:.0f} s" if 9.95 < seconds < 59.5 else format_seconds(seconds)


def rough_bytes(n_bytes: float) -> str:
    """A size with two or three significant figures: `53 GB`, `7.4 GB`."""
    return re.sub(r"^(\d\d+)\.\d", r"\1", format_bytes(n_bytes))


def rough_speed(value: float) -> str:
    """A speed with two significant figures: `9,100`."""
    return f"{int(float(f'{value:.1e}')):,}"
