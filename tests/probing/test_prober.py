"""The fakes are whole: what the stories may ask of a prober, each of them answers, with the same arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_fake_has_all_that_its_interface_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each says at its end which one that is; of the real ones mypy sees it in `tools.py`."""
    from mypy import api

    monkeypatch.chdir(TESTS.parent)
    fakes = [path for path in TESTS.glob("fake_*.py") if "IMPLEMENTS: type[" in path.read_text()]
    assert sorted(path.name for path in fakes) == ["fake_agent.py", "fake_script.py", "fake_tracer.py"]
    told, complaint, code = api.run([str(path) for path in fakes])
    assert (code, complaint) == (0, ""), told
