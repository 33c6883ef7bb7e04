"""What the ranks of a full run left behind: the end of the training, or what kept it from one."""

from __future__ import annotations

import signal
from pathlib import Path

from autofit.domain.event import TrainingEnded
from autofit.domain.run_end import Preempted, RunEnd
from autofit.probing.energy_sum import energy
from autofit.probing.evidence import Evidence, failure
from autofit.probing.protocol import RankStopped, RankTrained


def run_end(evidence: Evidence, *, rank_count: int, model_path: Path) -> RunEnd | Preempted:
    """How the run ended: a TrainingEnded where every rank trained to its end and the launcher found nothing wrong,
    Preempted where every rank saved and ended for a signal, else a failure."""
    stopped = [end.report for end in evidence.ends if isinstance(end.report, RankStopped)]
    if len(stopped) == rank_count:
        heard = next((one.signal for one in stopped if one.signal is not None), signal.SIGTERM)
        return Preempted(stopped[0].step, heard)
    trained = {end.rank: end.report for end in evidence.ends if isinstance(end.report, RankTrained)}
    if evidence.exit_code != 0 or len(trained) < rank_count:
        return failure(evidence)
    return _training_ended(trained, model_path, evidence.total_s)


def _training_ended(trained: dict[int, RankTrained], model_path: Path, total_s: float) -> TrainingEnded:
    first = trained[0]
    return TrainingEnded(
        model_path=str(model_path),
        merged_path=None,
        step_count=first.step_count,
        first_loss=first.first_loss,
        last_loss=first.last_loss,
        tokens_per_s=first.tokens_per_s,
        peak_device_bytes=max(report.peak_device_bytes for report in trained.values()),
        peak_host_bytes=sum(report.peak_host_bytes for report in trained.values()),
        total_s=total_s,
        eval_loss=first.eval_loss,
        skipped_steps=first.skipped_steps,
        trouble=first.trouble,
        energy=energy([report.energy for report in trained.values()]),
        metrics=first.metrics,
    )
