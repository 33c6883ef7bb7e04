"""A simulated cluster: a truth that differs from the estimates, and the search run against it to its end."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

from autofit.domain.estimate import MemoryEstimate
from autofit.domain.goal import Certainty, Goal
from autofit.domain.hardware import DeviceKind, Hardware, Link
from autofit.domain.knobs.attention import FLASH_PACKAGE
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.pins import Pins
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.ladder import Ladder
from autofit.domain.model import ModelShape, ParameterGroup
from autofit.domain.outcome import Crashed, Measured, Outcome, OutOfMemory, Phase, Place, TimedOut, Unsupported
from autofit.domain.request import SearchOptions
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trace import MicroStep, Moment, Trace, Work
from autofit.domain.trial import Choose, GiveUp, Probe, Rehearse, Trial
from autofit.planning.memory.activations import wanted_micro_steps
from autofit.planning.memory.interval import HEADROOM
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.probe_steps import (
    MEASURE_S,
    evaluation_s,
    measured_count,
    probed_micro_batches,
    probed_steps_s,
)
from autofit.planning.search.policy import decide
from autofit.planning.setting import Setting
from autofit.planning.space import axes
from autofit.planning.space.ladder_builder import build_ladder
from tests.builders import GB, LLAMA_7B, make_hardware, make_host, make_request, make_shape

CERTAIN = Certainty(0.01)

STEP_SPREAD = (0.003, 0.03)
"""The relative standard deviation of a speed by steps of MEASURE_S in all, on the quietest machine and on the most
restless: shorter steps spread more, and longer ones less, as the root of their time."""

HANG_S = SearchOptions.probe_timeout_s
"""The silence that ends what hangs at the latest."""

BUILD_BYTES_PER_S = 20e9
"""How fast weights are made on a device: not measured on a GPU."""


def hardware(
    count: int = 8,
    memory_gb: float = 80,
    *,
    capability: tuple[int, int] | None = (8, 0),
    kind: DeviceKind = DeviceKind.CUDA,
    host_gb: float = 1800,
) -> Hardware:
    """One node of `count` equal devices."""
    name = "CPU" if kind is DeviceKind.CPU else "GPU of a test"
    host = make_host(host_gb, core_count=64)
    return make_hardware(
        count, kind, memory_gb=memory_gb, host=host, link=Link.NVLINK, name=name, compute_capability=capability
    )


def setting(
    machine: Hardware | None = None,
    shape: ModelShape = LLAMA_7B,
    *,
    tokens: int = 2048,
    global_batch: int = 32,
    pins: Pins | None = None,
) -> Setting:
    request = make_request(tokens=tokens, global_batch=global_batch, pins=pins or Pins())
    return Setting(request, machine or hardware(), shape, tokens)


@cache
def ladder(scene: Setting, *, has_flash: bool = False) -> Ladder:
    scene = replace(scene, installed=frozenset({FLASH_PACKAGE} if has_flash else ()))
    return build_ladder(scene, axes.settle(scene))


def measured(
    tokens_per_s: float = 1000.0, peak_bytes: int = GB, *, alloc_retries: int = 0, micro_batch: int = 1
) -> Measured:
    micro_step_s = 1024 * micro_batch / tokens_per_s
    return Measured(peak_bytes, GB, tokens_per_s, 8 * micro_step_s, micro_step_s, 0.0, alloc_retries=alloc_retries)


def out_of_memory(phase: Phase = Phase.BACKWARD, place: Place = Place.DEVICE, rank: int = 0) -> OutOfMemory:
    return OutOfMemory(rank, phase, place, "out of memory", requested_bytes=GB, peak_bytes=10 * GB)


@dataclass(frozen=True)
class Run:
    """A finished search: its trials and its last word."""

    trials: tuple[Trial, ...]
    end: Choose | GiveUp

    @property
    def probe_count(self) -> int:
        return sum(not trial.is_rehearsal for trial in self.trials)


def search(
    scene: Setting,
    rungs: Ladder,
    probe: Callable[[Strategy], Outcome],
    *,
    rehearse: Callable[[Strategy], Outcome] | None = None,
    before: tuple[Trial, ...] = (),
    limit: int = 400,
    goal: Goal = CERTAIN,
) -> Run:
    """`decide` in a loop against `probe`, going on from `before`; fails when it does not end within `limit` probes."""
    return race(
        scene, rungs, lambda action: probe(action.strategy), rehearse=rehearse, before=before, limit=limit, goal=goal
    )


def race(
    scene: Setting,
    rungs: Ladder,
    probe: Callable[[Probe], Outcome],
    *,
    rehearse: Callable[[Strategy], Outcome] | None = None,
    before: tuple[Trial, ...] = (),
    limit: int = 400,
    goal: Goal = CERTAIN,
) -> Run:
    """The same with probes that may end early."""
    trials = list(before)
    while isinstance(action := decide(rungs, trials, scene, goal), (Probe, Rehearse)):
        assert len(trials) < limit, "the search does not end"
        if isinstance(action, Probe):
            trials.append(Trial(action.strategy, rungs.estimate(action.strategy), probe(action)))
            continue
        assert rehearse is not None, "nothing here can be rehearsed"
        trials += [Trial(each, rungs.estimate(each), rehearse(each), is_rehearsal=True) for each in action.strategies]
    return Run(tuple(trials), action)


@dataclass(frozen=True)
class Faults:
    """How often a rung is broken in one of the ways that are not about memory; the message is the rung's own."""

    crashed: float = 0.0
    unsupported: float = 0.0
    timed_out: float = 0.0


@dataclass
class Cluster:
    """The truth: memory and speed of every strategy of a ladder, drawn once from a seed.

    It differs from the estimates by factors of its own for every value of a knob, none of them drawn as the search
    believes. Each is drawn by its name: the same rung is the same on a larger ladder.
    """

    scene: Setting
    rungs: Ladder
    seed: int
    faults: Faults = Faults()
    surprise: float = 0.03  # of the rungs hold a third more than they should
    noise: float = 0.01  # of a measured speed, one standard deviation

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        draw = self._random.uniform
        is_traced = bool(self.scene.traces)
        self._activations = {
            checkpointed: self._uniform(
                f"activations {checkpointed.value}", *((0.94, 1.06) if is_traced else (1.2, 4.5))
            )
            for checkpointed in GradientCheckpointing
        }
        self._fragmentation, self._runtime_bytes = draw(1.0, 1.08), round(draw(0.2, 1.5) * GB)
        self._row_s, self._traffic_row_s = draw(0, 0.3), draw(0, 0.6)
        rungs = [step.rung for step in self.rungs.steps]
        self._base = {rung: self._uniform(f"base {rung}", 0.98, 1.02) for rung in rungs}
        self._surprised = {rung for rung in rungs if self._uniform(f"surprise {rung}", 0, 1) < self.surprise}
        self._broken = {rung: self._fault(rung) for rung in rungs}
        self.start_s = draw(4, 9)

    def probe(self, strategy: Strategy, look: int = 1) -> Outcome:
        return self._outcome(strategy, self.peak_bytes(strategy), self.tokens_per_s(strategy), look)

    def racing(self) -> Callable[[Probe], Outcome]:
        """The probes of one search: a strategy that is probed again shows the same truth with other noise."""
        looks = Counter[Strategy]()

        def probe(action: Probe) -> Outcome:
            looks[action.strategy] += 1
            return self._race(action, looks[action.strategy])

        return probe

    def _race(self, probe: Probe, look: int) -> Outcome:
        """A probe that ends after its first step where that is too slow, with steps that spread as this machine's."""
        outcome, step_s = self.probe(probe.strategy, look), self._probed_step_s(probe.strategy)
        if isinstance(outcome, TimedOut):
            return replace(outcome, after_s=min(outcome.after_s, probe.step_silence_s or math.inf))
        spread = self._factor("spread", *STEP_SPREAD) * math.sqrt(MEASURE_S / step_s)
        if not isinstance(outcome, Measured):
            return outcome
        draw = random.Random(f"{self.seed} steps {probe.strategy}{_again(look)}")
        count = measured_count(step_s, probe.measure_s or MEASURE_S)
        first, rest = draw.gauss(1, spread), draw.gauss(1, spread / math.sqrt(max(1, count - 1)))
        if probe.least_tokens_per_s is not None and outcome.tokens_per_s * first < probe.least_tokens_per_s:
            return replace(outcome, tokens_per_s=outcome.tokens_per_s * first, step_count=1, is_outpaced=True)
        return replace(
            outcome,
            tokens_per_s=outcome.tokens_per_s * (first + (count - 1) * rest) / count,
            step_count=count,
            speed_error=spread / math.sqrt(count) if count > 1 else None,
        )

    def rehearse(self, strategy: Strategy) -> Outcome:
        """Of one rank: without the communicator and without communication."""
        memory, share = estimate_memory(strategy, self.scene, is_rehearsal=True), self._communicated_share(strategy)
        return self._outcome(strategy, self._true_bytes(strategy, memory), self.tokens_per_s(strategy) / (1 - share))

    def _communicated_share(self, strategy: Strategy) -> float:
        speed = self.rungs.estimate(strategy).speed
        return speed.communication_s / speed.step_s

    def _outcome(self, strategy: Strategy, peak_bytes: int, tokens_per_s: float, look: int = 1) -> Outcome:
        broken = self._broken[strategy.rung]
        if broken is not None:
            return broken
        if peak_bytes > self.scene.device_memory_bytes:
            return OutOfMemory(
                self._random.randrange(self.scene.rank_count), self._random.choice(list(Phase)), Place.DEVICE,
                "out of memory", peak_bytes - self.scene.device_memory_bytes, self.scene.device_memory_bytes,
            )  # fmt: skip
        retries = 3 if self.thrashes(strategy) else 0
        speed = tokens_per_s * random.Random(f"{self.seed} {strategy}{_again(look)}").gauss(1, self.noise)
        return measured(speed, peak_bytes, alloc_retries=retries, micro_batch=strategy.micro_batch)

    def probe_s(
        self, strategy: Strategy, outcome: Outcome, measure_s: float = MEASURE_S, *, without_s: float = 0.0
    ) -> float:
        """How long it takes to come to `outcome`: start, build, evaluation and save, and the steps of a probe."""
        if isinstance(outcome, TimedOut):
            return outcome.after_s
        start_s = self.start_s + 2 * self.scene.shape.parameter_count / BUILD_BYTES_PER_S
        micro_step_s = self._micro_step_s(strategy) - without_s
        if not isinstance(outcome, Measured):
            return start_s + (micro_step_s if isinstance(outcome, OutOfMemory) else 0.0)
        steps_s = probed_steps_s(
            micro_step_s, strategy, self.scene.request.task, measure_s,
            is_uniform=self._is_uniform, is_outpaced=outcome.is_outpaced,
        )  # fmt: skip
        is_evaluated = self.scene.request.has_evaluation and not outcome.is_outpaced
        return start_s + steps_s + (evaluation_s(micro_step_s) if is_evaluated else 0.0)

    def rehearsal_s(self, strategy: Strategy, outcome: Outcome) -> float:
        """The same of one rank alone, which does not communicate."""
        communicating_s = self._micro_step_s(strategy) * self._communicated_share(strategy)
        return self.probe_s(strategy, outcome, without_s=communicating_s)

    def _micro_step_s(self, strategy: Strategy) -> float:
        tokens_per_step = self.rungs.estimate(strategy).speed.tokens_per_step
        return tokens_per_step / strategy.gradient_accumulation / self.tokens_per_s(strategy)

    def _probed_step_s(self, strategy: Strategy) -> float:
        micro_step_s, task = self._micro_step_s(strategy), self.scene.request.task
        return micro_step_s * probed_micro_batches(micro_step_s, strategy, task, is_uniform=self._is_uniform)

    @property
    def _is_uniform(self) -> bool:
        return not self.scene.is_padded

    def peak_bytes(self, strategy: Strategy) -> int:
        return self._true_bytes(strategy, self.rungs.estimate(strategy).memory)

    def _true_bytes(self, strategy: Strategy, memory: MemoryEstimate) -> int:
        states_bytes = memory.parameters_bytes + memory.gradients_bytes + memory.optimizer_bytes
        activations_bytes = memory.activations_bytes * self._activations[strategy.rung.gradient_checkpointing]
        if strategy.rung.method is Method.LORA and not self.scene.traces:
            activations_bytes *= 0.8
        tensors_bytes = states_bytes + memory.buffers_bytes + activations_bytes
        factor = self._fragmentation * (1.33 if strategy.rung in self._surprised else 1.0)
        communicator_bytes = memory.runtime_bytes - self.scene.runtime_bytes
        return round(tensors_bytes * factor) + self._runtime_bytes + communicator_bytes

    def thrashes(self, strategy: Strategy) -> bool:
        return self.peak_bytes(strategy) > 0.985 * self.scene.device_memory_bytes

    def tokens_per_s(self, strategy: Strategy) -> float:
        """The roofline's, with its rates off by up to two, its parts by up to half, and each knob's own error."""
        rung, speed = strategy.rung, self.rungs.estimate(strategy).speed
        compute_s = speed.compute_s * self._factor("compute", 0.5, 2.0)
        traffic_s = speed.communication_s * self._factor(f"communication {rung.zero_stage}", 0.5, 2.0)
        moved_s = (speed.offload_s + speed.update_s) * self._factor("offload", 0.5, 2.0)
        if rung.quantization is not Quantization.NONE:
            compute_s *= self._factor(f"quantization {rung.quantization.value}", 0.75, 1.33)
        if rung.optimizer is not Optimizer.ADAMW:
            moved_s += speed.update_s * (self._factor(f"update {rung.optimizer.value}", 0.5, 2.0) - 1)
            compute_s *= self._factor(f"hooks {rung.optimizer.value}", 0.85, 1.15) if rung.optimizer.is_fused else 1.0
        compute_s *= 1 + self._again(rung)
        own = self._base[rung] * self._factor(f"lora {rung.method}", 0.85, 1.15)
        own *= self._factor(f"stage {rung.zero_stage} {rung.method}", 0.98, 1.02)
        filling = self._row_s + (self._traffic_row_s if rung.zero_stage == 3 else 0.0)
        return speed.tokens_per_step / ((compute_s + traffic_s + moved_s) * own * (1 + filling / strategy.micro_batch))

    def _again(self, rung: Rung) -> float:
        """By what share of its own time a rung computes longer than by its estimate for what is computed again: of all
        parameters' three or of LoRA's two forward passes' work one more, but for what is kept."""
        share, others = rung.gradient_checkpointing.share, 2 if rung.method is Method.LORA else 3
        error = self._factor(f"gc {rung.gradient_checkpointing.value}", 0.7, 1.4) - 1
        return error * share / (others + share)

    def fits(self, strategy: Strategy) -> bool:
        is_sound = self._broken[strategy.rung] is None and not self.thrashes(strategy)
        return is_sound and self.peak_bytes(strategy) <= (1 - HEADROOM) * self.scene.device_memory_bytes

    def fitting(self, method: Method | None = None) -> Iterator[Strategy]:
        for step in self.rungs.steps:
            if method in (None, step.rung.method):
                yield from (strategy for strategy in step.strategies if self.fits(strategy))

    def best_tokens_per_s(self, method: Method | None = None) -> float:
        """The exhaustive best; 0 when nothing fits."""
        return max((self.tokens_per_s(strategy) for strategy in self.fitting(method)), default=0.0)

    def _factor(self, name: str, low: float, high: float) -> float:
        """Log-uniform; the same whatever was probed before."""
        return float(low * (high / low) ** random.Random(f"{self.seed} {name}").random())

    def _uniform(self, name: str, low: float, high: float) -> float:
        return random.Random(f"{self.seed} {name}").uniform(low, high)

    def _fault(self, rung: Rung) -> Outcome | None:
        draw, faults = random.Random(f"{self.seed} fault {rung}"), self.faults
        at = draw.random()
        if at < faults.crashed:
            return Crashed(0, draw.choice([Phase.START, Phase.BUILD, Phase.STEP]), f"boom in {rung}")
        if at < faults.crashed + faults.unsupported:
            return Unsupported(f"{rung} is not implemented")
        if at < faults.crashed + faults.unsupported + faults.timed_out:
            return TimedOut(0, Phase.FORWARD, HANG_S)
        return None


def _again(look: int) -> str:
    """What tells the draws of a strategy's later looks from those of its first."""
    return "" if look == 1 else f" look {look}"


def traced(scene: Setting) -> Setting:
    """The scene with a trace for every micro-step that its ladder wants."""
    wanted = wanted_micro_steps(axes.rungs(scene, axes.settle(scene)), scene)
    return replace(scene, traces=tuple(_trace(micro_step, scene.shape) for micro_step in wanted))


def _trace(of: MicroStep, shape: ModelShape) -> Trace:
    """Of equal layers that keep 34 bytes a token and hidden unit, or what their checkpoint leaves on the device. What
    fused attention computes is half of all scores."""
    tokens, layers = of.micro_batch * of.tokens, shape.layer_count
    layer_bytes = 34 * tokens * shape.hidden_size
    weights = shape.parameter_count // layers
    trained = weights if of.lora is None else 4 * of.lora.r * shape.hidden_size
    products = Work(2 * weights * tokens, 2 * weights, 2 * layer_bytes, 30)
    attention_flop = 2 * tokens * of.tokens * shape.hidden_size
    forward = products + Work(matmul_flop=attention_flop, attention_flop=attention_flop)
    times = 1 if of.lora is not None else 2
    backward = Work(times * products.matmul_flop, times * products.matmul_bytes, 2 * products.other_bytes, 60)
    backward += Work(matmul_flop=5 * attention_flop // 2, attention_flop=5 * attention_flop // 2)
    checkpointing = of.gradient_checkpointing
    again = products if checkpointing is GradientCheckpointing.SELECTIVE else forward
    checkpointed_bytes = _CHECKPOINT_BYTES.get(checkpointing, 0) * tokens * shape.hidden_size
    kept, moments = [0], []
    for layer in range(layers):
        is_again = checkpointing.recomputes and layer % checkpointing.every_n_layers == 0
        kept.append(kept[-1] + (checkpointed_bytes if is_again else layer_bytes))
        moments.append(Moment(Phase.FORWARD, kept[-1] + (layer_bytes if is_again else 0), 0, forward))
    for done, layer in enumerate(reversed(range(layers)), start=1):
        is_again = checkpointing.recomputes and layer % checkpointing.every_n_layers == 0
        work, extra_bytes = (backward + again, layer_bytes) if is_again else (backward, 0)
        moments.append(Moment(Phase.BACKWARD, kept[layer + 1] + extra_bytes, trained * done, work))
    groups = (ParameterGroup(weights, layers, of.lora is None, 2),)
    if of.lora is not None:
        groups += (ParameterGroup(trained, layers, True, 2),)
    return Trace(of, tuple(moments), groups)


_CHECKPOINT_BYTES = {
    GradientCheckpointing.EVERY_2: 2,
    GradientCheckpointing.SELECTIVE: 4,
    GradientCheckpointing.ON: 2,
    GradientCheckpointing.OFFLOAD: 0,
}
"""What a checkpointed layer keeps on the device for each token and hidden unit."""


def random_scene(seed: int, *, ranks: int | None = None, method: Method | None = None) -> Setting:
    """A machine and a request of the usual kinds, from a phone-sized model to 70B."""
    draw = random.Random(f"scene {seed}")
    hidden, layers = draw.choice([(1024, 16), (2048, 22), (3072, 28), (4096, 32), (5120, 40), (8192, 80)])
    wide = round(hidden * 2.7)
    shape = make_shape("drawn", layers, hidden, layers * (4 * hidden**2 + 3 * hidden * wide) + 2 * 32000 * hidden)
    count, memory_gb = ranks or draw.choice([1, 2, 4, 8]), draw.choice([16, 24, 32, 48, 80, 140])
    hosts = max(1, count // 8)  # 64 devices have the memory of eight machines
    machine = hardware(count, memory_gb, host_gb=hosts * draw.choice([64, 256, 1000]))
    scene = setting(
        machine,
        shape,
        tokens=draw.choice([128, 256, 512, 1024, 2048, 4096]),
        global_batch=max(machine.rank_count, draw.choice([8, 16, 32, 64])),
    )
    return replace(scene, request=replace(scene.request, pins=Pins(method=method, dtype=Dtype.BF16)))
