"""The command in this process, to its end."""

from __future__ import annotations

import pytest

from autofit.cli.main import main


def end(*words: str) -> int:
    """The exit code of `autofit` with these words."""
    with pytest.raises(SystemExit) as left:
        main(list(words))
    assert isinstance(left.value.code, int)
    return left.value.code
