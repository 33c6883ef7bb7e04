"""What is typed instead of another launcher's line."""

from __future__ import annotations

import pytest

from autofit.cli.flags.deepspeed_options import launcher_parser
from autofit.cli.flags.other_launchers import line_instead
from tests.cli.command import end


@pytest.mark.parametrize(
    ("typed", "instead"),
    [
        ("deepspeed --num_gpus 2 train.py --x", "autofit --num_gpus 2 train.py --x"),
        ("python train.py --deepspeed ds.json", "autofit train.py --deepspeed ds.json"),
        ("/usr/bin/python3.11 -u -W ignore train.py", "autofit train.py"),
        ("python -m pkg.train --x", "autofit --module pkg.train --x"),
        ("python -m torch.distributed.run --nproc-per-node=4 train.py", "autofit --num_gpus 4 train.py"),
        (
            "torchrun --standalone --nproc_per_node 4 --rdzv-backend c10d train.py --x",
            "autofit --num_gpus 4 train.py --x",
        ),
        ("torchrun --nproc_per_node gpu -m pkg.train", "autofit --module pkg.train"),
        (
            "accelerate launch --multi_gpu --num_processes 8 --mixed_precision bf16 train.py",
            "autofit --num_gpus 8 train.py",
        ),
        ("accelerate launch --config_file a.yaml 'my train.py'", "autofit 'my train.py'"),
    ],
)
def test_the_line_to_type(typed: str, instead: str, capsys: pytest.CaptureFixture[str]) -> None:
    import shlex

    assert line_instead(shlex.split(typed)) == instead
    assert launcher_parser().parse_args(shlex.split(instead)[1:]).user_script
    assert end(*shlex.split(typed)) == 2
    assert f"Type\n           {instead}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "typed", ["", "bash train.sh", "pythonic x", "accelerate config", "python -c print(1)", "python", "torchrun"]
)
def test_what_is_no_such_line(typed: str) -> None:
    assert line_instead(typed.split()) is None
