import pytest

from autofit.domain.units import format_bytes, format_count, format_seconds, parse_bytes


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("24GiB", 24 * 2**30), ("24GB", 24 * 10**9), ("1.5 gib", 3 * 2**29), ("900MiB", 900 * 2**20), ("4096", 4096)],
)
def test_sizes_are_read(text: str, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["", "24 apples", "-3GB", "GB", "1e9"])
def test_what_is_no_size_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="24GiB"):
        parse_bytes(text)


def test_sizes_are_written_in_decimal_units() -> None:
    assert [format_bytes(n) for n in (0, 999, 999_600, 79_200_000_000, 1.8e12, -31e9)] == [
        "0 B",
        "999 B",
        "1.0 MB",
        "79.2 GB",
        "1.8 TB",
        "-31.0 GB",
    ]
    assert format_bytes(512e6) == "512 MB"


def test_counts_and_durations() -> None:
    assert [format_count(n) for n in (87, 412_000, 33_600_000, 13.0e9)] == ["87", "412 k", "33.6 M", "13.0 B"]
    assert [format_seconds(s) for s in (6.1, 59.97, 187, 2530)] == ["6.1 s", "1:00", "3:07", "42:10"]
    assert format_seconds(2530 + 3600) == "1:42:10"
