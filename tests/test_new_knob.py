"""CONTRIBUTING's "How to add a rung", done in a copy of the package: a declaration and a field are all it takes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DECLARATION = "autofit/domain/knobs/compilation.py"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the knob that CONTRIBUTING adds, and no other file changed."""
    root = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT / "autofit", root / "autofit", ignore=shutil.ignore_patterns("__pycache__"))
    declaration, field = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)
    assert declaration.startswith(f"# {DECLARATION}\n")
    (root / DECLARATION).write_text(declaration, "utf-8")
    strategy = root / "autofit/domain/strategy.py"
    text = strategy.read_text("utf-8")
    import_line = "from .knobs.compilation import COMPILATION\nfrom .knobs.dtype import"
    text = text.replace("from .knobs.dtype import", import_line, 1)
    dtype = next(line for line in text.splitlines(keepends=True) if line.startswith("    dtype: "))
    strategy.write_text(text.replace(dtype, field + dtype, 1), "utf-8")
    return root


def run(package: Path, *words: str) -> str:
    env = {
        "PYTHONPATH": f"{package}:{ROOT}",
        "PATH": "/usr/bin:/bin",
        "AUTOFIT_CACHE": str(package / "cache"),
    }
    done = subprocess.run(
        [sys.executable, *words], cwd=package, env=env, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_flag_is_in_the_help_of_train_and_plan(package: Path) -> None:
    for verb in ("train", "plan"):
        help_text = run(package, "-m", "autofit", verb, "--help")
        assert re.search(r"--compilation auto\|on\|off +Compile the model with torch", help_text)


LOOK = """
import json, sys
from dataclasses import replace
from pathlib import Path

import autofit
assert Path(autofit.__file__).is_relative_to(Path.cwd()), autofit.__file__

from autofit.cli.request_builder import build_request
from autofit.cli.train import command
from autofit.domain.codec import decode, encode
from autofit.domain.errors import UsageError
from autofit.domain.knobs.pins import Pins
from autofit.domain.request import Request
from autofit.domain.strategy import KNOBS, Rung
from autofit.domain.trial import Choice, Trial
from autofit.planning.space.axes import settle
from autofit.planning.search.dominance import needs_no_less
from autofit.planning.space.ladder_builder import build_ladder
from autofit.planning.plan.candidates import make_plan
from autofit.report.html import report_html
from autofit.report.plan.plan_json import plans_body
from autofit.runs.run_folder import RunRecord
from autofit.runs.request_diff import differences
from autofit.runs.run_folder import RunFolder
from autofit.store.store import Store
from tests.planning import simulated as sim

COMPILATION = next(knob for knob in KNOBS if knob.name == "compilation")
scene = sim.setting(sim.hardware(8, 80))


def build(scene, *installed):
    scene = replace(scene, installed=frozenset(installed))
    return build_ladder(scene, settle(scene))


ladder = build(scene, "triton")

# the ladder, and a label
compiled = [step for step in ladder.steps if step.rung.compilation]
plain = [step for step in ladder.steps if not step.rung.compilation]
assert len(compiled) == len(plain) > 0
assert "zero2+lora+gc+compiled" in {str(step.rung) for step in compiled}

# a pin: from the command line, in the ladder, refused where it cannot be, told where it differs
context = command.make_context("train", "--model m --compilation on".split())
request = build_request(context.params, (), lambda ranks: 8)
assert request.pins == Pins(compilation=True)
assert decode(Request, encode(request)) == request
pinned = replace(scene, request=replace(scene.request, pins=request.pins))
assert all(step.rung.compilation for step in build(pinned, "triton").steps)
assert differences(replace(request, pins=Pins()), request) == ("--compilation (not set, now on)",)

# left out with its reason, refused with it where it is pinned
lacking = build(scene)
assert not any(step.rung.compilation for step in lacking.steps)
assert "the package triton is not installed" in {out.reason for out in lacking.left_out if out.rung.compilation}
try:
    build(pinned)
    raise SystemExit("a pin that cannot be met was taken")
except UsageError as error:
    assert str(error) == "--compilation on cannot be used: the package triton is not installed; use off", error

# trials, written with it and before it
step = compiled[0]
trials = [Trial(strategy, ladder.estimate(strategy), sim.measured()) for strategy in step.strategies]
folder = RunFolder(Path("run"))
for trial in trials:
    folder.append_trial(trial)
assert list(folder.read_trials()) == trials
before = encode(trials[0])
del before["strategy"]["rung"]["compilation"]
assert not decode(Trial, before).strategy.rung.compilation

# dominance: a compiled rung needs no less than the same one that is not, and never the other way round
heavy = compiled[0].strategies[0]
light = replace(heavy, rung=replace(heavy.rung, compilation=False))
memory = ladder.estimate(heavy).memory
assert needs_no_less(heavy, light, memory, memory) and not needs_no_less(light, heavy, memory, memory)

# JSON and HTML
body = plans_body([make_plan(replace(scene, installed=frozenset({"triton"})))])
assert {candidate["strategy"]["compilation"] for candidate in body["candidates"]} == {True, False}
choice = Choice(heavy, trials[0].outcome, "why")
page = report_html(RunRecord(scene.request, scene.hardware, tuple(trials), choice, None))
assert "+compiled" in page and "· compiled ·" in page
print("all seen")
"""


def test_it_is_in_ladder_pin_label_trials_dominance_json_and_html(package: Path) -> None:
    assert run(package, "-c", LOOK) == "all seen\n"
