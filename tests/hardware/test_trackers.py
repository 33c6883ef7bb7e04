"""Trackers are looked for before anything is started: their names, their packages, their logins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from autofit.domain.errors import UsageError
from autofit.hardware.trackers import TRACKERS, Surroundings, check_trackers, has_module


def surroundings(folder: Path, *modules: str, **environ: str) -> Surroundings:
    """A home and a folder that are empty but for what a test writes, and a Python with these modules."""
    return Surroundings(environ, folder / "home", folder, lambda name: name in modules)


def refusal(name: str, where: Surroundings) -> str:
    with pytest.raises(UsageError) as caught:
        check_trackers((name,), where)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_names_are_those_of_transformers() -> None:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    assert set(TRACKERS) == set(INTEGRATION_TO_CALLBACK)


def test_an_unknown_name_is_refused_with_the_nearest_or_with_all(tmp_path: Path) -> None:
    assert refusal("wanbd", surroundings(tmp_path)).endswith("did you mean wandb?")
    assert "tensorboard, trackio, wandb, and all" in refusal("xyz", surroundings(tmp_path))


@pytest.mark.parametrize("name", sorted(set(TRACKERS) - {"kubeflow"}))
def test_a_package_that_is_missing_is_refused_with_the_command_that_installs_it(name: str, tmp_path: Path) -> None:
    everything = {"WANDB_API_KEY": "k", "MLFLOW_TRACKING_URI": "u", "COMET_API_KEY": "k", "SWANLAB_API_KEY": "k"}
    said = refusal(name, surroundings(tmp_path, **everything))
    assert said.startswith(f"--report-to {name}: the package ")
    assert f"{sys.executable} -m pip install {TRACKERS[name].package}" in said


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "mlflow", "codecarbon", "dvclive"])
def test_what_writes_here_needs_no_login(name: str, tmp_path: Path) -> None:
    check_trackers((name,), surroundings(tmp_path, *TRACKERS[name].modules[-1:]))


READY = {
    "clearml": [
        {"CLEARML_API_ACCESS_KEY": "a", "CLEARML_API_SECRET_KEY": "b"},
        {"CLEARML_OFFLINE_MODE": "1"},
        {"file": "home/clearml.conf", "text": "api {}"},
    ],
    "comet_ml": [{"COMET_API_KEY": "k"}, {"file": "home/.comet.config", "text": "[comet]\napi_key = k\n"}],
    "dagshub": [{"MLFLOW_TRACKING_URI": "https://dagshub.com/a/b.mlflow"}],
    "kubeflow": [{"KUBEFLOW_TRAINER_SERVER_URL": "u"}],
    "neptune": [{"NEPTUNE_API_TOKEN": "t", "NEPTUNE_PROJECT": "a/b"}, {"NEPTUNE_MODE": "offline"}],
    "swanlab": [
        {"SWANLAB_API_KEY": "k"},
        {"SWANLAB_MODE": "offline"},
        {"file": "home/.swanlab/.netrc", "text": "machine swanlab.cn login a password b"},
    ],
    "wandb": [
        {"WANDB_API_KEY": "k"},
        {"WANDB_MODE": "offline"},
        {"WANDB_MODE": "disabled"},
        {"WANDB_IDENTITY_TOKEN_FILE": "f"},
        {"file": "home/.netrc", "text": "machine api.wandb.ai\n login user\n password k\n"},
        {"file": "home/.netrc", "text": "machine own.org login user password k", "WANDB_BASE_URL": "https://own.org"},
        {"file": "other", "text": "machine api.wandb.ai login user password k", "NETRC": "{folder}/other"},
        {"file": "wandb/settings", "text": "[default]\nmode = offline\n"},
    ],
}


@pytest.mark.parametrize(("name", "way"), [(name, way) for name, ways in READY.items() for way in ways], ids=str)
def test_each_way_to_log_in_is_seen_and_none_is_refused(name: str, way: dict[str, str], tmp_path: Path) -> None:
    modules = TRACKERS[name].modules
    assert TRACKERS[name].login in refusal(name, surroundings(tmp_path, *modules))
    environ = {key: value.format(folder=tmp_path) for key, value in way.items() if key not in ("file", "text")}
    if "file" in way:
        write(tmp_path / way["file"], way["text"])
    check_trackers((name,), surroundings(tmp_path, *modules, **environ))


def test_a_login_of_another_server_or_a_broken_file_is_none(tmp_path: Path) -> None:
    write(tmp_path / "home/.netrc", "machine github.com login user password k")
    assert "wandb login" in refusal("wandb", surroundings(tmp_path, "wandb"))
    write(tmp_path / "home/.netrc", "machine\n")
    assert "wandb login" in refusal("wandb", surroundings(tmp_path, "wandb"))


def test_all_means_those_that_are_installed(tmp_path: Path) -> None:
    check_trackers(("all",), surroundings(tmp_path))
    check_trackers(("all",), surroundings(tmp_path, "comet_ml", "tensorboard"))  # the first is left out without a key
    assert refusal("all", surroundings(tmp_path, "wandb", "tensorboard")).startswith("--report-to wandb: ")


def test_a_folder_that_a_tracker_left_is_no_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "left_behind_by_a_tracker").mkdir()
    (tmp_path / "a_module_of_its_own.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert not has_module("left_behind_by_a_tracker")
    assert has_module("a_module_of_its_own")
    assert not has_module("a_parent_that_is_not_there.child")
