"""Which words of a script's arguments are folders that a probe must not write to."""

from __future__ import annotations

from pathlib import Path

from autofit.worker.output_flags import redirected


def test_folders_of_output_are_led_away_however_they_are_written(tmp_path: Path) -> None:
    words = ("--lr", "1", "--output_dir", "out", "--save-dir=saved", "--log_dir", "--flag", "--output_dir")
    away = (f"{tmp_path}/output_dir", f"--save-dir={tmp_path}/save_dir")
    assert redirected(words, tmp_path) == ("--lr", "1", "--output_dir", *away, "--log_dir", "--flag", "--output_dir")


def test_a_folder_that_the_script_may_rely_on_is_there(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    scratch = tmp_path / "scratch"
    redirected((f"--output_dir={tmp_path}/out", f"--save_dir={tmp_path}/new"), scratch)
    assert (scratch / "output_dir").is_dir()
    assert not (scratch / "save_dir").exists()


def test_checkpoints_to_go_on_from_stay_readable(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/latest").touch()
    words = (f"--checkpoint_dir={tmp_path}/full", f"--ckpt-dir={tmp_path}/none")
    assert redirected(words, Path("/s")) == (words[0], "--ckpt-dir=/s/ckpt_dir")
