"""A strategy put into a script's own words: the copy of its config, its arguments, and what is turned within it."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from autofit.domain.deepspeed_line import Override
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.offload import Offload
from autofit.domain.line_decision import BatchFlags
from autofit.domain.script import RuntimePatches, ScriptFacts
from autofit.domain.strategy import Strategy
from autofit.planning.export.deepspeed_config import GATHER_ON_SAVE, HOST_OPTIMIZER, OFFLOAD_KEYS, offload_sections
from autofit.planning.probe_steps import PROBED_ACCUMULATION
from autofit.planning.zero_sizes import zero_sizes

from .script_arguments import ACCUMULATION_FLAGS, MICRO_BATCH_FLAGS, config_flags, find, put
from .tunable_knobs import ACCUMULATION_KEY, AUTO, GLOBAL_BATCH_KEY, MICRO_BATCH_KEY, Config, TunableKnobs
from .zero_section import ZERO_KEY, zero_section

MONITORS = ("tensorboard", "wandb", "csv_monitor", "comet")
PROFILERS = ("flops_profiler", "comms_logger")


@dataclass(frozen=True)
class RewrittenLine:
    """What takes the place of the user's: `config` is JSON text, to be found at `config_path` by the arguments."""

    config: str
    arguments: tuple[str, ...]
    patches: RuntimePatches


def as_it_is(config: Config, arguments: tuple[str, ...], config_path: str) -> RewrittenLine:
    """The user's own configuration for a probe: nothing is reported to a tracker, and DeepSpeed's autotuner is off."""
    return RewrittenLine(_text(_quiet(config)), put(arguments, config_flags(arguments), config_path), RuntimePatches())


@dataclass(frozen=True)
class ConfigRewriter:
    """Puts strategies into one script's words. Sizes are in elements."""

    config: Config
    arguments: tuple[str, ...]
    knobs: TunableKnobs
    facts: ScriptFacts
    hidden_size: int
    kind: DeviceKind

    def probed(self, strategy: Strategy, config_path: str) -> RewrittenLine:
        """The script's words for a probe: no more micro-batches are accumulated than it must, and nothing is reported
        to a tracker. Where answers are generated, all are: they are generated for all of them at once."""
        must_stay = self.facts.generates or (self.knobs.has_flags and not self._takes_accumulation)
        most = strategy.gradient_accumulation if must_stay else PROBED_ACCUMULATION
        accumulation = min(strategy.gradient_accumulation, most)
        return self._rewritten(_quiet(self.config), strategy, accumulation, config_path)

    def trained(self, strategy: Strategy, config_path: str) -> RewrittenLine:
        """The script's words for the full run."""
        return self._rewritten(_tuned(self.config), strategy, strategy.gradient_accumulation, config_path)

    def flags(self, strategy: Strategy) -> BatchFlags | None:
        """The batch's flags of the full run; None where the script's flags do not turn the batch."""
        return self._flags(strategy, strategy.gradient_accumulation) if self.knobs.has_flags else None

    def _flags(self, strategy: Strategy, accumulation: int) -> BatchFlags:
        is_own = accumulation == self.facts.gradient_accumulation  # by a recipe, its parser's default or its code
        return BatchFlags(strategy.micro_batch, accumulation, None if is_own else self.facts.accumulation_flag)

    @property
    def _takes_accumulation(self) -> bool:
        """Whether a flag of the line tells the script how much it accumulates, or could."""
        return self.facts.accumulation_flag is not None or find(self.arguments, ACCUMULATION_FLAGS) is not None

    def rows(self, strategy: Strategy) -> int | None:
        """The rows that its batches must turn out to have; None where they are the script's own affair.

        A trainer of preferences joins the better and the worse answer of a sample in one batch.
        """
        facts = self.facts
        if not self.knobs.can_tune_micro_batch or facts.rows is None or facts.rows % facts.micro_batch:
            return None
        return strategy.micro_batch * (facts.rows // facts.micro_batch)

    def _rewritten(
        self, copy: dict[str, Any], strategy: Strategy, accumulation: int, config_path: str
    ) -> RewrittenLine:
        copy[ZERO_KEY] = self._zero(strategy, zero_section(copy))
        if strategy.rung.offload is not Offload.NONE and self.knobs.can_tune_offload:
            copy.setdefault(HOST_OPTIMIZER, False)  # otherwise DeepSpeed refuses the optimizer that a script brings
        flags = self._flags(strategy, accumulation)
        self._put_batch(copy, flags)
        words = rewrite_arguments(self.arguments, config_path, flags if self.knobs.has_flags else None)
        return RewrittenLine(_text(copy), words, patches_of(strategy, self.facts))

    def _zero(self, strategy: Strategy, zero: dict[str, Any]) -> dict[str, Any]:
        stage = strategy.rung.zero_stage
        if self.knobs.can_tune_stage:
            zero["stage"] = stage
        if self.knobs.can_tune_offload:
            kept = {key: value for key, value in zero.items() if key not in OFFLOAD_KEYS}
            zero = kept | offload_sections(strategy.rung.offload, self.kind)
        for key, elements in zero_sizes(self.hidden_size).config(stage).items():
            if zero.get(key, AUTO) == AUTO or Override.BUCKETS in self.knobs.override:
                zero[key] = elements
        if stage == 3 and self.facts.zero_stage != 3:  # whoever wrote 3 has said how its model is saved
            zero.setdefault(GATHER_ON_SAVE, True)
        return zero

    def _put_batch(self, copy: dict[str, Any], flags: BatchFlags) -> None:
        """Puts the batch wherever the config says it in numbers, and where nothing else says it."""
        sizes = {MICRO_BATCH_KEY: flags.micro_batch, ACCUMULATION_KEY: flags.gradient_accumulation}
        is_plain = not self.knobs.has_flags
        if is_plain and AUTO in (copy.get(key) for key in sizes):
            return  # the script fills it in, with what it has of its own
        global_batch = flags.micro_batch * flags.gradient_accumulation * self.facts.rank_count
        for key, rows in {**sizes, GLOBAL_BATCH_KEY: global_batch}.items():
            if copy.get(key) not in (None, AUTO) or (is_plain and key in sizes):
                copy[key] = rows


def rewrite_arguments(arguments: tuple[str, ...], config_path: str, flags: BatchFlags | None) -> tuple[str, ...]:
    """A script's arguments with another config, and with other values of the batch's flags."""
    words = put(arguments, config_flags(arguments), config_path)
    if flags is None:
        return words
    words = put(words, MICRO_BATCH_FLAGS, str(flags.micro_batch))
    accumulation = str(flags.gradient_accumulation)
    if find(words, ACCUMULATION_FLAGS) is None:
        return words if flags.accumulation_flag is None else (*words, flags.accumulation_flag, accumulation)
    return put(words, ACCUMULATION_FLAGS, accumulation)


def patches_of(strategy: Strategy, facts: ScriptFacts) -> RuntimePatches:
    """The patches of what differs from what the script does by itself."""
    rung = strategy.rung
    is_checkpointed = rung.gradient_checkpointing.recomputes
    is_same = facts.gradient_checkpointing in (None, is_checkpointed)
    is_same_kernel = facts.attention in (None, rung.attention)
    return RuntimePatches(
        gradient_checkpointing=None if is_same else is_checkpointed,
        attention=None if is_same_kernel else rung.attention,
    )


def _tuned(config: Config) -> dict[str, Any]:
    """A copy of a config without DeepSpeed's own autotuner."""
    return {key: deepcopy(value) for key, value in config.items() if key != "autotuning"}


def _quiet(config: Config) -> dict[str, Any]:
    """A copy of a config without monitors and profilers as well."""
    return {key: value for key, value in _tuned(config).items() if key not in (*MONITORS, *PROFILERS)}


def _text(config: dict[str, Any]) -> str:
    return json.dumps(config, indent=2, allow_nan=False) + "\n"
