"""Which attention kernels can work here, and why not the others."""

from __future__ import annotations

from autofit.domain.hardware import Hardware
from autofit.domain.strategy import Attention
from autofit.hardware.toolchain import Finding
from autofit.planning.capability import supported_attention, supported_dtypes, why_no_flash


def judge_attention(hardware: Hardware, findings: tuple[Finding, ...]) -> dict[str, str | None]:
    """Each kernel with what keeps it from working, None when nothing does; in the dtype a run would take."""
    dtype = supported_dtypes(hardware)[0]
    flash = next(finding for finding in findings if finding.name == "flash-attn")
    works = supported_attention(hardware, dtype, flash.is_usable)
    missing = f"flash-attn {flash.least} or newer is not installed ({flash.how_to_get})"
    reason = why_no_flash(hardware, dtype) or missing
    return {kernel.value: None if kernel in works else reason for kernel in Attention}
