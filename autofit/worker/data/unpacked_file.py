"""The bytes of a data file, unpacked where its name says that it is packed."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from autofit.domain.errors import UsageError, error_text
from autofit.inputs.local_path import unreadable


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """The file, open, from its first byte; UsageError where it cannot be read or its packing is damaged, which may show
    anywhere within `with`."""
    try:
        with _opened(path) as file:
            yield file
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] == "zstandard":
            raise _damaged(path, error) from error
        raise


def _opened(path: Path) -> BinaryIO:
    name = path.name.lower()
    if name.endswith(".gz"):
        return io.BufferedReader(gzip.GzipFile(path))
    if name.endswith(".zst"):
        import zstandard

        return io.BufferedReader(zstandard.open(path, "rb"))  # which has lines
    return path.open("rb")


def _damaged(path: Path, error: Exception) -> UsageError:
    said = error_text(error, 100)
    return UsageError(f"{path}: not whole, or packed otherwise than its name says ({said}): make or fetch it again.")
