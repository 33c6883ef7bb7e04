"""What the agents are told of probes of a script that somebody else wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autofit.app.script.launch_context import LaunchContext
from autofit.app.script.tunable_line import TunableLine
from autofit.domain.deepspeed_line import Layout
from autofit.domain.outcome import Outcome
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Probe, Trial
from autofit.planning.script.config_rewriter import ConfigRewriter, RewrittenLine, as_it_is
from autofit.planning.script.training_length import CLAIMED_STEPS
from autofit.probing.prober import OnHeartbeat
from autofit.probing.protocol import ScriptJob, ScriptSpec, Share
from autofit.runs.run_folder import RunFolder

CONFIG_NAME = "ds_config.json"


@dataclass(frozen=True)
class ScriptSpecs:
    """Makes the specifications of the probes of one search; `scratch` is a folder of this search alone, at the same
    path on every node."""

    tunable: TunableLine
    context: LaunchContext
    folder: RunFolder
    scratch: Path
    rewriter: ConfigRewriter | None = None  # None: it is not known yet what may be turned

    def own(self) -> ScriptSpec:
        """The specification of the first look: the script as it is."""
        place = self.scratch / "own"
        words = as_it_is(self.tunable.config, self.tunable.line.arguments, str(place / CONFIG_NAME))
        return self._spec(None, words, place, self.folder.logs / "probe-own.log")

    def own_again(self) -> ScriptSpec:
        """The specification of another look at it, of which as many steps are measured as a claim needs."""
        return replace(self.own(), measured_steps=max(CLAIMED_STEPS, self.tunable.settings.steps or 0))

    def lean(self, strategy: Strategy) -> ScriptSpec:
        """The specification of a look at the script as `strategy`, whatever rows turn out to be in its batches."""
        place = self.scratch / f"lean-{strategy.rung.attention.value}"
        spec = self._spec(strategy, self._words(strategy, place), place, self.folder.logs / "probe-lean.log")
        return replace(spec, job=replace(spec.job, rows=None))

    def probe(self, probe: Probe, trials: Sequence[Trial]) -> ScriptSpec:
        """The specification of a probe after `trials`."""
        number, strategy = len(trials) + 1, probe.strategy
        place = self.scratch / f"probe{number}"
        log_path = self.folder.probe_log(strategy, number)
        spec = self._spec(strategy, self._words(strategy, place), place, log_path)
        measure_s = probe.measure_s or spec.measure_s
        return replace(spec, least_tokens_per_s=probe.least_tokens_per_s, measure_s=measure_s)

    def _words(self, strategy: Strategy, place: Path) -> RewrittenLine:
        assert self.rewriter is not None
        return self.rewriter.probed(strategy, str(place / CONFIG_NAME))

    def _spec(self, strategy: Strategy | None, words: RewrittenLine, place: Path, log_path: Path) -> ScriptSpec:
        settings, layout, prober = self.tunable.settings, self.context.layout, self.context.prober
        job = ScriptJob(
            script=self.tunable.script(words.arguments),
            strategy=strategy,
            turns=words.patches,
            kind=self.context.hardware.kind,
            rank_count=layout.rank_count,
            memory_limit_bytes=settings.memory_limit_bytes,
            device_memory_bytes=self.context.hardware.device_memory_bytes,
            rows=None if strategy is None or self.rewriter is None else self.rewriter.rows(strategy),
        )
        return ScriptSpec(
            job=job,
            shares=shares(layout, prober.master_address, prober.free_port()),
            scratch_path=str(place),
            log_path=str(log_path),
            heartbeat_timeout_s=settings.timeout_s,
            files=((CONFIG_NAME, words.config),),
            measured_steps=settings.steps,
        )


@dataclass(frozen=True)
class ScriptProbeRunner:
    """What a search asks for, run with the script."""

    specs: ScriptSpecs

    def probe(self, probe: Probe, trials: Sequence[Trial], on_heartbeat: OnHeartbeat) -> Outcome:
        return self.specs.context.prober.probe(self.specs.probe(probe, trials), on_heartbeat)


def shares(layout: Layout, address: str, port: int) -> tuple[Share, ...]:
    """Each node's ranks, in the order of the hosts, as DeepSpeed's launcher numbers them."""
    first, found = 0, []
    for index, host in enumerate(layout.hosts):
        devices = tuple(str(slot) for slot in host.slots)
        found.append(Share(index, len(layout.hosts), first, len(devices), devices, address, port))
        first += len(devices)
    return tuple(found)
