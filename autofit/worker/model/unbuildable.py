"""Why a model cannot be built, as far as it is not autofit that fails."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

_OF_PYTHON = (ArithmeticError, AttributeError, LookupError, NameError, TypeError)
_EXCEPTION_NAME = re.compile(r"\b\w+(?:Error|Exception): ?")


class BuildRefused(Exception):
    """The model itself cannot be built like this, here or on a GPU; the message is one plain sentence."""


@contextlib.contextmanager
def building(what: str) -> Iterator[None]:
    """Turns what transformers or PEFT object to while they build `what` into BuildRefused.

    A RuntimeError comes from torch: it may be about the meta device alone, so it says nothing of a real model.
    """
    try:
        yield
    except (BuildRefused, RuntimeError):
        raise
    except Exception as error:
        why = first_sentence(error) or "its code does not accept these settings"
        raise BuildRefused(f"{what} cannot be built: {why}") from error


def first_sentence(error: Exception) -> str | None:
    """The first sentence of what a library says of a model, without the names of exceptions.

    None where it says nothing of it: what Python itself says of a fault in the code (a missing key, an attribute of
    None) tells people nothing.
    """
    if isinstance(error, _OF_PYTHON):
        return None
    text = re.sub(r":\s*\n\s*", ": ", _EXCEPTION_NAME.sub("", str(error).strip()))
    sentence = (text.splitlines() or [""])[0].split(". ")[0].rstrip(".:")
    return sentence if " " in sentence else None
