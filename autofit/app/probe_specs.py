"""What is told to those who run things: the agent's probes with their batches and deadlines, the full run's files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autofit.app.context import Context
from autofit.domain.codec import to_json
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.outcome import Measured, Outcome
from autofit.domain.request import SearchOptions
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trial import Probe, Trial
from autofit.domain.workload import BatchShape, DataProfile
from autofit.planning.answers import GATHERING
from autofit.planning.data.batch_widths import PAD_TO_MULTIPLE, typical_shapes, widths, worst_shape
from autofit.planning.export.deepspeed_config import HOST_OPTIMIZER, engine_config, has_engine
from autofit.planning.memory.device_share import sized_for
from autofit.planning.setting import Setting
from autofit.probing.prober import OnHeartbeat, OnRehearsalHeartbeat, TrainingProber
from autofit.probing.protocol import Job, ProbeSpec
from autofit.running.training_command import TrainingFiles, device_names
from autofit.runs.run_folder import RunFolder

TYPICAL_SHAPES = 96  # so many micro-batches before they repeat


def training_files(folder: RunFolder, rung: Rung) -> TrainingFiles:
    """What the full run by `rung` reads and writes in its run folder."""
    return TrainingFiles(
        request=folder.request,
        choice=folder.choice,
        deepspeed_config=folder.ds_config if has_engine(rung) else None,
        checkpoints=folder.checkpoints,
        model=folder.model,
        reports=folder.logs,
        progress=folder.progress,
    )


def context_config(strategy: Strategy, context: Context) -> dict[str, object] | None:
    """The DeepSpeed configuration of a probe and of the full run, with the sizes that the estimates count; None where
    no engine trains."""
    asked = (strategy, context.request, context.shape, context.hardware.kind)
    if context.setting is None:
        return engine_config(*asked)
    sized = sized_for(strategy, context.setting)
    config = engine_config(*asked, sized.bucket_elements, sized.split)
    return config if config is None or sized.gathers_generation else {**config, GATHERING: False}


@dataclass(frozen=True)
class ProbeSpecs:
    """Makes the specifications of the probes of one search: `scratch` is a folder, `heartbeat_timeout_s` is the silence
    that ends a probe.

    `here` is the machine that rehearsals run on, and the limit that they run under, where the context's is another one.
    """

    context: Context
    profile: DataProfile
    folder: RunFolder
    scratch: Path
    heartbeat_timeout_s: float
    here: Hardware | None = None

    def probe(self, probe: Probe, trials: Sequence[Trial]) -> ProbeSpec:
        """The specification of a probe with all ranks, after `trials`."""
        spec = self._spec(probe.strategy, self._job(probe.strategy), trials, len(trials) + 1)
        measure_s = probe.measure_s or spec.measure_s
        return replace(
            spec,
            least_tokens_per_s=probe.least_tokens_per_s,
            measure_s=measure_s,
            step_silence_s=self._step_silence_s(probe),
        )

    def _step_silence_s(self, probe: Probe) -> float | None:
        """As the search says, and longer where more patience is asked for than usual."""
        longer = max(1.0, self.heartbeat_timeout_s / SearchOptions.probe_timeout_s)
        return None if probe.step_silence_s is None else longer * probe.step_silence_s

    def rehearsals(self, strategies: Sequence[Strategy], trials: Sequence[Trial]) -> tuple[ProbeSpec, ...]:
        """The specifications of rehearsals: rank 0 of each strategy, one a device."""
        return tuple(
            self._spec(strategy, self._rehearsed(strategy, number), trials, len(trials) + 1 + number)
            for number, strategy in enumerate(strategies)
        )

    def _rehearsed(self, strategy: Strategy, number: int) -> Job:
        job, here = self._job(strategy), self.here or self.context.hardware
        return replace(
            job,
            deepspeed_config=_playable(job.deepspeed_config, here.kind),
            kind=here.kind,
            devices=device_names(here)[number : number + 1],
            memory_limit_bytes=here.memory_limit_bytes,
            device_memory_bytes=here.device_memory_bytes,
            is_rehearsal=True,
        )

    def _job(self, strategy: Strategy) -> Job:
        context = self.context
        config = context_config(strategy, context)
        return Job(
            request=context.request,
            strategy=strategy,
            deepspeed_config=None if config is None else to_json(config),
            kind=context.hardware.kind,
            rank_count=context.hardware.rank_count,
            devices=device_names(context.hardware),
            memory_limit_bytes=context.request.memory_limit_bytes,
            device_memory_bytes=context.hardware.device_memory_bytes,
        )

    def _spec(self, strategy: Strategy, job: Job, trials: Sequence[Trial], number: int) -> ProbeSpec:
        whole = [trial for trial in trials if isinstance(trial.outcome, Measured) and not trial.outcome.is_outpaced]
        has_saved = any(trial.strategy.rung == strategy.rung for trial in whole)
        rows, sequences_per_row = strategy.micro_batch, self.context.request.task.traits.sequences_per_row
        return ProbeSpec(
            job=job,
            worst=(*self._narrower(), worst_shape(self.profile, rows, sequences_per_row)),
            typical=typical_shapes(self.profile, rows, TYPICAL_SHAPES, sequences_per_row),
            scratch_path=str(self.scratch / f"probe{number}"),
            log_path=str(self.folder.probe_log(strategy, number)),
            heartbeat_timeout_s=self.heartbeat_timeout_s,
            has_save=not has_saved,
        )

    def _narrower(self) -> tuple[BatchShape, ...]:
        """The worst cases beside the widest batch: on a CPU every width costs memory for its kernels."""
        if self.context.hardware.kind is not DeviceKind.CPU:
            return ()
        return widths(self.profile, PAD_TO_MULTIPLE[DeviceKind.CPU])


@dataclass(frozen=True)
class AgentProbeRunner:
    """What a search asks for, run by the agent here."""

    agent: TrainingProber
    specs: ProbeSpecs

    def within(self, setting: Setting) -> AgentProbeRunner:
        """The same for the strategies of another setting."""
        return replace(self, specs=replace(self.specs, context=replace(self.specs.context, setting=setting)))

    def probe(self, probe: Probe, trials: Sequence[Trial], on_heartbeat: OnHeartbeat) -> Outcome:
        return self.agent.probe(self.specs.probe(probe, trials), on_heartbeat)

    def rehearse(
        self, strategies: Sequence[Strategy], trials: Sequence[Trial], on_heartbeat: OnRehearsalHeartbeat
    ) -> tuple[Outcome, ...]:
        return self.agent.rehearse(self.specs.rehearsals(strategies, trials), on_heartbeat)


def _playable(config: str | None, kind: DeviceKind) -> str | None:
    """The configuration but for DeepSpeed's own optimizer for the host, which takes a minute to compile where there is
    no GPU; it holds what torch's holds."""
    if config is None or kind is DeviceKind.CUDA:
        return config
    return to_json({**json.loads(config), HOST_OPTIMIZER: False})
