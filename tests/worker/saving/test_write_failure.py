"""A write that failed, told from the exception of whichever library wrote."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from autofit.worker.saving.write_failure import NotWritten, WriteFailure, write, write_failure

# Each writes more than the disk has, with a library of a checkpoint's; and tells what is made of its exception.
_FILL = """
import json, sys
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from autofit.worker.saving.write_failure import write_failure

place, tokenizer = sys.argv[1:]
words = {f"word{n}": n for n in range(300_000)}
several = Tokenizer.from_file(tokenizer)
several.add_tokens([f"word{n}" for n in range(60_000)])
large = {"a": torch.ones(2_000_000)}
found = {}
for name, fill in {
    "torch": lambda: torch.save(large, f"{place}/a.pt"),
    "torch, of a small file": lambda: torch.save({"a": 1}, f"{place}/b.pt"),
    "safetensors": lambda: save_file(large, f"{place}/a.safetensors"),
    "tokenizers": lambda: several.save(f"{place}/tokenizer.json"),
    "json": lambda: open(f"{place}/a.json", "w").write(json.dumps(words)),
}.items():
    try:
        fill()
    except Exception as error:
        failure = write_failure(error)
        found[name] = None if failure is None else failure.is_full
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (OSError(errno.ENOSPC, "x"), WriteFailure(True, "No space left on device")),
        (OSError(errno.EDQUOT, "x"), WriteFailure(True, "Disk quota exceeded")),
        (OSError(errno.EFBIG, "x"), WriteFailure(True, "File too large")),
        (PermissionError(errno.EACCES, "x"), WriteFailure(False, "Permission denied")),
        (OSError("what was written is not whole"), WriteFailure(False, "what was written is not whole")),
        (Exception("I/O error: No space left (os error 28)"), WriteFailure(True, "No space left on device")),
        (ValueError("a shape"), None),
        (RuntimeError("CUDA out of memory"), None),
        (MemoryError(), None),
    ],
    ids=repr,
)
def test_what_an_exception_says_of_a_write(error: Exception, failure: WriteFailure | None) -> None:
    assert write_failure(error) == failure


def test_what_was_raised_on_the_way_counts() -> None:
    error = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")
    assert write_failure(error) == WriteFailure(True, "torch could not write a file to its end, as on a full disk")
    error.__context__ = OSError(errno.EDQUOT, "x")
    assert write_failure(error) == WriteFailure(True, "Disk quota exceeded")


def test_only_what_a_write_says_is_kept() -> None:
    full = WriteFailure(True, "No space left on device")

    def fail(error: Exception) -> None:
        raise error

    assert write(lambda: None) is None
    assert write(lambda: fail(OSError(errno.ENOSPC, "x"))) == full
    assert write(lambda: fail(NotWritten(full, "a sentence"))) == full
    with pytest.raises(ValueError, match="a shape"):
        write(lambda: fail(ValueError("a shape")))


@pytest.mark.slow
def test_a_disk_that_is_full_is_told_from_every_library_of_a_checkpoint(tmp_path: Path) -> None:
    """A disk of 3 MB in a mount namespace."""
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine allows no mount namespace")
    place, tokenizer = tmp_path / "disk", Path(__file__).parents[3] / "examples/tiny-llama/tokenizer.json"
    place.mkdir()
    mount = 'mount -t tmpfs -o size=3m tmpfs "$1" && exec "$2" -c "$3" "$1" "$4"'
    words = [str(place), sys.executable, _FILL, str(tokenizer)]
    ended = subprocess.run([*namespace, "sh", "-c", mount, "sh", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == dict.fromkeys(
        ("torch", "torch, of a small file", "safetensors", "tokenizers", "json"), True
    )
