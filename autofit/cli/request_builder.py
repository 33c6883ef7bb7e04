"""The request that flags ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autofit.domain.errors import UsageError
from autofit.domain.knobs.allowance import check_allowed
from autofit.domain.knobs.dtype import DTYPE, MIXED, Dtype
from autofit.domain.knobs.pins import PINNABLE, Pins
from autofit.domain.objective import Objective
from autofit.domain.request import Learn, Lora, OnDivergence, Request, SearchOptions, Training
from autofit.domain.task import Task
from autofit.planning.data.step_count import prompts_per_step
from autofit.runs.run_folder import RunFolder

from .flags.train_flags import CHEAPEST
from .generation_builder import build_generation

DEFAULT_GLOBAL_BATCH = 32

CountRanks = Callable[[int | None], int]


def build_request(flags: Mapping[str, Any], extra_arguments: tuple[str, ...], count_ranks: CountRanks) -> Request:
    """What `flags` (by parameter name) ask for; `count_ranks` is asked only where a flag counts per device."""
    task = Task(flags["task"])
    if {"--help", "-h"} & set(extra_arguments):
        traits = task.traits
        raise UsageError(f"What may follow after -- are the fields of trl's {traits.config}: {traits.arguments_url}")
    request = Request(
        model=flags["model"],
        sequence_length=flags["seq"],
        task=task,
        objective=_objective(flags["optimize"]),
        baseline=flags["baseline"],
        generation=build_generation(task, flags),
        global_batch=_global_batch(flags, count_ranks),
        data=flags["data"],
        eval_data=flags["eval_data"],
        eval_fraction=flags["eval_fraction"],
        learn=_learn(task, flags["learn"]),
        allowed_drop=flags["allow_drop"],
        lora=Lora(
            flags["lora_r"], flags["lora_alpha"], flags["lora_target_modules"], flags["lora_exclude_modules"] or ()
        ),
        pins=_pins(flags),
        training=_training(flags, extra_arguments),
        allow=_allowed(flags["allow"] or ()),
        memory_limit_bytes=flags["memory_limit"],
        ranks=flags["ranks"],
        trust_remote_code=flags["trust_remote_code"],
    )
    if task.traits.generates:
        prompts_per_step(request)  # which must be a whole number
    return request


def search_options(flags: Mapping[str, Any]) -> SearchOptions:
    """How the command searches, by its flags."""
    return SearchOptions(
        is_dry_run=flags["dry_run"],
        is_exhaustive=flags["exhaustive"],
        tolerance=flags["tolerance"],
        probe_timeout_s=flags["probe_timeout"],
        may_step_down=not flags["no_step_down"],
    )


def count_ranks_here(ranks: int | None) -> int:
    """The number of ranks that a training here would have; looks at the machine only where nobody asked for some."""
    if ranks is not None:
        return ranks
    from autofit.hardware.machine import detect_here

    return detect_here(Path()).rank_count


def count_ranks(ranks: int | None, on: tuple[str, ...]) -> int:
    """The number of ranks that accumulation is multiplied with: of the machines that are described, or of this one."""
    if not on:
        return count_ranks_here(ranks)
    from autofit.hardware.machine_spec import parse_machine

    counts = {parse_machine(text).rank_count for text in on}
    if len(counts) > 1:
        raise UsageError("--gradient-accumulation-steps means another batch on each machine: give --batch-size.")
    return counts.pop()


def default_output_dir(request: Request) -> Path:
    """The folder of a run that names none: `autofit-runs/Llama-2-13b-hf-2048`, with the task that is not `sft` before
    the number."""
    task = "" if request.task is Task.SFT else f"-{request.task.value}"
    return Path("autofit-runs") / f"{model_name(request.model)}{task}-{request.sequence_length}"


def model_name(model: str) -> str:
    """The last part of a model's folder or hub id; of one that a run has left, which is called like any other, the name
    of the run's folder."""
    place = Path(model).resolve()
    run = RunFolder(place.parent)
    return run.root.name if run.exists and place in (run.model, run.merged) else place.name


def _objective(word: str) -> Objective:
    if word == CHEAPEST:
        raise UsageError(
            "--optimize cost is for autofit plan, which compares machines: on given devices the fastest is the "
            "cheapest, so ask for --optimize speed."
        )
    return Objective(word)


def _learn(task: Task, word: str) -> Learn:
    """Whose words the loss counts; UsageError where the task's loss knows of answers alone."""
    learn = Learn(word)
    if learn is not Learn.ASSISTANT and task is not Task.SFT:
        raise UsageError(
            f"--learn {word} is for --task sft, and --task {task.value} learns from whole answers: leave it out."
        )
    return learn


def _allowed(words: tuple[str, ...]) -> tuple[str, ...]:
    try:
        check_allowed(words)
    except ValueError as error:
        raise UsageError(f"--allow: {error}.") from None
    return tuple(sorted(set(words)))


def _pins(flags: Mapping[str, Any]) -> Pins:
    values = {knob.name: flags[knob.name] for knob in PINNABLE}
    return Pins(micro_batch=flags["micro_batch"], **{**values, DTYPE.name: _dtype(flags)})


def _dtype(flags: Mapping[str, Any]) -> Dtype | None:
    """`--bf16` and `--fp16` are the Hugging Face spellings of `--dtype`; their `false` asks for nothing."""
    asked = {flags[DTYPE.name]} | {dtype for dtype in MIXED if flags[dtype.value]}
    asked.discard(None)
    if len(asked) > 1:
        raise UsageError("--dtype, --bf16 and --fp16 ask for different things: keep one of them.")
    return asked.pop() if asked else None


def _global_batch(flags: Mapping[str, Any], count_ranks: CountRanks) -> int:
    accumulation, micro_batch, batch_size = flags["accumulation"], flags["micro_batch"], flags["batch_size"]
    if accumulation is None:
        return DEFAULT_GLOBAL_BATCH if batch_size is None else int(batch_size)
    if micro_batch is None:
        raise UsageError(
            "--gradient-accumulation-steps says something only together with --per-device-train-batch-size.\n"
            "Give both, or the product over all devices as --batch-size."
        )
    ranks = count_ranks(flags["ranks"])
    product = int(micro_batch * accumulation * ranks)
    if batch_size not in (None, product):
        raise UsageError(
            f"--batch-size {batch_size} is not micro-batch × accumulation × devices, "
            f"{micro_batch} × {accumulation} × {ranks} = {product}.\nLeave out one of them."
        )
    return product


def _training(flags: Mapping[str, Any], extra_arguments: tuple[str, ...]) -> Training:
    max_steps = flags["max_steps"]
    if max_steps == 0:
        raise UsageError("--max-steps 0 trains nothing: ask for one step at least.")
    return Training(
        epochs=flags["epochs"],
        max_steps=None if max_steps == -1 else max_steps,  # -1 is how Hugging Face says none
        learning_rate=flags["learning_rate"],
        save_steps=flags["save_steps"],
        seed=flags["seed"],
        report_to=tuple(name for names in flags["report_to"] for name in names),
        merge=flags["merge"],
        on_divergence=OnDivergence(flags["on_divergence"]),
        max_lost_minutes=flags["max_lost_minutes"],
        grace_s=flags["grace_seconds"],
        resume=None if flags["resume"] in (None, "", "true", "True") else flags["resume"],
        extra_arguments=extra_arguments,
    )
