"""The drop-in's story on a simulated machine: a line of `deepspeed` in, the line that is started out; no torch."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autofit.app.script.tunable_line import NotTuned, read_tunable_line
from autofit.app.tools import Tools
from autofit.app.tune import tune
from autofit.domain.deepspeed_line import HostSlots, LauncherOptions, LaunchLine, LaunchSettings, Layout, Override
from autofit.domain.errors import NothingFits, UsageError
from autofit.domain.event import Chosen, Event, GaveUp, Note
from autofit.domain.hardware import Hardware
from autofit.domain.outcome import Crashed, OutOfMemory, Phase, Place, TimedOut, Unsupported
from autofit.domain.script import Counting
from autofit.domain.timeline import LaunchTimeline
from autofit.planning.script.tunable_knobs import MICRO_BATCH_KEY
from autofit.probing.protocol import ScriptSpec, read_entry
from autofit.runs.run_folder import RunFolder
from autofit.store import Store
from tests.builders import make_hardware
from tests.fake_script import FakeScript

PLAIN = {"train_batch_size": 32, "bf16": {"enabled": True}}
HF = {"train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto", "train_batch_size": "auto"}
SLOW = {"train_batch_size": 32, "gradient_accumulation_steps": 16}
HF_WORDS = ("--per_device_train_batch_size", "16", "--gradient_accumulation_steps", "1")


class Tale:
    """One folder with a script and a config, and what `tune` is given there."""

    def __init__(self, folder: Path, script: FakeScript, config: dict[str, Any] = PLAIN) -> None:
        self.script, self.config_path = script, folder / "ds.json"
        self.config_path.write_text(json.dumps(config))
        (folder / "train.py").write_text("print('a script')\n")
        self._runs = folder / "autofit-runs"
        self.events: list[Event] = []
        self.layout: Layout | None = Layout((HostSlots("localhost", (0, 1)),), is_multi_node=False)
        self.tools = Tools(
            detect=self.detect,
            open_store=lambda: Store(folder / "store.sqlite"),
            start_script_agent=script.start_agent,
            resolve_layout=lambda line: self.layout,
        )

    @property
    def run_folder(self) -> RunFolder:
        """The folder of the last line that was tuned."""
        folders = sorted(self._runs.glob("train-*"), key=lambda path: path.stat().st_mtime_ns)
        return RunFolder(folders[-1] if folders else self._runs / "train-none")

    def detect(self, disk_path: Path, **_: Any) -> Hardware:
        return make_hardware(2, memory_limit_bytes=self.limit_bytes)

    limit_bytes: int | None = None

    clock: Callable[[], float] = staticmethod(time.monotonic)

    def line(self, *more: str) -> LaunchLine:
        return LaunchLine(("--num_gpus", "2"), "train.py", ("--deepspeed_config", str(self.config_path), *more))

    def tune(self, line: LaunchLine | None = None, **settings: Any) -> tuple[str, ...]:
        self.limit_bytes = settings.get("memory_limit_bytes")
        try:
            return tune(
                line or self.line(), LaunchSettings(**settings), screen=self, tools=self.tools, clock=self.clock
            )
        finally:
            assert self.script.running_count == 0, "the machine is free again"

    def show(self, event: Event) -> None:
        self.events.append(event)

    @property
    def notes(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Note))

    def shown(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    return tmp_path


def test_a_config_that_does_not_fit_is_replaced_by_the_fastest_that_does(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(capacity_bytes=900_000_000))
    words = tale.tune()
    config = json.loads(tale.run_folder.ds_config.read_text())
    assert "as it is: zero0 mb16, out of memory" in tale.notes
    assert config["train_batch_size"] == 32
    assert config["train_micro_batch_size_per_gpu"] * config["gradient_accumulation_steps"] * 2 == 32
    assert str(tale.run_folder.ds_config) in words
    assert len(tale.shown(Chosen)) == 1
    chosen = tale.shown(Chosen)[0].choice
    assert config["zero_optimization"]["stage"] == chosen.strategy.rung.zero_stage
    assert chosen.strategy.rung.method.value == "full", "LoRA is never forced on a script"


def test_the_gain_over_the_users_own_is_told(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(), SLOW)
    tale.tune(override=frozenset({Override.MICRO_BATCH}))
    assert "times as fast as yours" in tale.notes


def test_what_probes_could_not_but_write_is_told_and_left(tmp_path: Path) -> None:
    def write(spec: Any) -> None:
        (tmp_path / "past").write_text("by another program")

    tale = Tale(tmp_path, FakeScript(on_ask=write))
    tale.tune()
    assert f"changed while the probes ran, and left as it is: {tmp_path / 'past'}" in tale.notes
    assert (tmp_path / "past").is_file()


def test_nothing_is_changed_where_nothing_is_faster(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript())
    line = tale.line()
    assert tale.tune(line) == line.words
    chosen = tale.shown(Chosen)[0].choice
    assert str(chosen.strategy) == "zero0 mb16"
    assert chosen.why == "your own configuration stays: nothing that was probed is faster"


def test_a_probe_sees_the_users_words_but_for_the_config(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript())
    tale.tune(tale.line("--lr", "1e-4"))
    assert tale.script.specs
    for spec in tale.script.specs:
        words = spec.job.script.arguments
        assert words[0] == "--deepspeed_config"
        assert words[1].startswith(spec.scratch_path)
        assert words[2:] == ("--lr", "1e-4")
        assert spec.job.script.directory == str(tmp_path)
    assert json.loads(tale.config_path.read_text()) == PLAIN, "the user's own file is not touched"


def test_hugging_face_flags_carry_the_batch(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(capacity_bytes=900_000_000), HF)
    words = tale.tune(tale.line(*HF_WORDS))
    micro = int(words[words.index("--per_device_train_batch_size") + 1])
    accumulation = int(words[words.index("--gradient_accumulation_steps") + 1])
    assert micro * accumulation == 16
    assert micro < 16


def test_a_script_that_makes_its_own_batches_keeps_them(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(capacity_bytes=1_200_000_000, own_rows=16))
    tale.tune()
    assert "the micro-batch stays 16: the script makes its own batches" in tale.notes
    config = json.loads(tale.run_folder.ds_config.read_text())
    assert config["train_micro_batch_size_per_gpu"] == 16


COUNTS_BATCHES = Counting()


def test_a_script_that_counts_its_batches_keeps_its_micro_batch(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(capacity_bytes=1_200_000_000, counting=COUNTS_BATCHES))
    tale.tune()
    assert "the micro-batch stays 16: the script was not seen to count optimizer steps, only batches" in tale.notes
    config = json.loads(tale.run_folder.ds_config.read_text())
    assert config["train_micro_batch_size_per_gpu"] == 16
    micro_batches = [
        json.loads(dict(spec.files)["ds_config.json"]).get(MICRO_BATCH_KEY, 16) for spec in tale.script.specs
    ]
    assert micro_batches.count(16) >= len(micro_batches) - 1, "but for the look that shows how it counts"


def put_checkpoint(folder: Path, *names: str) -> None:
    place = folder / "global_step5"
    place.mkdir(parents=True)
    (folder / "latest").write_text("global_step5")
    for name in names:
        (place / name).touch()


def test_the_stage_of_a_checkpoint_that_is_loaded_stays(tmp_path: Path) -> None:
    put_checkpoint(tmp_path / "out", "mp_rank_00_model_states.pt")
    tale = Tale(tmp_path, FakeScript(capacity_bytes=1_000_000_000, loads_from=str(tmp_path / "out")))
    tale.tune()
    assert "out/global_step5: ZeRO stage 0 and its offload stay" in tale.notes
    assert {spec.job.strategy.rung.zero_stage for spec in tale.script.specs if spec.job.strategy} == {0}
    assert tale.shown(Chosen)[0].choice.strategy.rung.zero_stage == 0


def test_an_own_configuration_that_cannot_load_the_checkpoint_is_not_chosen(tmp_path: Path) -> None:
    shards = [f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(2)]
    put_checkpoint(tmp_path / "out", "mp_rank_00_model_states.pt", *shards)
    tale = Tale(tmp_path, FakeScript(loads_from=str(tmp_path / "out")))
    tale.tune()
    assert json.loads(tale.run_folder.ds_config.read_text())["zero_optimization"]["stage"] == 2


def test_a_kept_choice_that_cannot_load_a_new_checkpoint_is_searched_for_again(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(capacity_bytes=660_000_000, loads_from=str(tmp_path / "out")))
    tale.tune()
    assert tale.shown(Chosen)[0].choice.strategy.rung.zero_stage > 0
    put_checkpoint(tmp_path / "out", "mp_rank_00_model_states.pt")
    tale.tune()
    assert tale.shown(Chosen)[1].choice.strategy.rung.zero_stage == 0


def test_what_an_override_changes_is_said_loudly(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(capacity_bytes=900_000_000, counting=COUNTS_BATCHES))
    tale.tune(override=frozenset({Override.MICRO_BATCH}))
    assert "OPTIMIZER STEPS AND LEARNING RATE MAY CHANGE" in tale.notes
    assert json.loads(tale.run_folder.ds_config.read_text())["train_micro_batch_size_per_gpu"] < 16


def test_checkpointing_is_turned_within_the_process(tmp_path: Path) -> None:
    config = {"train_micro_batch_size_per_gpu": 16, "zero_optimization": {"stage": 2}}
    tale = Tale(tmp_path, FakeScript(capacity_bytes=900_000_000), config)
    words = tale.tune()
    entry = read_entry(words[words.index("autofit.worker.entry") + 1])
    assert entry.turns.gradient_checkpointing is True
    assert "zero_optimization.stage stays 2 as written" in tale.notes
    assert "the micro-batch stays 16 as written" in tale.notes


def test_a_model_without_knobs_is_told_of_once(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(capacity_bytes=900_000_000, is_hugging_face=False))
    tale.tune()
    assert tale.notes.count("is no Hugging Face model") == 1


def test_the_memory_limit_holds_for_the_training_too(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript())
    words = tale.tune(memory_limit_bytes=900_000_000)
    entry = read_entry(words[words.index("autofit.worker.entry") + 1])
    assert entry.memory_limit_bytes == 900_000_000


def test_the_same_line_again_starts_at_once(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(capacity_bytes=900_000_000))
    first, probes = tale.tune(), len(tale.script.specs)
    assert tale.tune() == first
    resumed = tale.tune(tale.line("--resume_from_checkpoint", "out/5"))
    assert resumed == (*first, "--resume_from_checkpoint", "out/5"), "a resumed training keeps its choice"
    assert len(tale.script.specs) == probes


def test_a_training_of_a_few_steps_starts_at_once_as_it_is(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript())
    with pytest.raises(NotTuned, match=r"takes 5 steps, by --max_steps.* unsearched"):
        tale.tune(tale.line("--max_steps", "5"))
    assert tale.script.specs == []
    assert not (tmp_path / "autofit-runs").exists()


@pytest.mark.parametrize(
    "asked",
    [{"is_dry_run": True}, {"memory_limit_bytes": 900_000_000}, {"tolerance": 0.01}],
    ids=lambda asked: str(asked),
)
def test_a_short_training_is_searched_where_that_is_asked_for(tmp_path: Path, asked: dict[str, Any]) -> None:
    tale = Tale(tmp_path, FakeScript())
    tale.tune(tale.line("--max_steps", "5"), **asked)
    assert tale.script.specs


def test_a_training_shorter_than_a_start_of_its_script_is_looked_at_and_no_more(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(start_s=30.0))
    line = tale.line("--max_steps", "20")
    assert tale.tune(line) == line.words
    assert len(tale.script.specs) == 1
    assert "the training takes 20 steps, by --max_steps" in tale.notes
    assert tale.shown(Chosen)[0].choice.why.startswith("your own configuration stays; stopped: another start of")


def test_where_no_probe_pays_there_is_no_second_look_either(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(start_s=30.0), {**PLAIN, "zero_optimization": {"stage": 3}})
    line, free = tale.line("--max_steps", "40"), frozenset({Override.STAGE})
    assert tale.tune(line, override=free) == line.words
    assert len(tale.script.specs) == 1
    why = tale.shown(Chosen)[0].choice.why
    assert why.startswith("your own configuration stays; stopped: another probe would cost")
    tale.tune(tale.line("--max_steps", "4000000"), override=free)
    assert len(tale.script.specs) > 3, "a long training earns them back"


def test_a_smoke_test_settles_nothing_for_the_training_after_it(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(start_s=30.0))
    tale.tune(tale.line("--max_steps", "20"))
    tale.tune(tale.line("--max_steps", "20"))
    assert len(tale.script.specs) == 1, "the same again is kept"
    tale.tune(tale.line())
    assert "chosen for a shorter training: the search goes on" in tale.notes
    assert "an hour is assumed: nothing says how long the script trains" in tale.notes
    searched = len(tale.script.specs)
    assert searched > 2
    tale.tune(tale.line("--max_steps", "20"))
    tale.tune(tale.line("--max_steps", "5"))
    tale.tune(tale.line())
    assert len(tale.script.specs) == searched, "the choice of a long one serves a short one"


def test_what_was_kept_before_lengths_were_serves_an_hour(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(capacity_bytes=900_000_000))
    tale.tune()
    kept = json.loads((tale.run_folder.root / "launch.json").read_text())
    del kept["settled"], kept["timeline"]
    (tale.run_folder.root / "launch.json").write_text(json.dumps(kept))
    searched = len(tale.script.specs)
    tale.tune()
    tale.tune(tale.line("--max_steps", "100"))
    assert len(tale.script.specs) == searched
    tale.tune(tale.line("--max_steps", "1000000"))
    assert len(tale.script.specs) > searched


def test_the_whole_wait_is_told(tmp_path: Path) -> None:
    script = FakeScript(capacity_bytes=900_000_000)
    tale = Tale(tmp_path, script)
    tale.clock = lambda: 5.0 * len(script.specs)
    tale.tune()
    looks, probes = 2, len(script.specs) - 2
    assert tale.shown(Chosen)[0].decided_s == 5.0 * (looks + probes)
    assert f"time: looks at the script after 10 s · choice after {5 * probes} s more · handed over" in tale.notes
    kept = tale.run_folder.read_decision()
    assert kept is not None
    assert kept.timeline == LaunchTimeline(10.0, 5.0 * len(script.specs), 5.0 * len(script.specs))


def test_a_choice_whose_config_is_gone_is_searched_for_again(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(capacity_bytes=900_000_000))
    first = tale.tune()
    tale.run_folder.ds_config.unlink()
    assert tale.tune() == first
    assert tale.run_folder.ds_config.is_file()


def test_what_decides_nothing_is_no_other_line(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(capacity_bytes=900_000_000))
    tale.tune(tale.line("--output_dir", "a", "--learning_rate", "1e-4"))
    probes = len(tale.script.specs)
    words = tale.tune(tale.line("--output_dir", "b", "--learning_rate", "2e-4"))
    assert words[-4:] == ("--output_dir", "b", "--learning_rate", "2e-4")
    assert len(tale.script.specs) == probes


def test_another_config_is_searched_anew_from_what_is_remembered(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(capacity_bytes=900_000_000))
    tale.tune()
    probes = len(tale.script.specs)
    tale.config_path.write_text(json.dumps({**PLAIN, "gradient_clipping": 1.0}))
    tale.tune()
    assert len(tale.script.specs) > probes
    assert (tale.run_folder.root / "earlier/1/choice.json").is_file()


def test_nothing_fits_says_so_and_starts_nothing(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(capacity_bytes=360_000_000))
    with pytest.raises(NothingFits):
        tale.tune()
    assert len(tale.shown(GaveUp)) == 1


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Crashed(0, Phase.BUILD, "ModuleNotFoundError: no module named x"), "crashed"),
        (TimedOut(0, Phase.BUILD, 600.0), "no sign of life"),
        (Unsupported("the script ended by itself after 1 optimizer step"), "ended by itself"),
    ],
)
def test_a_script_that_comes_to_no_step_is_told_apart_from_one_that_does_not_fit(
    tmp_path: Path, outcome: Any, said: str
) -> None:
    tale = Tale(tmp_path, FakeScript(fails_with=outcome))
    with pytest.raises(NotTuned, match=said):
        tale.tune()


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        (LaunchLine((), "train.py", ()), LaunchSettings()),
        (LaunchLine((), "train.py", ("--deepspeed",)), LaunchSettings()),
        (LaunchLine((), "train.py", ("--deepspeed", "missing.json")), LaunchSettings()),
        (LaunchLine((), "train.sh", ("--deepspeed", "ds.json"), LauncherOptions(no_python=True)), LaunchSettings()),
    ],
)
def test_where_there_is_nothing_to_tune_nothing_is_started(
    tmp_path: Path, line: LaunchLine, settings: LaunchSettings
) -> None:
    tale = Tale(tmp_path, FakeScript())
    with pytest.raises(NotTuned, match="unsearched"):
        tune(line, settings, screen=tale, tools=tale.tools)
    assert tale.script.specs == []
    assert not (tmp_path / "autofit-runs").exists()


def _in_base64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize("written", [str, _in_base64], ids=["json", "base64"])
def test_a_config_that_stands_on_the_line_itself_is_searched_and_replaced_by_a_copy(
    tmp_path: Path, written: Callable[[str], str]
) -> None:
    """More than a name of a file may hold, as a config with its comments does."""
    tale, text = Tale(tmp_path, FakeScript()), json.dumps({**SLOW, "comment": "x" * 300})
    line = LaunchLine(("--num_gpus", "2"), "train.py", ("--deepspeed_config", written(text)))
    words = tale.tune(line, override=frozenset({Override.MICRO_BATCH}))
    copy = json.loads(Path(words[-1]).read_text())
    assert words[-2:] == ("--deepspeed_config", str(tale.run_folder.ds_config))
    assert copy["train_batch_size"] == 32
    assert copy["gradient_accumulation_steps"] < 16


@pytest.mark.parametrize(("text", "why"), [("{}", "is no DeepSpeed config"), ("{3", "cannot be read")])
def test_a_config_on_the_line_that_is_none_is_not_printed(tmp_path: Path, text: str, why: str) -> None:
    line = LaunchLine((), "train.py", ("--deepspeed", _in_base64(text)))
    with pytest.raises(NotTuned, match=f"^the DeepSpeed config on the command line {why}"):
        read_tunable_line(line, LaunchSettings())


def test_a_config_with_a_key_twice_is_left_to_deepspeed_which_refuses_it(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript())
    tale.config_path.write_text('{"train_batch_size": 32, "zero_optimization": {"stage": 1, "stage": 2}}')
    with pytest.raises(NotTuned, match=r"ds\.json cannot be read \(stage stands in it twice\)"):
        tale.tune()
    assert tale.script.specs == []


def test_the_data_behind_a_switch_is_not_taken_for_the_config(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(capacity_bytes=900_000_000))
    (tmp_path / "data.json").write_text('{"rows": []}')
    words = tale.tune(tale.line("--deepspeed", "data.json"))
    assert words[-2:] == ("--deepspeed", "data.json")
    assert {spec.job.script.arguments[-2:] for spec in tale.script.specs} == {("--deepspeed", "data.json")}
    with pytest.raises(NotTuned, match=r"data\.json is no DeepSpeed config"):
        tale.tune(LaunchLine((), "train.py", ("--deepspeed", "data.json")))


def test_a_line_that_deepspeed_refuses_is_deepspeeds(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript())
    tale.layout = None
    with pytest.raises(NotTuned):
        tale.tune()


def test_an_interrupted_search_goes_on(tmp_path: Path) -> None:
    script = FakeScript(capacity_bytes=900_000_000)
    tale = Tale(tmp_path, script)

    def interrupt(spec: Any) -> None:
        if len(script.specs) == 4:
            raise KeyboardInterrupt

    script.on_ask = interrupt
    with pytest.raises(KeyboardInterrupt):
        tale.tune()
    tried = script.specs[2].job.strategy
    script.on_ask = lambda spec: None
    script.specs.clear()
    tale.tune()
    assert script.specs
    assert tried not in [spec.job.strategy for spec in script.specs], "what was tried is remembered"


def test_comments_in_a_config_are_deepspeeds_way(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript())
    tale.config_path.write_text('{\n  # mine\n  "train_batch_size": 32,\n  "bf16": {"enabled": true}\n}\n')
    assert tale.tune() == tale.line().words


def test_deepspeeds_own_tuner_is_off_in_what_is_started(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(), {**PLAIN, "autotuning": {"enabled": True}})
    words = tale.tune()
    assert str(tale.run_folder.ds_config) in words
    assert "autotuning" not in json.loads(tale.run_folder.ds_config.read_text())
    probed = [json.loads(dict(spec.files)["ds_config.json"]) for spec in tale.script.specs]
    assert probed
    assert "autotuning" not in set().union(*probed)


def test_a_model_that_cannot_even_be_built_is_not_searched(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(fails_with=OutOfMemory(0, Phase.BUILD, Place.DEVICE, "can't allocate memory")))
    tale.script.has_facts = False
    with pytest.raises(NothingFits):
        tale.tune()
    assert "before deepspeed.initialize" in tale.notes
    assert len(tale.script.specs) == 1


def test_a_script_that_is_too_short_for_a_probe_runs_as_it_is(tmp_path: Path) -> None:
    script = FakeScript(capacity_bytes=900_000_000)
    tale = Tale(tmp_path, script)

    def too_short(spec: Any) -> None:
        is_first = len(script.specs) == 1
        script.fails_with = None if is_first else Unsupported("the script ended by itself after 2 optimizer steps")

    script.on_ask = too_short
    with pytest.raises(NotTuned, match="ended by itself"):
        tale.tune()


def test_a_claim_rests_on_more_than_one_step_of_the_users_own(tmp_path: Path) -> None:
    """They are measured last, in a training of which that is a hundredth."""
    tale = Tale(tmp_path, FakeScript(steps_measured=1), SLOW)
    tale.tune(override=frozenset({Override.MICRO_BATCH}))
    assert tale.script.specs[-1].measured_steps == 3
    assert tale.script.specs[-1].job.strategy is None
    assert "your own configuration once more" in tale.notes


def test_a_claim_of_one_step_says_so_where_more_would_cost_too_much(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(steps_measured=1, start_s=60.0), SLOW)
    tale.tune(override=frozenset({Override.MICRO_BATCH}))
    assert all(spec.measured_steps is None for spec in tale.script.specs)
    assert "by one measured step" in tale.notes


def test_what_could_not_be_searched_is_not_looked_at_again(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript(fails_with=Crashed(0, Phase.BUILD, "ModuleNotFoundError: no module named x")))
    with pytest.raises(NotTuned):
        tale.tune()
    assert tale.tune() == tale.line().words
    assert len(tale.script.specs) == 1
    assert "unsearched: kept in" in tale.notes
    (tmp_path / "train.py").write_text("print('mended')\n")
    tale.script.fails_with = None
    tale.tune()
    assert len(tale.script.specs) > 1, "another script is looked at"


def test_a_run_folder_in_use_names_the_flag_of_the_drop_in(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript())
    folder = RunFolder(tmp_path / "one")
    with folder.lock(), pytest.raises(UsageError, match="choose another --autofit-output-dir"):
        tale.tune(output_dir=str(folder.root))


def test_a_model_that_is_not_hugging_faces_is_looked_at_once_more_alone(tmp_path: Path) -> None:
    """Where the second look fails it is not started again for a kernel of attention that the model does not have."""
    looks: list[str] = []

    def fail_the_second(spec: ScriptSpec) -> None:
        if "probe-" in spec.log_path:
            looks.append(Path(spec.log_path).name)
        tale.script.fails_with = Crashed(0, Phase.BUILD, "no") if looks == ["probe-own.log", "probe-lean.log"] else None

    tale = Tale(tmp_path, FakeScript(is_hugging_face=False, on_ask=fail_the_second))
    tale.tune()
    assert looks.count("probe-own.log") == looks.count("probe-lean.log") == 1


def test_two_lines_of_a_script_keep_a_choice_each(tmp_path: Path) -> None:
    tale = Tale(tmp_path, FakeScript())
    lines = [tale.line("--width", "64"), tale.line("--width", "128")]
    for line in lines:
        tale.tune(line)
    count = len(tale.script.specs)
    for line in lines:
        tale.tune(line)
    assert len(tale.script.specs) == count
    longer = replace(lines[0], arguments=(*lines[0].arguments, "--max_steps", "7"))
    folders = {read_tunable_line(line, LaunchSettings()).output_dir.name for line in (*lines, longer)}
    assert len(folders) == 2, "how long it trains does not tell a line from another"
    modules = [LaunchLine((), name, lines[0].arguments, LauncherOptions(is_module=True)) for name in ("a.b.c", "a.b.d")]
    names = [read_tunable_line(line, LaunchSettings()).output_dir.name for line in modules]
    assert [name.rpartition("-")[0] for name in names] == ["a.b.c", "a.b.d"]


@pytest.mark.parametrize("key", ["deepspeed", "deepspeed_config", "ds_config"])
def test_a_config_that_a_recipe_names_gets_the_line_to_type(tmp_path: Path, key: str) -> None:
    tale = Tale(tmp_path, FakeScript())
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"{key}: {tale.config_path}\nmax_steps: 5\n")
    line = LaunchLine(("--num_gpus", "2"), "train.py", ("--config", str(recipe)))
    with pytest.raises(NotTuned) as found:
        tale.tune(line)
    typed = f"autofit --num_gpus 2 train.py --config {recipe} --{key} {tale.config_path}"
    assert str(found.value).startswith(f"the DeepSpeed config stands in {recipe}; to have it tuned, type {typed}: ")
    assert tale.script.specs == []
    assert read_tunable_line(
        replace(line, arguments=(*line.arguments, f"--{key}", str(tale.config_path))), LaunchSettings()
    )
