"""The peers benchmark's result: a table for people and an object for JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict

from _peers_figures import MAX_SLOWER, Run, Times, fastest, soonest_s, step_ratio, to_end_s, total_ratio
from _peers_rounds import HORIZONS_S, SEEN_STEPS, Seen

OURS, AGAIN = "autofit", "autofit, the second time"
HOW_LONGER = (
    "of a peer: start + steps x step + end of its short runs; of autofit: the same command with that many steps, "
    f"search included, ended after {SEEN_STEPS} steps, the step as in all runs of that strategy, and the end of its "
    "short runs"
)


def body(seen: Seen) -> dict[str, object]:
    """Of one method."""
    best = fastest(seen.peers)
    ratio = step_ratio(seen.first, seen.peers[best])
    return {
        "competitors": {name: _competitor(runs) for name, runs in _all(seen).items()},
        "left_out": seen.failures,
        "fastest_peer": best,
        "autofit ÷ fastest peer": {
            "step": round(ratio, 3),
            "in all": round(total_ratio(seen.first, seen.peers[best]), 2),
            "in all, the second time": round(total_ratio(seen.second, seen.peers[best][:1]), 2),
        },
        "longer": {name: _longer(seen, name) for name in seen.longer},
        "aims": {f"a step at most {MAX_SLOWER - 1:.0%} slower than the fastest peer's": ratio <= MAX_SLOWER},
    }


def print_table(seen: Seen) -> None:
    best = Times.of(seen.peers[fastest(seen.peers)])
    print(f"\n{seen.training.method.value}")
    print(f"{'':<26}{'to 1st step':>12}{'s a step':>10}{'to model':>10}{'in all':>9}{'step ÷':>8}{'all ÷':>7}  setting")
    for name, runs in _all(seen).items():
        times = Times.of(runs)
        print(
            f"{name:<26}{times.start_s:>12.1f}{times.step_s:>10.3f}{times.end_s:>10.1f}{times.total_s:>9.1f}"
            f"{times.step_s / best.step_s:>8.2f}{times.total_s / best.total_s:>7.2f}  {runs[-1].setting}"
        )
    for name, failure in seen.failures.items():
        print(f"{name:<26}does not run: {failure.strip().splitlines()[-1]}")
    for name in seen.longer:
        print(_longer_line(seen, name))
    for aim, is_met in body(seen)["aims"].items():  # type: ignore[attr-defined]
        print(f"{aim}: {'yes' if is_met else 'NO'}")


def _all(seen: Seen) -> dict[str, list[Run]]:
    return {**seen.peers, OURS: seen.first, AGAIN: seen.second}


def _competitor(runs: Sequence[Run]) -> dict[str, object]:
    times = {name: round(value, 3) for name, value in asdict(Times.of(runs)).items()}
    steps_s = [round(run.step_s, 4) for run in runs]
    return {
        "settings": sorted({run.setting for run in runs}),
        **times,
        "step_s of each round": steps_s,
        "total_s of each round": [round(run.total_s, 2) for run in runs],
        "cpu_s": round(statistics.median(run.cpu_s for run in runs), 1),
    }


def _longer(seen: Seen, name: str) -> dict[str, object]:
    steps, run = seen.longer[name]
    ours_s = longer_s(seen, name)
    return {
        "steps": steps,
        "strategy": run.setting,
        "autofit_start_s": round(run.start_s, 1),
        "autofit_s": round(ours_s, 1),
        "peers_s": {peer: round(Times.of(runs).to_end_s(steps), 1) for peer, runs in seen.peers.items()},
        "autofit ÷ soonest peer": round(ours_s / soonest_s(seen.peers, steps), 3),
    }


def longer_s(seen: Seen, name: str) -> float:
    """autofit's time to the end of a longer training, whose first steps were run."""
    steps, run = seen.longer[name]
    same = [one.step_s for one in seen.ours if one.setting == run.setting]
    return to_end_s(steps, start_s=run.start_s, step_s=statistics.median(same), end_s=Times.of(seen.first).end_s)


def _longer_line(seen: Seen, name: str) -> str:
    steps, run = seen.longer[name]
    ours_s, theirs_s = longer_s(seen, name), soonest_s(seen.peers, steps)
    return (
        f"{name} ({steps} steps): autofit {ours_s / 60:.1f} min with {run.setting}, the soonest peer "
        f"{theirs_s / 60:.1f} min, ratio {ours_s / theirs_s:.3f}"
    )


def how(limit: str | None) -> dict[str, object]:
    return {
        "horizons_s": HORIZONS_S,
        "how_longer": HOW_LONGER,
        "memory_limit": "none" if limit is None else f"{limit} for autofit; peers run without one",
    }
