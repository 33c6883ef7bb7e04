"""Which names the pickles in a file of `torch.save` ask for, and whether all are of those that tensors need.

A pickle is a program: it imports what it names and calls it. Here its opcodes are read, and nothing of it is run.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from autofit.domain.errors import UsageError

_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_GETS = ("GET", "BINGET", "LONG_BINGET")
_REGISTERED = ("EXT1", "EXT2", "EXT4")  # names that only the interpreter's own registry tells
_LEGACY_PICKLES = 5  # magic number, protocol, system, the object, the keys of its storages (torch's _legacy_load)

# What torch.load takes with weights_only (torch/_weights_only_unpickler.py), as far as files of weights and of states
# name it; what numpy's generators keep in a random state; and the classes of DeepSpeed's and torchao's optimizers.
_KNOWN = re.compile(
    r"""collections\ OrderedDict
    | (builtins|__builtin__)\ (set|bytearray|complex)
    | _codecs\ encode
    | numpy\ (dtype|ndarray)
    | numpy\._?core\.multiarray\ (_reconstruct|scalar)
    | torch\ (Size|device|Tensor|\w+Storage|bool|half|double|b?float\d\w*|u?int\d+|long|complex\d+)
    | torch\._utils\ _rebuild_(tensor|tensor_v2|parameter|parameter_with_state|sparse_tensor|wrapper_subclass)
    | torch\._tensor\ _rebuild_from_type_v2
    | torch\.serialization\ _get_layout
    | torch\.storage\ (Typed|Untyped)Storage
    | torch\.nn\.parameter\ Parameter
    | deepspeed\.runtime\.fp16\.loss_scaler\ (Dynamic)?LossScaler
    | deepspeed\.runtime\.zero\.config\ ZeroStageEnum
    | deepspeed\.runtime\.zero\.offload_config\ OffloadDeviceEnum
    | deepspeed\.utils\.tensor_fragment\ fragment_address
    | torchao\.optim\.subclass_(4bit|8bit|fp8)\ OptimState(4bit|8bit|Fp8)
    """,
    re.VERBOSE,
)


def check_weights(paths: Iterable[Path]) -> None:
    """Checks files of weights, before anything is tried with them; UsageError for one that names more than tensors
    need: torch would not load it either, and only in the full run would one see that."""
    for path in paths:
        if (name := _unknown_name(path)) is not None:
            raise UsageError(
                f"{path} asks for {name} to be run when it is unpickled, which no weights need: it may be an attack. "
                "Take the model's safetensors, or its weights from somebody whom you trust."
            )


def check_checkpoint(folder: Path) -> None:
    """Checks what DeepSpeed and transformers unpickle of a checkpoint; UsageError for what none of them has written.

    DeepSpeed loads its files without `weights_only` (runtime/checkpoint_engine/torch_checkpoint_engine.py).
    """
    for path in sorted(folder.rglob("*.pt*")):
        if path.suffix in (".pt", ".pth") and path.is_file() and (name := _unknown_name(path)) is not None:
            raise UsageError(
                f"--resume {folder}: {path.relative_to(folder)} asks for {name} to be run when it is unpickled, which "
                "no checkpoint needs: it may be an attack. Start from its weights instead, with --model."
            )


def _unknown_name(path: Path) -> str | None:
    """The first name that is not known, None where all are; UsageError for what is no file of `torch.save`."""
    try:
        return next((name for name in pickled_names(path) if not _KNOWN.fullmatch(name)), None)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is not whole, or no file that torch has written: {error}.") from error


def pickled_names(path: Path) -> Iterator[str]:
    """Every `module name` that a pickle in the file asks for, `?` for one that is only known when it is run.

    ValueError, EOFError or BadZipFile for what cannot be read. An empty file asks for nothing.
    """
    if path.stat().st_size == 0:
        return
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            for _ in range(_LEGACY_PICKLES):
                yield from _names_in(file)
        return
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.lower().endswith(".pkl"):  # torch looks without regard to case
                with archive.open(entry) as file:
                    yield from _names_in(file)


def _names_in(file: IO[bytes]) -> Iterator[str]:
    """The names in the pickle that begins here. Afterwards the file is behind it."""
    memo: dict[int, str | None] = {}
    top: list[str | None] = [None, None]  # the two values on top of the stack, where they are texts
    for opcode, value, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(value)
        elif opcode.name == "STACK_GLOBAL":
            yield "?" if None in top else " ".join(map(str, top))
        elif opcode.name in _REGISTERED:
            yield "?"
        if opcode.name in _PUTS:
            memo[len(memo) if value is None else value] = top[1]
        elif opcode.name in _TEXTS:
            top = [top[1], value]
        elif opcode.name in _GETS:
            top = [top[1], memo.get(int(value or 0))]
        else:
            top = [None, None]
