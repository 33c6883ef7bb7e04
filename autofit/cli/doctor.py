"""The verb `autofit doctor`: what this machine has and lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from autofit.domain.hardware import Hardware
    from autofit.hardware.toolchain import Finding


@click.command()
@click.option("--json", "is_json", is_flag=True, help="One JSON object.")
def command(is_json: bool) -> None:
    """What this machine has, what is missing or too old and how to get it, which attention kernels work.

    Exit code 1 when something is missing or too old that training cannot do without.
    """
    import sys
    from pathlib import Path

    from autofit.domain.codec import encode
    from autofit.hardware.machine import detect_here
    from autofit.hardware.toolchain import inspect_toolchain
    from autofit.report.json_screen import write_json

    hardware, findings = detect_here(Path()), inspect_toolchain()
    verdicts = _judge_attention(hardware, findings)
    if is_json:
        write_json(
            sys.stdout,
            {"machine": encode(hardware), "toolchain": encode(findings), "attention": encode(verdicts)},
        )
    else:
        click.echo(_text(hardware, findings, verdicts))
    if any(not finding.is_usable and not finding.is_optional for finding in findings):
        raise click.exceptions.Exit(1)


def _judge_attention(hardware: Hardware, findings: tuple[Finding, ...]) -> dict[str, str | None]:
    """Each kernel with what keeps it from working, None when nothing does, in the dtype that a run would take."""
    from autofit.domain.knobs.attention import ATTENTION
    from autofit.domain.knobs.dtype import DTYPE, supported_dtypes
    from autofit.domain.knobs.knob import Conditions

    settled = {DTYPE.name: supported_dtypes(hardware)[0]}
    conditions = Conditions(hardware, frozenset(finding.name for finding in findings if finding.is_usable))
    return {one.word: ATTENTION.why_not(one.value, settled, conditions) for one in ATTENTION.values}


def _text(hardware: Hardware, findings: tuple[Finding, ...], verdicts: dict[str, str | None]) -> str:
    from autofit.domain.units import format_bytes
    from autofit.report.header import machine_text
    from autofit.report.line import labelled, plain

    host = hardware.nodes[0].host
    around = f"{host.core_count} cores · {format_bytes(host.disk_free_bytes)} of disk free here"
    lines = labelled("machine", machine_text(hardware)) + labelled("", around)
    lines += [line for note in hardware.notes for line in labelled("", note)]
    present = [finding for finding in findings if finding.is_usable]
    lines += [(), *labelled("found", ", ".join(f"{one.name} {one.version or ''}".strip() for one in present))]
    missing = [finding for finding in findings if not finding.is_usable]
    lines += [line for finding in missing for line in labelled(*_missing(finding))]
    labels = ["kernels", *[""] * len(verdicts)]
    kernels = zip(labels, verdicts.items(), strict=False)
    lines += [(), *(line for label, verdict in kernels for line in labelled(label, _kernel(*verdict)))]
    return plain(lines)


def _missing(finding: Finding) -> tuple[str, str]:
    label = "optional" if finding.is_optional else "too old" if finding.is_too_old else "missing"
    what = f"{finding.name} {finding.least} or newer, " if finding.least else f"{finding.name}, "
    here = f"{finding.version} is here, " if finding.is_too_old else ""
    return label, f"{what}{here}for {finding.needed_for}: {finding.how_to_get}"


def _kernel(name: str, why_not: str | None) -> str:
    return f"{name} works" if why_not is None else f"{name} does not work: {why_not}"
