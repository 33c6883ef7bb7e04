"""The decision benchmark's result: a table for people and an object for JSON."""

from __future__ import annotations

from collections.abc import Sequence

from _autofit_run import Decision
from _autotuner import Tuned
from _case import RANKS, Case
from _cold_job import STEPS, ColdJob
from _findings import Length, Parties, Row, Warm
from _verdict import Speed, best

from autofit.domain.units import format_bytes, format_seconds


def print_table(
    case: Case, tuned: Sequence[Tuned] | str, rows: list[Row], aims: dict[str, bool | None], length: Length
) -> None:
    request = case.request
    limit = format_bytes(request.memory_limit_bytes or 0)
    print(
        f"{RANKS} CPU ranks of {limit}, {request.sequence_length} tokens, global batch {request.global_batch}, "
        f"{length.step_count} steps: {format_seconds(length.seconds)} with the best\n"
    )
    print(f"{'':<26}{'to decide':>10}{'÷ autofit':>11}{'to the end':>12}{'gives away':>12}  {'tried':<24}pick")
    for row in rows:
        lost = "-" if row.regret is None else f"{row.regret:.1%}"
        end = "-" if row.to_end is None else f"x {row.to_end:.3f}"
        decide = format_seconds(row.decide_s)
        print(f"{row.name:<26}{decide:>10}{row.ratio:>11.1f}{end:>12}{lost:>12}  {row.tries:<24}{_picks(row)}")
    if isinstance(tuned, str):
        print(f"DeepSpeed's autotuner was left out: {tuned}")
    print()
    for aim, is_met in aims.items():
        print(f"{aim}: {'not known' if is_met is None else 'yes' if is_met else 'NO'}")


def _picks(row: Row) -> str:
    return ", ".join("none" if pick is None else str(pick) for pick in row.picks)


def body(
    case: Case, parties: Parties, warm: Warm, rows: list[Row], length: Length, *, is_quick: bool
) -> dict[str, object]:
    request = case.request
    return {
        "is_quick": is_quick,
        "rank_count": RANKS,
        "sequence_length_tokens": request.sequence_length,
        "global_batch": request.global_batch,
        "memory_limit_bytes": request.memory_limit_bytes,
        "candidate_count": len(case.candidates),
        "training_s": length.seconds,
        "training_step_count": length.step_count,
        "decisions": [_decision(row) for row in rows],
        "autofit_rounds": [_round(one) for one in parties.autofit],
        "autofit_again_rounds": [_round(one) for one in parties.again],
        "autotuner": _autotuner(parties.tuned),
        "cold_job_step_count": STEPS,
        "cold_jobs": [_cold(job, warm) for job in parties.cold],
        "best": str(best(warm.speeds)) if warm.speeds else None,
        "finalists_tokens_per_s": {str(each): _rounded(speed) for each, speed in warm.speeds.items()},
    }


def _decision(row: Row) -> dict[str, object]:
    return {
        "name": row.name,
        "decide_s": round(row.decide_s, 2),
        "÷ autofit": round(row.ratio, 1),
        "tried": row.tries,
        "picks": [None if pick is None else str(pick) for pick in row.picks],
        "regret": None if row.regret is None else round(row.regret, 4),
        "time to the end ÷ best": None if row.to_end is None else round(row.to_end, 4),
    }


def _round(one: Decision) -> dict[str, object]:
    return {
        "decide_s": round(one.decide_s, 2),
        "probes": one.probe_count,
        "rehearsals": one.rehearsal_count,
        "probes_s": round(one.trial_s, 1),
        "pick": str(one.strategy),
        "why": one.why,
    }


def _autotuner(tuned: Sequence[Tuned] | str) -> object:
    if isinstance(tuned, str):
        return {"left_out": tuned}
    return [
        {"train_batch": one.train_batch, "is_cut_off": one.is_cut_off, "job_count": one.experiment_count}
        for one in tuned
    ]


def _cold(job: ColdJob, warm: Warm) -> dict[str, object]:
    """One candidate both ways; `warm_tokens_per_s` is None when the probe found that it does not fit."""
    return {
        "strategy": str(job.strategy),
        "total_s": round(job.total_s, 1),
        "tokens_per_s": job.tokens_per_s and round(job.tokens_per_s),
        "warm_tokens_per_s": round(warm.once[job.strategy]) if job.strategy in warm.once else None,
        "peak_bytes": job.peak_bytes,
        "failure": job.failure,
    }


def _rounded(speed: Speed) -> dict[str, float]:
    return {"median": round(speed.median), "min": round(speed.low), "max": round(speed.high)}
