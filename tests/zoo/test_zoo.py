"""Scripts of many styles, each under `deepspeed` and under `autofit`: the same training comes out of both."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from autofit.process.rendezvous import free_port
from autofit.runs.run_folder import RunFolder
from tests.spread import with_matrix

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOKENIZER = ROOT / "examples/tiny-llama"
BIN = Path(sys.executable).parent
DEADLINE_S = 240.0
SURELY = ("--autofit-tolerance", "1%")  # a training so short pays for no probe

PLAIN: dict[str, Any] = {
    "train_batch_size": 16,
    "bf16": {"enabled": True},
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
    "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 6, "warmup_type": "linear"}},
}
AUTO: dict[str, Any] = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "bf16": {"enabled": "auto"},
    "zero_optimization": {"stage": "auto"},
}
HF = (
    "--output_dir out --bf16 true --use_cpu true --learning_rate 1e-3 --lr_scheduler_type linear --logging_steps 1 "
    "--report_to none --per_device_train_batch_size 2 --gradient_accumulation_steps 4 --deepspeed ds.json"
)
TRL = f"{HF} --tokenizer {TOKENIZER} --max_length 16 --gradient_checkpointing false"


@dataclass(frozen=True)
class Style:
    """A script with what follows the launcher's options. `keeps_batch`: its micro-batch must stay as it is, because the
    script would train otherwise; `before` is a line that runs first, as the run that this one goes on from."""

    name: str
    line: str
    config: dict[str, Any] | None = field(default_factory=lambda: PLAIN)
    is_searched: bool = True
    keeps_batch: bool = False
    before: str | None = None
    files: dict[str, str] = field(default_factory=dict)


WRITERS = Style(
    "writers",
    "writers.py --steps 12 --deepspeed_config ds.json",
    {
        **PLAIN,
        "csv_monitor": {"enabled": True, "output_path": "monitor", "job_name": "run"},
        "tensorboard": {"enabled": True, "output_path": "monitor", "job_name": "board"},
    },
    files={"kept.txt": "of before", "turned.log": "of the run before"},
)

STYLES = [
    Style("counts steps", "counts_steps.py --max_steps 12 --deepspeed_config ds.json"),
    Style("click with dashes", "with_click.py --max-steps 12 --per-device-train-batch-size 4 --deepspeed ds.json", AUTO,
          keeps_batch=True),
    Style("eval mode", "eval_mode.py --steps 12 --deepspeed_config ds.json"),
    Style("counts batches", "counts_batches.py --batches 24 --deepspeed_config ds.json",
          {**PLAIN, "train_micro_batch_size_per_gpu": 4, "train_batch_size": 8, "zero_allow_untested_optimizer": True},
          keeps_batch=True),
    Style("counts epochs", "counts_epochs.py --epochs 2 --deepspeed_config ds.json"),
    Style("train_batch", "pipeline.py --steps 10 --deepspeed_config ds.json",
          {**PLAIN, "train_micro_batch_size_per_gpu": 4}, is_searched=False, keeps_batch=True),
    Style("a dict in code", "dict_config.py 10", None, is_searched=False, keeps_batch=True),
    Style("own loader", "own_loader.py --steps 12 --deepspeed_config ds.json", keeps_batch=True),
    Style("Trainer", f"with_hf_parser.py --max_steps 12 --save_strategy no {HF} --report_to tensorboard", AUTO),
    Style("Trainer resumed",
          f"with_hf_parser.py --max_steps 14 --save_steps 4 --resume_from_checkpoint out/checkpoint-4 {HF}", AUTO,
           before=f"with_hf_parser.py --max_steps 14 --save_steps 4 {HF}"),
    Style("load_checkpoint", "eval_mode.py --steps 14 --load_dir out --deepspeed_config ds.json",
          before="eval_mode.py --steps 3 --deepspeed_config ds.json"),
    Style("trl sft", f"with_trl.py --task sft --max_steps 12 --save_strategy no {TRL}", AUTO),
    Style("trl dpo", f"with_trl.py --task dpo --max_steps 12 --save_strategy no {TRL}", AUTO),
    Style("trl reward", f"with_trl.py --task reward --max_steps 12 --save_strategy no {TRL}", AUTO),
    Style("a recipe file", "with_trl.py --config sft.yaml --deepspeed ds.json --per_device_train_batch_size 2", AUTO,
          files={"sft.yaml": f"task: sft\ntokenizer: {TOKENIZER}\nmax_steps: 12\noutput_dir: out\nbf16: true\n"
                 "use_cpu: true\nlearning_rate: 1e-3\nlogging_steps: 1\nreport_to: none\nmax_length: 16\n"
                 "gradient_accumulation_steps: 4\nsave_strategy: 'no'\ngradient_checkpointing: false\n"}),
    Style("--module", "--module pkg.train --steps 12 --deepspeed_config ds.json"),
    WRITERS,
]  # fmt: skip
ALWAYS = STYLES[:2]


@dataclass(frozen=True)
class Ended:
    code: int
    steps: list[dict[str, Any]]
    files: set[str]
    said: str


def prepare(style: Style, folder: Path) -> None:
    """Puts what the style is made of into a new folder."""
    shutil.copytree(HERE / "scripts", folder)
    for name, text in style.files.items():
        (folder / name).write_text(text)
    if style.config is not None:
        (folder / "ds.json").write_text(json.dumps(style.config))


def train(launcher: str, style: Style, folder: Path, cache: Path) -> Ended:
    prepare(style, folder)
    if style.before is not None:
        first = _run(["deepspeed"], style.before, folder, cache)
        assert first.returncode == 0, first.stdout
        (folder / "steps.jsonl").unlink()
    ended = _run([launcher, *SURELY] if launcher == "autofit" else [launcher], style.line, folder, cache)
    lines = (folder / "steps.jsonl").read_text().splitlines() if (folder / "steps.jsonl").exists() else []
    return Ended(ended.returncode, [json.loads(line) for line in lines], _files(folder), ended.stdout)


def _run(
    launcher: list[str], line: str, folder: Path, cache: Path, *, before: tuple[str, ...] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs the line; `before` are the words of a program that starts it."""
    environment = {
        **os.environ, "DS_ACCELERATOR": "cpu", "LOCAL_SIZE": "2", "OMP_NUM_THREADS": "1", "AUTOFIT_CACHE": str(cache),
        "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1", **variables,
    }  # fmt: skip
    words = [str(BIN / launcher[0]), *launcher[1:], "--num_gpus", "2", "--master_port", str(free_port()), *line.split()]
    return subprocess.run(
        [*before, *words],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


def _files(folder: Path) -> set[str]:
    """The files by their names, but for autofit's own and for what tells the time or the process in its name."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in found if path.parts[0] != "autofit-runs" and "events.out" not in path.name}


@pytest.mark.parametrize("style", with_matrix(ALWAYS, STYLES[2:]), ids=lambda style: style.name)
def test_a_script_trains_under_autofit_as_under_deepspeed(style: Style, tmp_path: Path) -> None:
    theirs = train("deepspeed", style, tmp_path / "deepspeed", tmp_path / "cache")
    assert theirs.code == 0, theirs.said
    assert len(theirs.steps) > 6
    ours = train("autofit", style, tmp_path / "autofit", tmp_path / "cache")
    assert ours.code == theirs.code, ours.said
    for what in ("step", "rate", "rows"):
        assert [one[what] for one in ours.steps] == pytest.approx([one[what] for one in theirs.steps]), ours.said
    assert _without_shares(ours.files) == _without_shares(theirs.files)
    choices = list((tmp_path / "autofit/autofit-runs").glob("*/choice.json"))
    assert bool(choices) == style.is_searched, ours.said
    if style.keeps_batch or "your own configuration stays" in ours.said:
        assert [one["loss"] for one in ours.steps] == pytest.approx([one["loss"] for one in theirs.steps], rel=0.02)
    if choices:
        choice = RunFolder(choices[0].parent).read_choice()
        assert choice is not None
        assert choice.strategy.micro_batch * choice.strategy.gradient_accumulation * 2 == theirs.steps[0]["rows"]


def _without_shares(files: set[str]) -> set[str]:
    """Without what each ZeRO stage names in its own way within a checkpoint, and the scripts beside the shares of all
    but stage 0."""
    own = ("_states.pt", "rng_state.pth", "optimizer.pt", "zero_to_fp32.py", "zero_to_torch.py")
    return {name for name in files if not name.endswith(own)}


SHARED = "shared.txt"
OWN_SHARED = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs tmpfs /dev/shm && "$@"; code=$?; ls -A /dev/shm > "$SHARED"; exit $code',
    "sh",
)
"""Starts a program with a /dev/shm of its own, and says in the file SHARED what is left there."""


@pytest.mark.parametrize("overlay", with_matrix(["1"], ["0"]))
def test_a_search_leaves_every_byte_as_it_was(overlay: str, tmp_path: Path) -> None:
    """Whatever its probes write, make, rename and remove: in the script's folder, a tracker's, a home, /dev/shm."""
    folder, home, shared = tmp_path / "script", tmp_path / "home", tmp_path / SHARED
    prepare(WRITERS, folder)
    for place in (folder / "board", home / "mlruns"):
        place.mkdir(parents=True)
        (place / "events.out.of.before").write_text("of before")
    is_root = os.geteuid() == 0
    before = _tree(tmp_path)
    ended = _run(
        ["autofit", *SURELY, "--autofit-dry-run"], WRITERS.line, folder, tmp_path / "cache",
        before=OWN_SHARED if is_root else (), SHARED=str(shared), HOME=str(home), AUTOFIT_OVERLAY=overlay,
        WANDB_DIR=str(home), XDG_CACHE_HOME=str(tmp_path / "cache"),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    assert "not started: deepspeed" in ended.stdout
    assert len(list(folder.glob("autofit-runs/*/logs/probe-*.log"))) > 2, ended.stdout
    assert _tree(tmp_path) == before, ended.stdout
    if is_root:
        assert shared.read_text() == ""


def _tree(root: Path) -> dict[str, tuple[int, bytes | str, int]]:
    """All that lies there with its mode, what it holds and when it was written, but for autofit's own folders."""
    found = {}
    for path in sorted(root.rglob("*")):
        place, stat = path.relative_to(root), path.lstat()
        if not {"autofit-runs", "cache", ".cache", SHARED}.isdisjoint(place.parts):
            continue
        if path.is_symlink():
            found[str(place)] = (stat.st_mode, os.readlink(path), stat.st_mtime_ns)
        else:  # a folder's time tells of autofit-runs as well
            holds = path.read_bytes() if path.is_file() else b""
            found[str(place)] = (stat.st_mode, holds, stat.st_mtime_ns if path.is_file() else 0)
    return found
