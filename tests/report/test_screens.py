"""What people see, as text; the live one through a terminal emulator."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import replace

import pyte
import pytest
from rich.console import Console

from autofit.domain import event as ev
from autofit.domain.hardware import Hardware
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.pins import Pins
from autofit.domain.metric import Metric, MetricCourse
from autofit.domain.outcome import Crashed, Measured, Outcome, OutOfMemory, Phase, Place, TimedOut, Unsupported
from autofit.domain.request import Generation, Reward, SearchOptions
from autofit.domain.task import Task
from autofit.domain.training_phase import TrainingPhase
from autofit.domain.trial import Beside, Choice, Expected, GiveUp
from autofit.domain.workload import Learned, RowCounts
from autofit.report.choice_text import beside_label, beside_text, gives_up_text
from autofit.report.header import batch_text, machine_text, model_text
from autofit.report.json_screen import JsonScreen
from autofit.report.ladder.ladder_table import memory_bar, table_lines
from autofit.report.ladder.skipped_rungs import Skipped, skipped
from autofit.report.line import plain
from autofit.report.message import message_lines
from autofit.report.outcome_text import verdict_text
from autofit.report.plain import PlainScreen
from autofit.report.progress import ended_text, progress_text
from autofit.report.terminal import LiveScreen
from autofit.report.view import View, fold
from tests.builders import make_rung
from tests.report import simulated as sim


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def view_of(events: Iterable[ev.Event]) -> View:
    view = View()
    for event in events:
        view = fold(view, event)
    return view


def table(events: Iterable[ev.Event], now_s: float = 6.0, width: int = 80) -> list[str]:
    return plain(table_lines(view_of(events), now_s, width=width)).splitlines()


def row(lines: list[str], name: str) -> str:
    return next(line for line in lines if line.startswith(name + " "))


def test_the_table_tells_each_rung_s_state() -> None:
    lines = table(sim.searching())
    assert "of 79.2 GB" in plain(table_lines(view_of(sim.whole()))).splitlines()[0]
    assert row(lines, "zero1+lora").split() == ["zero1+lora", "mb4", "██████████████▉░", "74.1", "GB", "31,200",
                                                "best", "so", "far"]  # fmt: skip
    assert row(lines, "zero2+lora+gc").endswith("measured")
    assert "out of memory in backward, 1.2 GB" in row(lines, "zero3")
    assert row(lines, "zero3+gc").endswith("forward 0:06")
    assert "~53 GB" in row(lines, "zero3+gc")
    assert row(lines, "zero2+lora").endswith("not tried")
    assert "too large by 31 GB and 18 GB" in row(lines, "zero1, zero2")


def test_speeds_are_predicted_from_the_measured_ones() -> None:
    assert "~30,000" in row(table(sim.searching()), "zero2+lora")
    assert "~" not in row(table(sim.beginning()), "zero2+lora").partition(" GB")[2], "nothing is measured yet"


def test_the_chosen_rung_and_what_was_skipped() -> None:
    lines = table(sim.whole())
    assert row(lines, "zero1+lora").endswith("chosen")
    assert "cannot beat 31,200 (bound 2,900–29,800)" in row(lines, "7 rungs")
    assert not any("not tried" in line for line in lines)


def test_a_failure_at_a_larger_micro_batch_stands_under_the_rung() -> None:
    failed = sim.trial("zero1+lora", 8, sim.out_of_memory(78.0, 2.0))
    lines = table([*sim.searching(), ev.TrialEnded(failed)])
    at = next(i for i, line in enumerate(lines) if line.startswith("zero1+lora "))
    assert lines[at + 1].split()[0] == "mb8"


@pytest.mark.parametrize("width", [60, 72, 80, 100])
@pytest.mark.parametrize("events", [sim.beginning(), sim.searching(), sim.whole()])
def test_no_line_is_wider_than_the_screen(width: int, events: list[ev.Event]) -> None:
    view = view_of(events)
    lines = [line for event in events for line in message_lines(view, event, width=width)]
    text = plain([*lines, *table_lines(view, width=width)])
    assert max(len(line) for line in text.splitlines()) <= width


def test_waiting_rungs_are_cut_to_the_height_of_the_screen() -> None:
    lines = table_lines(view_of(sim.beginning()), row_limit=9)
    assert len(lines) == 9
    assert "+ 8 more not tried\n" in plain(lines)


def test_bars() -> None:
    assert memory_bar(50, 100, 8) == "████░░░░"
    assert memory_bar(53, 100, 8) == "████▏░░░"
    assert memory_bar(500, 100, 8) == "████████"
    assert memory_bar(50, 100, 8, is_predicted=True) == "▒▒▒▒░░░░"
    assert memory_bar(50, None, 8) == " " * 8


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        (sim.measured(74.1, 31_200.0), "31,200 tokens/s, 74.1 GB"),
        (
            replace(sim.measured(70.0, 900.0), is_outpaced=True),
            "900 tokens/s, 70.0 GB: slower beyond doubt after 1 step",
        ),
        (sim.out_of_memory(78.9, 1.5), "out of memory in backward, 1.2 GB short"),
        (sim.out_of_memory(10.0, 1.5), "out of memory in backward, asked 1.5 GB"),
        (OutOfMemory(0, Phase.STEP, Place.HOST, "killed"), "out of host memory in the optimizer step"),
        (Unsupported("no kernel"), "not supported: no kernel"),
        (TimedOut(1, Phase.SAVE, 600.0), "no sign of life in the save for 10:00"),
        (TimedOut(0, Phase.STEP, 150.0, was_silent=False), "still in the optimizer step after 2:30"),
        (Crashed(2, Phase.BUILD, "bad shape"), "crashed in the build on rank 2: bad shape"),
    ],
)
def test_verdicts(outcome: Outcome, text: str) -> None:
    assert verdict_text(outcome, int(79.2 * sim.GB)) == text


def test_many_rungs_are_named_by_what_they_share() -> None:
    rungs = tuple(sim.rung(f"zero{stage}+gc+offload") for stage in (1, 2, 3))
    assert Skipped(rungs, ("a", "a", "a")).names(16) == "3 rungs"
    assert Skipped(rungs, ("a", "a", "a")).names(20) == "+offload (3 rungs)"
    assert Skipped(rungs, ("a", "a", "a")).names(25) == "+gc+offload (3 rungs)"
    assert Skipped(rungs[:1], ("a",)).names(5) == "zero1+gc+offload"
    mixed = tuple(sim.rung(f"zero3+{name}+fa2") for name in ("offload", "gc+offload", "offload-all"))
    assert Skipped(mixed, ("a", "a", "a")).names(30) == "zero3+offload…+fa2 (3 rungs)"
    assert Skipped(mixed, ("a", "a", "a")).names(30, "+fa2") == "zero3+offload… (3 rungs)"


def test_a_family_has_one_row_and_the_others_are_counted() -> None:
    lines = table(sim.beginning())
    assert row(lines, "zero2+lora").endswith("not tried")
    assert not any(line.startswith("zero2+lora+gc ") for line in lines), "of its family one that is faster has a row"
    told = " ".join(" ".join(lines).split())
    assert "+ 4 more not tried: like these with gc" in told


def test_a_rung_is_skipped_once() -> None:
    rungs = [rung for group in skipped(view_of(sim.whole())) for rung in group.rungs]
    assert len(rungs) == len(set(rungs))


def test_what_is_left_of_a_machine() -> None:
    assert machine_text(sim.HARDWARE) == "8 × A100-SXM4-80GB, 79.2 GB free each, NVLink · 1.8 TB host memory"
    limited = Hardware(sim.HARDWARE.nodes, memory_limit_bytes=24 * sim.GB)
    assert "24.0 GB allowed each" in machine_text(limited)


def test_a_model_in_a_folder_is_named_by_the_folder() -> None:
    assert model_text(replace(sim.SHAPE, name="/data/models/Llama-2-13b")).startswith("Llama-2-13b, 13.0 B")
    assert model_text(replace(sim.SHAPE, name="/runs/1-sft/merged")).startswith("1-sft/merged, 13.0 B")
    assert model_text(replace(sim.SHAPE, name="meta-llama/Llama-2-13b")).startswith("meta-llama/Llama-2-13b, ")


def test_what_a_choice_gives_up_is_told_by_the_words_that_allow_it() -> None:
    lomo = replace(sim.CHOICE.strategy, rung=make_rung(3, optimizer=Optimizer.LOMO))
    assert gives_up_text(lomo) == "lomo: nothing adapts the step of a parameter: plain SGD, not AdamW"
    assert gives_up_text(sim.CHOICE.strategy) == ""
    choice = Choice(lomo, None, "why", (), None)
    assert beside_label(choice) == "plain"
    assert beside_text(choice, Pins()) == "no rung that gives nothing up fits of those that were probed"
    assert beside_text(choice, Pins(optimizer=Optimizer.LOMO)) == ""


def test_nothing_fits() -> None:
    view = view_of(sim.beginning())
    assert plain(message_lines(view, ev.GaveUp(sim.GIVE_UP))).splitlines() == [
        "Nothing on this machine fits Llama-2-13B, 2,048 tokens.",
        "closest   zero3+gc+offload mb1 needs 27.9 GB of 23.6 GB per GPU",
        "would fit --method lora                       (19.8 GB, ~310 tokens/s)",
        "          --seq 2048                          (22.1 GB, ~140 tokens/s)",
        "          2 more GPUs like these              (22.6 GB)",
    ]


def test_what_failed_otherwise_is_not_said_not_to_fit() -> None:
    broken = GiveUp("no probe came to its end; the first: zero1 mb1 is not supported: bf16", is_memory=False)
    shown = plain(message_lines(view_of(sim.beginning()), ev.GaveUp(broken)))
    assert shown.startswith("Nothing on this machine could train Llama-2-13B, 2,048 tokens.\nwhy ")
    assert "fits" not in shown


def test_a_choice_that_nothing_was_tried_of_has_its_row_where_a_run_is_shown_again() -> None:
    unseen = replace(sim.CHOICE, measured=None)
    rows = plain(table_lines(View(hardware=sim.HARDWARE, request=sim.REQUEST, choice=unseen))).splitlines()
    assert [line.split() for line in rows if line.endswith("chosen")] == [["zero1+lora", "mb4", "chosen"]]
    tried = View(hardware=sim.HARDWARE, request=sim.REQUEST, choice=sim.CHOICE, trials=sim.TRIALS)
    assert sum(line.endswith("chosen") for line in plain(table_lines(tried)).splitlines()) == 1


def full_line(choice: Choice) -> str:
    lines = plain(message_lines(view_of(sim.beginning()), ev.Chosen(choice, 48.0, 5))).splitlines()
    return next((line for line in lines if line.startswith("full")), "")


def test_a_lora_choice_names_the_full_rung_beside_it() -> None:
    assert full_line(sim.CHOICE) == "full     --method full: zero3+gc mb4 · 9,100 tokens/s · 53.0 GB"
    assert "no rung with all parameters fits of those that were probed" in full_line(replace(sim.CHOICE, plain=None))
    assert full_line(replace(sim.CHOICE, strategy=sim.strategy("zero3", 1))) == ""
    expected = Beside(sim.strategy("zero3+gc", 4), None, Expected(912.3, 701.0, 987.0))
    told = full_line(replace(sim.CHOICE, plain=expected))
    assert told == "full     --method full: zero3+gc mb4 · ~910 tokens/s (predicted, 700 to 990)"


def test_a_choice_that_gives_something_up_says_what_and_names_the_plain_rung_beside_it() -> None:
    chosen = replace(sim.CHOICE, strategy=sim.LOMO)
    lines = plain(message_lines(view_of(sim.beginning()), ev.Chosen(chosen, 48.0, 5))).splitlines()
    assert "gives up lomo: nothing adapts the step of a parameter: plain SGD, not AdamW" in lines
    beside = " ".join(" ".join(lines).split("plain    ")[1].split())
    assert beside == "--optimizer adamw: zero3+gc mb4 · 9,100 tokens/s · 53.0 GB"


def test_the_last_resorts_stand_below_what_would_fit() -> None:
    given_up = replace(sim.GIVE_UP, resorts=(sim.RESORT,))
    shown = plain(message_lines(view_of(sim.beginning()), ev.GaveUp(given_up))).splitlines()
    assert shown[-2:] == [
        "resorts   --allow lomo (zero3+gc+lomo mb1: ~20 GB)",
        "            nothing adapts the step of a parameter: plain SGD, not AdamW",
    ]


def plain_lines(events: Iterable[ev.Event], step_s: float) -> list[str]:
    stream, clock = io.StringIO(), Clock()
    with PlainScreen(stream, clock) as screen:
        for event in events:
            clock.now_s += step_s
            screen.show(event)
    return stream.getvalue().splitlines()


def test_plain_lines_have_no_control_characters_and_name_every_trial() -> None:
    lines = plain_lines(sim.whole(), 3.0)
    assert all(line.isprintable() for line in lines)
    assert "trial    zero3 mb2: out of memory in backward, 1.2 GB short (in 4.2 s)" in lines
    assert sum(line.startswith("trial") for line in lines) == 5
    assert "model    runs/a/model" in lines


def test_a_long_training_is_not_a_flood() -> None:
    lines = plain_lines((sim.progress(n) for n in range(2368)), 0.1)
    assert 20 <= len(lines) <= 45
    assert lines[-1].startswith("training 2,367/2,367")


def test_a_report_without_loss_keeps_the_last_one() -> None:
    view = view_of([sim.progress(400), sim.progress(401, loss=None)])
    assert view.progress is not None
    assert (view.progress.step, view.progress.loss) == (401, 1.183)


def test_steps_that_were_skipped_and_what_is_wrong_are_told() -> None:
    progress = replace(sim.progress(400), skipped_steps=2, trouble="the loss is not finite since step 399")
    assert "the loss is not finite since step 399 · 2 steps skipped" in progress_text(progress)
    ended = ended_text(replace(sim.RESULT, skipped_steps=1, eval_loss=2.5))
    assert "eval loss 2.500 · 1 step skipped" in ended
    assert "skipped" not in ended_text(sim.RESULT)


def screen_text(events: list[ev.Event], *, is_closed: bool, lines: int = 30) -> str:
    """What stands on an 80-column terminal after `events`, three seconds apart."""
    stream, clock = io.StringIO(), Clock()
    emulator = pyte.Screen(80, lines)
    emulator.set_mode(pyte.modes.LNM)
    console = Console(file=stream, force_terminal=True, width=80, height=lines, color_system="standard")
    with LiveScreen(console, clock) as screen:
        for event in events:
            clock.now_s += 3.0
            screen.show(event)
        if not is_closed:
            clock.now_s += 6.0
            screen.redraw()
            pyte.Stream(emulator).feed(stream.getvalue())
    if is_closed:
        pyte.Stream(emulator).feed(stream.getvalue())
    return "\n".join(line.rstrip() for line in emulator.display)


def test_the_table_of_a_phase_stays_above_the_next_one() -> None:
    phases = [TrainingPhase(name, sim.REQUEST, SearchOptions()) for name in ("a", "b")]
    first, second = (ev.PhaseStarted(number, 2, phase, "runs") for number, phase in enumerate(phases, 1))
    text = screen_text([first, *sim.beginning(), second, *sim.beginning()[:2]], is_closed=True, lines=40)
    assert text.count("ladder ") == 1
    assert text.index("phase    1 of 2, a") < text.index("ladder ") < text.index("phase    2 of 2, b")
    assert text.rindex("model    ") > text.index("phase    2 of 2, b")


def test_the_machine_is_told_again_where_a_phase_finds_another_one() -> None:
    phases = [TrainingPhase(name, sim.REQUEST, SearchOptions()) for name in ("a", "b", "c")]
    begun = [ev.PhaseStarted(number, 3, phase, "runs") for number, phase in enumerate(phases, 1)]
    host = sim.HARDWARE.nodes[0].host
    busier = replace(host, memory_available_bytes=host.memory_available_bytes // 2)  # which no line tells
    same = replace(sim.HARDWARE, nodes=(replace(sim.HARDWARE.nodes[0], host=busier),))
    other = replace(sim.HARDWARE, memory_limit_bytes=10**9)
    seen = [ev.MachineSeen(hardware) for hardware in (sim.HARDWARE, same, other)]
    said = plain_lines((event for pair in zip(begun, seen, strict=True) for event in pair), 0.0)
    assert [line.split(",")[0] for line in said if line] == [
        "phase    1 of 3", "machine  8 × A100-SXM4-80GB", "phase    2 of 3", "phase    3 of 3",
        "machine  8 × A100-SXM4-80GB",
    ]  # fmt: skip


def test_a_task_that_is_not_supervised_fine_tuning_is_named_with_what_rewards() -> None:
    rewards = (Reward("/runs/2-reward/merged", 0.5), Reward("/a/rewards.py:brief"), Reward("me/judge"))
    asked = replace(sim.REQUEST, task=Task.GRPO, global_batch=32, generation=Generation(8, 64, rewards))
    said = plain_lines([ev.DataRead(asked, sim.PROFILE)], 0.0)
    assert said[0] == (
        "task     group relative policy optimization, rewarded by 2-reward/merged=0.5 and rewards.py:brief and me/judge"
    )
    assert plain_lines([ev.DataRead(sim.REQUEST, sim.PROFILE)], 0.0)[0].startswith("request")


def test_a_batch_of_answers_says_how_many_prompts_it_is() -> None:
    asked = replace(sim.REQUEST, task=Task.GRPO, global_batch=32, generation=Generation(8, 64))
    assert batch_text(asked) == "global batch 32 (4 prompts, 8 answers of up to 64 tokens to each)"
    assert batch_text(replace(asked, global_batch=8)).startswith("global batch 8 (1 prompt, ")
    assert batch_text(replace(asked, task=Task.DPO)) == "global batch 32"


def test_a_model_that_scores_is_counted_with_its_head() -> None:
    read = [ev.ModelRead(sim.SHAPE), ev.ModelRead(sim.SHAPE, scores=True)]
    assert [line.endswith(", with a head that scores") for line in plain_lines(read, 0.0)] == [False, True]


def test_the_live_table_moves_under_a_header_that_stays() -> None:
    text = screen_text(sim.searching(), is_closed=False)
    assert text.startswith("machine  8 × A100")
    assert text.count("ladder ") == 1
    assert "forward 0:09" in text
    assert "waiting" in text


def test_the_training_bar_is_the_last_thing_on_the_screen() -> None:
    text = screen_text(sim.whole()[:-1], is_closed=False).rstrip()
    bar, below = text.splitlines()[-2:]
    assert bar.startswith("training ━━━")
    assert bar.endswith("2,367/2,367  loss 1.183  31,050 tok/s")
    assert below.strip() == "74.2 GB peak · saved step 2,000 · 42:10 left"
    assert text.count("ladder ") == 1


def test_loading_shows_that_it_lives() -> None:
    events = [event for event in sim.whole() if not isinstance(event, (ev.TrainingProgress, ev.TrainingEnded))]
    assert "loading the model and the data 0:06" in screen_text(events, is_closed=False)
    events.append(ev.ModelLoading(412, 1723))
    assert "loading the model, 412 of 1,723 weights 0:09" in screen_text(events, is_closed=False)


def test_a_log_hears_of_loading_now_and_then() -> None:
    stream, clock = io.StringIO(), Clock()
    with PlainScreen(stream, clock) as screen:
        for done in range(0, 30, 2):
            clock.now_s = float(done)
            screen.show(ev.ModelLoading(done, 30))
    told = [line.partition("model, ")[2] for line in stream.getvalue().splitlines()]
    assert told == ["0 of 30 weights", "10 of 30 weights", "20 of 30 weights"]


def test_what_is_left_after_an_interruption() -> None:
    text = screen_text(sim.searching(), is_closed=True)
    assert text.count("ladder ") == 1
    assert "not tried" in text
    assert "waiting" not in text


def test_json_is_one_object() -> None:
    stream = io.StringIO()
    with JsonScreen(stream) as screen:
        for event in sim.whole():
            screen.show(event)
    body = json.loads(stream.getvalue())
    assert body["schema"] == 1
    assert body["error"] is None
    assert len(body["trials"]) == 5
    assert body["result"]["model_path"] == "runs/a/model"


def test_the_best_trial_is_the_fastest() -> None:
    best = view_of(sim.searching()).best()
    assert best is not None
    assert isinstance(best.outcome, Measured)
    assert best.outcome.tokens_per_s == 31_200.0


def test_what_is_learned_and_lost_of_the_data_stands_under_the_request() -> None:
    counts = RowCounts(400, empty=3, dropped=22, cut=31, cut_answers=12)
    whole = RowCounts(40)
    profile = replace(sim.PROFILE, notes=(), learned=Learned.TWIN_TURNS, rows=counts, eval_rows=whole)
    event = ev.DataRead(sim.REQUEST, profile)
    _, *lines = plain(message_lines(fold(View(), event), event, width=200)).splitlines()
    assert lines == [
        "learns   the assistant's turns, as trl's training copy of the chat template marks them",
        "rows     400 in all · 22 dropped: all that is learned of them lies beyond --seq · 3 left out: nothing in them "
        "to learn from · 31 cut at --seq, 12 of these lose a part of what is learned",
    ]
    event = ev.DataRead(sim.REQUEST, replace(sim.PROFILE, eval_rows=counts))
    assert "eval     400 in all" in plain(message_lines(fold(View(), event), event))


def test_what_a_task_tells_stands_beside_the_loss() -> None:
    progress = replace(sim.progress(7, 1.5), metrics=(Metric("accuracy", 0.75), Metric("margin", None)))
    assert "loss 1.500 · accuracy 0.750 · 31,050 tok/s" in progress_text(progress)
    courses = (MetricCourse("accuracy", 0.5, 1.0, 0.9), MetricCourse("margin", None, None))
    ended = ended_text(replace(sim.RESULT, eval_loss=2.5, metrics=courses))
    assert "loss 2.413 → 1.183 · accuracy 0.500 → 1.000 · eval loss 2.500 · eval accuracy 0.900 · 31,050" in ended
    assert "margin" not in ended
