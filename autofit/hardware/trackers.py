"""What `--report-to` may name: each tracker with the module that it needs and the login that it looks for.

Nothing is imported and nobody is asked over the network. The names are those of transformers (5.23,
`INTEGRATION_TO_CALLBACK` in integrations/integration_utils.py); where a login is kept is what each one's documentation
says.
"""

from __future__ import annotations

import difflib
import importlib.util
import netrc
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from autofit.domain.errors import UsageError

ALL = "all"
"""Every tracker that is installed, in transformers' eyes."""

_IN_ALL = ("clearml", "dagshub", "neptune", "swanlab", "wandb")
"""Those that are among them whether or not anybody has logged in."""


def has_module(name: str) -> bool:
    """Whether Python finds the module; a folder of that name without code, as wandb leaves one, is none."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # of its parent
        return False
    return spec is not None and spec.origin is not None


@dataclass(frozen=True)
class Surroundings:
    """Where trackers look for what they need."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    home: Path = field(default_factory=Path.home)
    folder: Path = field(default_factory=Path.cwd)
    has_module: Callable[[str], bool] = has_module

    def is_set(self, *names: str) -> bool:
        """Whether each of these variables has a value."""
        return all(self.environ.get(name) for name in names)

    def has_line(self, start: str, *paths: Path) -> bool:
        """Whether one of these files has a line that begins so."""
        return any(line.strip().startswith(start) for path in paths for line in _lines(path))


@dataclass(frozen=True)
class Tracker:
    """`modules` are alternatives; `package` is what pip calls the first. `login` says how to get in where `is_ready`
    does not hold."""

    modules: tuple[str, ...] = ()
    package: str = ""
    is_ready: Callable[[Surroundings], bool] = lambda _: True
    login: str = ""


def _wandb(where: Surroundings) -> bool:
    if where.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun"):
        return True
    if where.is_set("WANDB_API_KEY") or where.is_set("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = (where.home / ".config/wandb/settings", where.folder / "wandb/settings")
    if any(where.has_line(start, *settings) for start in ("api_key", "mode = offline", "mode = disabled")):
        return True
    host = urlsplit(where.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    files = [where.home / ".netrc", where.home / "_netrc"]
    if where.is_set("NETRC"):
        files = [Path(where.environ["NETRC"]).expanduser()]
    return any(_knows(file, host or "") for file in files)


def _swanlab(where: Surroundings) -> bool:
    if where.environ.get("SWANLAB_MODE") in ("local", "offline", "disabled") or where.is_set("SWANLAB_API_KEY"):
        return True
    named = [Path(where.environ[name]) for name in ("SWANLAB_ROOT", "SWANLAB_SAVE_DIR") if where.is_set(name)]
    return any((root / ".netrc").is_file() for root in (*named, where.home / ".swanlab", where.folder / ".swanlab"))


def _comet(where: Surroundings) -> bool:
    named = [Path(where.environ["COMET_CONFIG"])] if where.is_set("COMET_CONFIG") else []
    files = (*named, where.folder / ".comet.config", where.home / ".comet.config")
    return where.is_set("COMET_API_KEY") or where.has_line("api_key", *files)


def _clearml(where: Surroundings) -> bool:
    if where.is_set("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY") or where.is_set("CLEARML_OFFLINE_MODE"):
        return True
    return Path(where.environ.get("CLEARML_CONFIG_FILE") or where.home / "clearml.conf").expanduser().is_file()


def _neptune(where: Surroundings) -> bool:
    is_offline = where.environ.get("NEPTUNE_MODE") in ("offline", "debug")
    return is_offline or where.is_set("NEPTUNE_API_TOKEN", "NEPTUNE_PROJECT")


TRACKERS: dict[str, Tracker] = {
    "azure_ml": Tracker(("azureml.core",), "azureml-sdk"),
    "clearml": Tracker(("clearml",), "clearml", _clearml, "run `clearml-init`, or set CLEARML_OFFLINE_MODE=1"),
    "codecarbon": Tracker(("codecarbon",), "codecarbon"),
    "comet_ml": Tracker(("comet_ml",), "comet-ml", _comet, "run `comet login`, or set COMET_API_KEY"),
    "dagshub": Tracker(
        ("dagshub",),
        "dagshub",
        lambda where: where.is_set("MLFLOW_TRACKING_URI"),
        "set MLFLOW_TRACKING_URI to that of your repository (dagshub.init() prints it)",
    ),
    "dvclive": Tracker(("dvclive",), "dvclive"),
    "flyte": Tracker(("flytekit",), "flytekit"),
    "kubeflow": Tracker(
        is_ready=lambda where: where.is_set("KUBEFLOW_TRAINER_SERVER_URL"),
        login="it is there within a TrainJob alone, which sets KUBEFLOW_TRAINER_SERVER_URL",
    ),
    "mlflow": Tracker(
        ("mlflow",),
        "mlflow",
        lambda where: where.environ.get("DISABLE_MLFLOW_INTEGRATION", "").upper() != "TRUE",
        "unset DISABLE_MLFLOW_INTEGRATION",
    ),
    "neptune": Tracker(
        ("neptune",), "neptune", _neptune, "set NEPTUNE_API_TOKEN and NEPTUNE_PROJECT, or NEPTUNE_MODE=offline"
    ),
    "swanlab": Tracker(("swanlab",), "swanlab", _swanlab, "run `swanlab login`, or set SWANLAB_MODE=offline"),
    "tensorboard": Tracker(("tensorboard", "tensorboardX"), "tensorboard"),
    "trackio": Tracker(("trackio",), "trackio"),
    "wandb": Tracker(("wandb",), "wandb", _wandb, "run `wandb login`, or set WANDB_MODE=offline"),
}


def check_trackers(names: Sequence[str], where: Surroundings) -> None:
    """Checks that each tracker of `--report-to` could begin; UsageError, with what to do, for the first that could
    not."""
    installed = [name for name in _IN_ALL if any(map(where.has_module, TRACKERS[name].modules))]
    for name in names:
        for each in installed if name == ALL else [name]:
            _check(each, where)


def _check(name: str, where: Surroundings) -> None:
    tracker = TRACKERS.get(name)
    if tracker is None:
        near = difflib.get_close_matches(name, TRACKERS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(TRACKERS)}, and {ALL}"
        raise UsageError(f"--report-to {name}: there is no such tracker; {hint}")
    if tracker.modules and not any(map(where.has_module, tracker.modules)):
        command = shlex.join([sys.executable, "-m", "pip", "install", tracker.package])
        raise UsageError(f"--report-to {name}: the package {tracker.package} is not installed: {command}")
    if not tracker.is_ready(where):
        raise UsageError(f"--report-to {name}: it would not know where to report to: {tracker.login}")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _knows(file: Path, host: str) -> bool:
    """Whether a netrc file has a login for the host."""
    try:
        return netrc.netrc(str(file)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
