"""What the ranks of a full run left behind: the end of the training, or the sentence that says why it has none."""

from __future__ import annotations

from pathlib import Path

from autofit.domain.errors import TrainingFailed
from autofit.domain.event import TrainingEnded
from autofit.domain.units import format_bytes
from autofit.probing.classify import first_failure
from autofit.probing.protocol import FailureKind, RankFailed, RankReport, RankTrained, read_report


def read_reports(folder: Path, rank_count: int) -> dict[int, RankReport]:
    """By rank; a rank that was killed has none."""
    paths = {rank: folder / f"rank{rank}.json" for rank in range(rank_count)}
    return {rank: read_report(path.read_bytes()) for rank, path in paths.items() if path.exists()}


def training_ended(
    reports: dict[int, RankReport], *, rank_count: int, exit_code: int, model_path: Path, log_path: Path, total_s: float
) -> TrainingEnded:
    """TrainingFailed unless every rank trained to its end."""
    trained = [report for report in reports.values() if isinstance(report, RankTrained)]
    if exit_code != 0 or len(trained) < rank_count:
        raise TrainingFailed(_why(reports, exit_code, log_path))
    first = reports[0]
    assert isinstance(first, RankTrained)
    return TrainingEnded(
        model_path=str(model_path),
        merged_path=None,
        step_count=first.step_count,
        first_loss=first.first_loss,
        last_loss=first.last_loss,
        tokens_per_s=first.tokens_per_s,
        peak_device_bytes=max(report.peak_device_bytes for report in trained),
        peak_host_bytes=sum(report.peak_host_bytes for report in trained),
        total_s=total_s,
        eval_loss=first.eval_loss,
        skipped_steps=first.skipped_steps,
        trouble=first.trouble,
    )


def _why(reports: dict[int, RankReport], exit_code: int, log_path: Path) -> str:
    failed = {rank: report for rank, report in reports.items() if isinstance(report, RankFailed)}
    if not failed:
        return f"the training ended with exit code {exit_code} and left no report; its log is {log_path}"
    rank, report = first_failure(failed)
    if report.kind is FailureKind.DIVERGED:
        return f"{report.message}\nits log is {log_path}"
    what, then = report.message, "the same command goes on from the last checkpoint"
    if report.kind is FailureKind.OUT_OF_MEMORY:
        asked = f" (asked for {format_bytes(report.requested_bytes)})" if report.requested_bytes else ""
        what = f"out of {report.place.value} memory{asked}"
        then = "a smaller --micro-batch leaves more room, with another --output-dir"
    return f"the training failed in {report.phase.value} on rank {rank}: {what}\nits log is {log_path}; {then}"
