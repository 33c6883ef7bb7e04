"""What a plan looks like, and what programs read of it."""

from __future__ import annotations

from dataclasses import replace

from autofit.domain.estimate import Estimate, HostEstimate, SpeedEstimate
from autofit.domain.hardware import Hardware
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.pins import Pins
from autofit.domain.outcome import Place
from autofit.domain.plan import Candidate, Plan, Rehearsal, Rehearsed, Shortfall, Verdict
from autofit.domain.trace import SdpaKernel
from autofit.domain.units import rough_bytes
from autofit.planning.plan import fit
from autofit.report.line import plain
from autofit.report.plan.plan_comparison import comparison_lines
from autofit.report.plan.plan_figures import Terms
from autofit.report.plan.plan_json import plans_body
from autofit.report.plan.plan_screen import plan_lines
from tests.report import simulated as sim

NEXT = ["autofit", "train", "--model", "meta-llama/Llama-2-13b-hf", "--seq", "2048"]
TERMS = Terms(1e9, lambda _: 2.0)


def candidate(
    text: str,
    micro_batch: int,
    verdict: Verdict,
    *,
    gb: float = 50,
    step_s: float = 2.0,
    reason: str = "because",
    shortfall: Shortfall | None = None,
) -> Candidate:
    host = HostEstimate(2 * sim.GB, 0, 8 * sim.GB, 8 * sim.GB) if "offload" in text else HostEstimate(10 * sim.GB)
    memory = replace(sim.estimate(gb).memory, host=host)
    speed = SpeedEstimate(65_536.0, step_s, 0.0, 0.0, 0.0)
    is_expected = verdict in (Verdict.FITS, Verdict.PROBE)
    return Candidate(
        sim.strategy(text, micro_batch), Estimate(memory, speed), verdict, reason, is_expected, None, shortfall
    )


def too_large(text: str, short_gb: float, place: Place = Place.DEVICE) -> Candidate:
    ruling = fit.too_large(Shortfall(place, round(short_gb * sim.GB)), "needs more than there is")
    return candidate(text, 1, ruling.verdict, gb=120, reason=ruling.reason, shortfall=ruling.shortfall)


CANDIDATES = (
    candidate("zero1+lora", 4, Verdict.PROBE, gb=72, reason="needs 65.0 GB to 79.0 GB of 79.2 GB"),
    candidate("zero2+lora+gc", 16, Verdict.FITS, gb=41, step_s=2.5),
    candidate("zero3+gc", 4, Verdict.FITS, gb=53, step_s=7.3),
    too_large("zero1", 31.0),
    too_large("zero2", 18.0),
    candidate("zero2+fa2", 1, Verdict.UNSUPPORTED, reason="FlashAttention-2 needs compute capability 8.0 or newer"),
)
PLAN = Plan(sim.SHAPE, sim.HARDWARE, sim.REQUEST, CANDIDATES[0], CANDIDATES)


def text(plan: Plan, terms: Terms = TERMS) -> str:
    shown = plain(plan_lines(plan, terms, NEXT))
    assert max(len(line) for line in shown.splitlines()) <= 80
    return shown


def test_each_rung_has_its_memory_speed_time_and_verdict() -> None:
    rows = {line.split()[0]: line for line in text(PLAN).splitlines() if line.startswith("zero")}
    assert rows["zero1+lora"].split()[-5:] == ["~33,000", "~8.5", "h", "pick,", "unsure"]
    assert "▒" in rows["zero1+lora"]
    assert rows["zero2+lora+gc"].endswith("fits")
    assert "~53 GB" in rows["zero3+gc"]


def test_what_cannot_be_is_gathered_by_its_reason() -> None:
    lines = text(PLAN).splitlines()
    assert any(line.startswith("zero1, zero2") and "too large by 18.0–31.0 GB" in line for line in lines)
    assert any(line.startswith("zero2+fa2") and "compute capability" in line for line in lines)


def test_what_lacks_host_memory_and_what_only_a_rehearsal_ruled_out_stand_apart() -> None:
    out = candidate("zero2+gc", 1, Verdict.TOO_LARGE, reason="ran out of memory in rehearsal on GPU")
    more = (too_large("zero3+offload-all", 200.0, Place.HOST), too_large("zero2+offload", 90.0, Place.HOST), out)
    lines = text(replace(PLAN, candidates=(*CANDIDATES, *more))).splitlines()
    assert any("too large by 18.0–31.0 GB" in line for line in lines)
    assert any("too large: host memory is short by 90.0–200 GB" in line for line in lines)
    assert any(line.startswith("zero2+gc") and "too large: ran out of memory in rehearsal" in line for line in lines)


def test_the_pick_its_reason_its_cost_and_the_next_command() -> None:
    shown = text(PLAN)
    assert "pick      if it fits: zero1+lora mb4 · ~33,000 tokens/s · ~72 GB of 79.2 GB per" in shown
    assert "expected to fit: needs 65.0 GB to 79.0 GB of 79.2 GB, only a probe can tell" in " ".join(shown.split())
    assert "cost      1.0 B tokens: ~8.5 h · price ~136" in shown
    assert "full      --method full: zero3+gc mb4 · ~9,000 tokens/s · ~53 GB" in shown
    assert shown.endswith(f"next      {' '.join(NEXT)}")


def test_the_kernel_of_torchs_attention_is_named() -> None:
    kernels = (SdpaKernel.FLASH, SdpaKernel.EFFICIENT)
    named = replace(PLAN, sdpa_kernels=kernels)
    assert "sdpa is predicted with torch's flash and memory-efficient kernels." in text(named)
    assert plans_body([named])["sdpa_kernels"] == ["flash", "memory-efficient"]
    assert "sdpa" not in text(PLAN)
    node = PLAN.hardware.nodes[0]
    unknown = replace(node, devices=tuple(replace(device, compute_capability=None) for device in node.devices))
    shown = text(replace(PLAN, sdpa_kernels=kernels[:1], hardware=Hardware((unknown,))))
    assert "torch's flash kernel, as on compute capability 8.0: that of the GPUs is unknown." in " ".join(shown.split())


def test_a_pick_that_is_sure_is_headed_the_pick() -> None:
    sure = replace(PLAN, choice=CANDIDATES[1], candidates=CANDIDATES[1:])
    shown = text(sure)
    assert next(line for line in shown.splitlines() if line.startswith("zero2+lora+gc")).endswith("the pick")
    assert "pick      zero2+lora+gc mb16 · " in shown
    assert "probe can tell" not in shown
    assert "unsure" not in shown
    assert plans_body([sure])["verdict"] == "fits"


def test_all_parameters_that_only_may_fit_are_said_so() -> None:
    doubtful = candidate("zero3+gc", 4, Verdict.PROBE, gb=78)
    unexpected = replace(doubtful, is_expected=False)
    assert "full      --method full: zero3+gc mb4, if it fits" in text(
        replace(PLAN, candidates=(*CANDIDATES[:2], doubtful))
    )
    shown = text(replace(PLAN, candidates=(*CANDIDATES[:2], unexpected)))
    assert "full      no rung with all parameters is sure to fit, 1 may" in shown
    assert "no rung with all parameters is expected to fit" in text(replace(PLAN, candidates=CANDIDATES[:2]))


def test_where_nothing_is_expected_to_fit_what_may_is_not_denied() -> None:
    may = tuple(replace(candidate(name, 1, Verdict.PROBE, gb=79), is_expected=False) for name in ("zero2", "zero3"))
    unsure = replace(PLAN, choice=None, candidates=(*may, *CANDIDATES[3:]))
    shown = text(unsure)
    assert sum(line.endswith("must be probed") for line in shown.splitlines()) == 2
    assert "Nothing is sure to fit, 2 rungs may: Llama-2-13B" in " ".join(shown.split())
    assert "closest   zero2 mb1: because, only a probe can tell" in shown
    assert "expected to fit" not in shown
    assert (plans_body([unsure])["verdict"], plans_body([unsure])["choice"]) == ("probe", None)


def test_of_several_machines_each_says_what_is_not_sure() -> None:
    may = replace(CANDIDATES[0], is_expected=False)
    sure = replace(PLAN, choice=CANDIDATES[1], candidates=CANDIDATES[1:])
    unsure = replace(PLAN, choice=None, candidates=(may, *CANDIDATES[3:]))
    shown = plain(comparison_lines([PLAN, sure, unsure], TERMS, NEXT))
    rows = [line for line in shown.splitlines() if line.startswith("8 × A100")]
    assert [("unsure" in row, " fits " in row, "none sure, 1 may fit" in row) for row in rows] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]
    assert "nothing fits" not in shown
    assert " ".join(shown.split()).count("needs 65.0 GB to 79.0 GB of 79.2 GB, only a probe can tell") == 2
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_a_rung_that_offloads_shows_what_it_takes_of_the_host() -> None:
    one = candidate("zero3+gc+offload-all", 4, Verdict.FITS, gb=42)
    offloads = replace(PLAN, choice=one, candidates=(one, *CANDIDATES[3:]))
    shown = text(offloads)
    assert one.estimate is not None
    host = f"~{rough_bytes(one.estimate.memory.host_bytes)}"
    row = next(line for line in shown.splitlines() if line.startswith("zero3+gc+offload-all"))
    assert row.split("GB")[1].strip() == host.removesuffix(" GB")
    assert f"~42 GB of 79.2 GB per GPU · {host} of 1.7 TB host memory" in " ".join(shown.split())
    assert "host" not in text(replace(PLAN, candidates=CANDIDATES[:3])).split("pick ")[0].split("ladder")[1]
    heading = next(line for line in text(offloads, Terms()).splitlines() if line.startswith("ladder"))
    assert "host of 1.7 TB" in heading


def test_the_host_is_shown_where_it_decides_although_nothing_is_offloaded() -> None:
    one = candidate("zero3+gc", 4, Verdict.PROBE, gb=42)
    assert one.estimate is not None
    host = HostEstimate(2 * sim.GB, 1699 * sim.GB)
    short = replace(one, estimate=replace(one.estimate, memory=replace(one.estimate.memory, host=host)))
    shown = " ".join(text(replace(PLAN, choice=short, candidates=(short,))).split())
    assert "~1.7 TB of 1.7 TB host memory" in shown


def test_names_are_whole_where_the_bar_would_cut_them() -> None:
    one = candidate("zero3+lora+gc+offload-all", 16, Verdict.PROBE, gb=42)
    assert "zero3+lora+gc+offload-all mb16  ~42 GB" in text(replace(PLAN, choice=one, candidates=(one,)))


def test_without_tokens_there_is_no_time() -> None:
    shown = text(PLAN, Terms())
    assert "cost" not in shown
    assert " h " not in shown


def test_relative_speeds_are_said_to_be_relative() -> None:
    relative = tuple(
        replace(one, estimate=Estimate(one.estimate.memory, replace(one.estimate.speed, is_absolute=False)))
        for one in CANDIDATES
        if one.estimate is not None
    )
    shown = text(replace(PLAN, candidates=relative, choice=relative[0]))
    assert "1.00×" in shown
    assert "0.80×" in shown
    assert "tokens/s" not in shown
    assert "this device's speed is unknown" in " ".join(shown.split())
    body = plans_body([replace(PLAN, candidates=relative, choice=relative[0])])
    assert body["choice"]["speed"] == {"step_s": None, "tokens_per_s": None}


def test_nothing_fits() -> None:
    request = replace(sim.REQUEST, pins=Pins(method=Method.FULL))
    would_fit = ("--method lora (19.8 GB, ~310 tokens/s)", "2 more GPUs like these (22.6 GB)")
    shown = text(Plan(sim.SHAPE, sim.HARDWARE, request, None, CANDIDATES[3:], would_fit))
    assert "Nothing is expected to fit: Llama-2-13B, all parameters, 2,048 tokens." in " ".join(shown.split())
    assert "closest   zero1 mb1: too large by 31.0 GB" in shown
    assert "would fit --method lora           (19.8 GB, ~310 tokens/s)" in shown
    assert "          2 more GPUs like these  (22.6 GB)" in shown
    assert "next" not in shown


def test_flash_attention_of_every_rung_stands_in_the_heading() -> None:
    flash = tuple(replace(one, strategy=sim.strategy("zero1+lora+fa2", 4)) for one in CANDIDATES[:1])
    shown = text(replace(PLAN, candidates=flash, choice=flash[0]))
    assert "ladder, each +fa2" in shown
    assert "pick      if it fits: zero1+lora+fa2 mb4" in shown


def rehearsed(*, is_timed: bool, is_same_kind: bool = True, notes: tuple[str, ...] = ()) -> Plan:
    """The first candidate of `PLAN` was measured."""
    seen = Rehearsed(sim.measured(71.4, 33_210.0), 600_000_000, 0.25 if is_timed else None)
    one = replace(CANDIDATES[0], rehearsed=seen)
    rehearsal = Rehearsal("H100 80GB HBM3", 1, is_same_kind, is_timed, notes)
    return replace(PLAN, choice=one, candidates=(one, *CANDIDATES[1:]), rehearsal=rehearsal)


def test_what_was_measured_is_marked_and_what_was_added_is_said() -> None:
    lines = text(rehearsed(is_timed=True)).splitlines()
    rows = {line.split()[0]: line for line in lines if line.startswith("zero")}
    assert "*72.0 GB" in rows["zero1+lora"]
    assert "*32,768" in rows["zero1+lora"]
    assert "█" in rows["zero1+lora"]
    assert "*" not in rows["zero2+lora+gc"]
    shown = " ".join(" ".join(lines).split())
    assert "why the fastest of the rehearsed that may fit" in shown
    assert "1 rung (*), rank 0 of 8 alone, on H100 80GB HBM3; from the estimates: 600 MB for the communicator," in shown
    assert "0.25 s of communication a step (zero1+lora mb4)" in shown
    assert "Not seen: the real network" in shown
    assert "speeds are estimates" not in shown


def test_times_that_do_not_carry_over_are_not_shown() -> None:
    shown = text(rehearsed(is_timed=False))
    assert "*72.0 GB" in shown
    assert "~33,000" in shown
    assert "Times here say nothing of the machine planned for" in " ".join(shown.split())
    other = text(rehearsed(is_timed=False, is_same_kind=False))
    assert "other kernels ran" in " ".join(other.split())


def test_rehearsals_that_all_ran_out_of_memory_are_counted() -> None:
    shown = text(replace(PLAN, rehearsal=Rehearsal("CPU", 4, is_same_kind=False, is_timed=False)))
    assert "rehearsed 4 rungs (*), rank 0 of 8 alone, on CPU\n" in shown


def test_what_was_not_rehearsed_is_said() -> None:
    rehearsal = Rehearsal("CPU", 0, is_same_kind=False, is_timed=False, notes=("Not rehearsed: zero1 mb1; why.",))
    shown = text(replace(PLAN, rehearsal=rehearsal))
    assert "rehearsed nothing" in shown
    assert "Not rehearsed: zero1 mb1; why." in shown
    assert "*" not in shown


def test_rehearsals_of_several_machines_are_told_apart() -> None:
    notes = ("Not rehearsed: zero1 mb1; why.",)
    lines = comparison_lines([rehearsed(is_timed=True), rehearsed(is_timed=False, notes=notes)], TERMS, NEXT)
    shown = " ".join(plain(lines).split())
    assert shown.count(f"rehearsed {sim.HARDWARE.summary.replace('NVIDIA ', '')}: 1 rung") == 2
    assert notes[0] in shown
    assert max(len(line) for line in plain(lines).splitlines()) <= 80


def test_several_machines_stand_in_one_table_best_first() -> None:
    slower = candidate("zero3+lora", 2, Verdict.FITS, gb=30, step_s=9.0)
    nothing = replace(PLAN, choice=None, candidates=CANDIDATES[3:])
    shown = plain(comparison_lines([PLAN, replace(PLAN, choice=slower), nothing], TERMS, NEXT)).splitlines()
    rows = [line for line in shown if line.startswith("8 × A100")]
    assert [("zero1+lora mb4" in row, "nothing fits" in row) for row in rows] == [
        (True, False),
        (False, False),
        (False, True),
    ]
    assert "~136" in rows[0]
    assert max(len(line) for line in shown) <= 80


def test_an_update_in_the_backward_pass_is_told_by_the_memory_of_adamw_with_zero_3() -> None:
    fused = replace(candidate("zero3+gc", 1, Verdict.FITS, gb=20), adamw_peak_bytes=round(125.4 * sim.GB))
    told = replace(PLAN, choice=fused, candidates=(fused, *CANDIDATES))
    peak_bytes = fused.estimate.memory.peak_bytes if fused.estimate else 0
    shown = " ".join(text(told).split())
    share = f"{100 * peak_bytes / (125.4 * sim.GB):.0f} %"
    assert f"memory zero3+gc mb1 takes {share} of what AdamW with ZeRO-3 would take on the same rows, 125 GB" in shown
    assert "AdamW with ZeRO-3" not in text(PLAN)
    assert plans_body([told])["choice"]["adamw_zero3_peak_bytes"] == round(125.4 * sim.GB)


def test_the_json_has_exactly_the_promised_keys() -> None:
    body = plans_body([PLAN])
    assert list(body) == [
        "model",
        "hardware",
        "request",
        "sdpa_kernels",
        "verdict",
        "choice",
        "plain",
        "last_resorts",
        "candidates",
        "baseline",
    ]
    one = body["candidates"][0]
    assert body["choice"] == one
    assert set(one) == {
        "strategy", "memory", "adamw_zero3_peak_bytes", "host_memory", "speed", "energy", "efficiency", "verdict",
        "reason",
    }  # fmt: skip
    assert one["adamw_zero3_peak_bytes"] is None
    assert set(one["strategy"]) == {
        "method", "zero_stage", "offload", "gradient_checkpointing", "attention", "optimizer", "quantization", "dtype",
        "micro_batch", "gradient_accumulation",
    }  # fmt: skip
    assert set(one["memory"]) == {
        "parameters_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes", "buffers_bytes",
        "runtime_bytes", "peak_bytes", "low_bytes", "high_bytes", "host_bytes", "optimizer_share",
    }  # fmt: skip
    assert one["host_memory"] == {
        "runtime_bytes": 10 * sim.GB, "unpinned_bytes": 0, "pinned_bytes": 0, "peak_bytes": 10 * sim.GB,
        "offloaded_bytes": 0, "mapped_bytes": 0, "high_bytes": 20 * sim.GB, "available_bytes": 1700 * sim.GB,
    }  # fmt: skip
    assert one["speed"] == {"step_s": 2.0, "tokens_per_s": 32_768.0}
    assert [one["verdict"] for one in body["candidates"]] == [one.verdict.value for one in CANDIDATES]
    assert body["candidates"][-1]["speed"] == {"step_s": None, "tokens_per_s": None}


def test_the_json_of_several_machines_is_the_best_ones_with_all_beside() -> None:
    body = plans_body([PLAN, replace(PLAN, choice=None)])
    assert body["choice"] is not None
    assert [machine["choice"] is None for machine in body["machines"]] == [False, True]
