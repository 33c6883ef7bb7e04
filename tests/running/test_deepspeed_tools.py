"""Where DeepSpeed would start ranks, in its own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from autofit.domain.deepspeed_line import HostSlots, LaunchLine, Layout
from autofit.running.deepspeed_tools import resolve_layout
from tests.spread import with_matrix

pytestmark = pytest.mark.slow

BOTH = (HostSlots("a", (0, 1)), HostSlots("b", (0, 1)))


def here(*slots: int) -> Layout:
    return Layout((HostSlots("localhost", slots),), is_multi_node=False)


@pytest.mark.parametrize(
    ("options", "layout"),
    with_matrix(
        [
            ("", here(0, 1)),
            ("--hostfile hosts", Layout(BOTH, is_multi_node=True)),
            ("--hostfile hosts --num_nodes 1 --num_gpus 1", Layout((HostSlots("a", (0,)),), is_multi_node=False)),
            ("--hostfile hosts --launcher carrier", None),
        ],
        [
            ("-i localhost:1 --autotuning run", here(1)),
            ("--hostfile hosts --no_ssh --node_rank 1", Layout(BOTH, is_multi_node=False)),
            ("-i localhost:7", None),
        ],
    ),
)
def test_the_layout(options: str, layout: Layout | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ssh: neither host exists."""
    (tmp_path / "hosts").write_text("a slots=2\nb slots=2\n")
    (tmp_path / "pdsh").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "pdsh").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("LOCAL_SIZE", "2")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert resolve_layout(LaunchLine(tuple(options.split()), "train.py", ("--x",))) == layout
