"""A whole training in odd surroundings: who can reach it, read its secrets or write its files, and what lies around."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
MARK = "secretmark"
SECRETS = {
    "HF_TOKEN": f"hf_{MARK}", "WANDB_API_KEY": f"{MARK}0123", "AWS_SECRET_ACCESS_KEY": f"aws/{MARK}",
    "MLFLOW_TRACKING_PASSWORD": f"{MARK}-pw", "HTTPS_PROXY": f"http://me:{MARK}@127.0.0.1:9",
}  # fmt: skip
SHADOWS = ("json", "torch", "numpy", "datasets", "random", "types", "typing", "deepspeed", "transformers", "socket")
MODEL, DATA, OUT = "a 'model' of $HOME", "-rows.jsonl", "my run's `$x`"


class Watch:
    """What was seen of a command's processes: where they listen, and their command lines."""

    def __init__(self) -> None:
        self.addresses: set[tuple[str, str]] = set()  # each with the command line of who listens there
        self.command_lines: set[str] = set()

    def look(self, process: psutil.Process) -> None:
        try:
            command_line = " ".join(process.cmdline())
            self.command_lines.add(command_line)
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    self.addresses.add((connection.laddr.ip, command_line))
        except psutil.Error:
            return  # it has ended meanwhile


@contextmanager
def watched(watch: Watch, top: psutil.Process) -> Iterator[None]:
    """Looks at `top` and all below it, again and again, until the end of `with`."""
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.05):
            for process in below(top):
                watch.look(process)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def below(top: psutil.Process) -> list[psutil.Process]:
    try:
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working directory with a model and rows of odd names, and with files that are called like libraries."""
    folder = tmp_path / "working directory"
    folder.mkdir()
    for name in SHADOWS:
        (folder / f"{name}.py").write_text(f"raise SystemExit('this {name} is a file of the user')\n")
    (folder / MODEL).symlink_to(ROOT / "examples/tiny-llama")
    shutil.copy(ROOT / "examples/dialogues.jsonl", folder / DATA)
    return folder


def run(command: list[str], place: Path, watch: Watch) -> tuple[int, str]:
    state = {"XDG_STATE_HOME": str(place.parent / "state"), "AUTOFIT_CACHE": str(place.parent / "cache")}
    process = psutil.Popen(
        command,
        cwd=place,
        env={**os.environ, **SECRETS, **state},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        umask=0o002,
    )
    with watched(watch, process):
        said = process.communicate()[0]
    return process.returncode, said


def test_a_training_keeps_to_itself_and_to_its_own_libraries(place: Path) -> None:
    """Also: the printed next command and command.sh work there."""
    watch, out = Watch(), place / OUT
    words = ["--model", MODEL, "--data", DATA, "--output-dir", OUT, "--seq", "128", "--batch-size", "8", "--ranks", "2"]
    words += ["--method", "full", "--zero-stage", "2", "--micro-batch", "2", "--gradient-checkpointing", "off"]
    words += ["--learning-rate", "1e-3", "--max-steps", "2", "--save-steps", "2", "--tolerance", "1%"]
    code, said = run([sys.executable, "-P", "-m", "autofit", "train", *words], place, watch)
    log = out / "logs/training.log"
    assert code == 0, said + (log.read_text(errors="replace")[-4000:] if log.exists() else "")
    assert "Measured" in (out / "trials.jsonl").read_text()  # by a probe, whose ranks listened, too

    _, _, following = said.rpartition("\nnext ")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    shown = subprocess.run(
        ["bash", "-c", following],
        cwd=place,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (shown.returncode, "trained" in shown.stdout) == (0, True), shown.stderr

    shutil.copy(place / "json.py", out)
    code, said = run([str(out / "command.sh"), "again"], place, watch)
    assert code == 0, said
    assert (out / "again/model/model.safetensors").is_file()

    listeners = " ".join(command_line for _, command_line in watch.addresses)
    assert "forkserver" in listeners  # the ranks of a probe
    assert "warm_launcher" in listeners  # those of the training
    assert "autofit.worker.train" in listeners  # and those that command.sh has started
    assert not [seen for seen in watch.addresses if not ipaddress.ip_address(seen[0]).is_loopback]
    assert len(watch.command_lines) > 5
    assert not [line for line in watch.command_lines if MARK in line]
    files = [path for path in place.parent.rglob("*") if path.is_file()]
    assert {"autofit.sqlite", "command.sh", "training.log", "report.html"} <= {path.name for path in files}
    assert not [path for path in files if MARK in path.name or MARK.encode() in path.read_bytes()]

    run_again = [out / name for name in ("command.sh", "request.json", "choice.json", "ds_config.json")]
    run_again += [out, out / "checkpoints", *(out / "checkpoints").rglob("*"), *(out / "again/checkpoints").rglob("*")]
    assert any(path.suffix == ".pt" for path in run_again)
    assert not [path for path in run_again if path.stat().st_mode & 0o022]
    assert log.stat().st_mode & 0o777 == 0o664  # as the umask says
    assert not re.findall("this [a-z]+ is a file of the user", said + log.read_text(errors="replace"))
