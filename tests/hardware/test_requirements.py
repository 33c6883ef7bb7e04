"""What must be installed, and how it is told what is not."""

from __future__ import annotations

import re
import sys
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

import pytest

from autofit.domain.errors import UsageError
from autofit.hardware.requirements import (
    FLASH_ATTENTION,
    LEAN,
    REQUIRED,
    Requirement,
    check_requirements,
    find_unmet_requirements,
    installed_here,
)
from tests.fake_packages import write_packages

SETUP = Path(__file__).parents[2] / "setup.cfg"
PIP = f"{sys.executable} -m pip install"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages in front of all others."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def bounds(text: str) -> dict[str, str]:
    """By package; without those that any version of will do."""
    lines = (re.fullmatch(r"([\w-]+)>=([\d.]+)", line.strip()) for line in text.splitlines())
    return {found[1]: found[2] for found in lines if found}


def test_what_is_asked_for_here_is_what_the_installation_asks_for() -> None:
    setup = ConfigParser()
    setup.read(SETUP)
    asked = {each.package: each.least for each in REQUIRED}
    assert asked == bounds(setup["options"]["install_requires"])
    flash = {FLASH_ATTENTION.package: FLASH_ATTENTION.least}
    assert flash == bounds(setup["options.extras_require"]["flash"])
    lean = {each.package: each.least for each in LEAN}
    assert lean == bounds(setup["options.extras_require"]["lean"]) == bounds(setup["options.extras_require"]["test"])


def test_the_tests_run_with_what_is_required() -> None:
    assert find_unmet_requirements() is None
    check_requirements()


@pytest.mark.parametrize(
    ("least", "found", "is_met"),
    [
        ("5.23", "5.23.0", True),
        ("5.23", "5.23", True),
        ("5.23", "5.22.9", False),
        ("5.23", "5.3.1", False),
        ("5.23", "6", True),
        ("0.19.8", "0.19.8+d5f3a1c", True),
        ("0.19.8", "0.19", False),
        ("2.11", "2.11.0a0+b4c4b37.nv26.02", True),  # in NVIDIA's containers
        ("2.11", "2.13.0+cpu", True),
        ("12", "13.615.71", True),
        ("2.11", "unknown", False),
    ],
)
def test_a_version_is_new_enough_by_its_numbers(site: Path, least: str, found: str, is_met: bool) -> None:
    write_packages(site, some_package=found)
    assert Requirement("some-package", least, "a test").is_met is is_met


def test_a_package_whose_removal_broke_off_is_not_there(site: Path) -> None:
    (site / "some_package-1.0.dist-info").mkdir()
    assert Requirement("some-package", "1", "a test").found is None


def test_one_sentence_tells_everything_that_is_missing_and_the_command_that_mends_it(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = metadata.version

    def version(package: str) -> str:
        if package == "trl":
            raise metadata.PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(metadata, "version", version)
    write_packages(site, transformers="5.17.0", peft="0.19.1")
    with pytest.raises(UsageError) as refused:
        check_requirements()
    assert str(refused.value) == (
        "training needs transformers 5.23 or newer (5.17.0 is installed), trl 1.16 or newer (not installed) and "
        f"peft 0.21.2 or newer (0.19.1 is installed): {PIP} 'transformers>=5.23' 'trl>=1.16' 'peft>=0.21.2'"
    )


def test_flash_attention_4_is_not_taken_for_2(site: Path) -> None:
    """Its package brings a module of the same name."""
    (site / "flash_attn" / "cute").mkdir(parents=True)
    write_packages(site, flash_attn_4="4.0.0")
    assert FLASH_ATTENTION.package not in installed_here()
    write_packages(site, flash_attn="2.3.3")
    assert FLASH_ATTENTION.package in installed_here()


def test_a_flash_attention_that_transformers_does_not_take_is_none(site: Path) -> None:
    write_packages(site, flash_attn="2.3.2")
    assert FLASH_ATTENTION.package not in installed_here()
    assert FLASH_ATTENTION.how_to_get == f"{PIP} --no-build-isolation 'flash-attn>=2.3.3'"
