"""A run to show: eight A100s, a 13 B model, the figures of an invented search."""

from __future__ import annotations

from dataclasses import replace

from autofit.domain import event as ev
from autofit.domain.estimate import Estimate, HostEstimate, MemoryEstimate, SpeedEstimate
from autofit.domain.hardware import DeviceKind, Hardware, Link, Node
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.last_resort import LastResort
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import OPTIMIZER, Optimizer
from autofit.domain.ladder import Ladder, LeftOut, Step
from autofit.domain.outcome import Measured, OutOfMemory, Phase, Place
from autofit.domain.resort import Resort
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trial import Beside, Choice, GiveUp, Trial, Unprobed
from autofit.domain.workload import DataProfile
from tests.builders import GB, make_device, make_host, make_request, make_rung, make_shape

RANKS = 8


def rung(text: str) -> Rung:
    """`zero2+lora+gc` as a Rung."""
    stage, *rest = text.split("+")
    offloads = {"offload": Offload.OPTIMIZER, "offload-all": Offload.ALL}
    offload = next((offloads[part] for part in rest if part in offloads), Offload.NONE)
    attention = Attention.FLASH_2 if "fa2" in rest else Attention.SDPA
    method = Method.LORA if "lora" in rest else Method.FULL
    return make_rung(
        int(stage[-1]),
        method=method,
        offload=offload,
        gradient_checkpointing=GradientCheckpointing("gc" in rest),
        attention=attention,
    )


def strategy(text: str, micro_batch: int) -> Strategy:
    return Strategy(rung(text), micro_batch, max(32 // (micro_batch * RANKS), 1))


def estimate(peak_gb: float, cost: float = 1.0) -> Estimate:
    peak_bytes = int(peak_gb * GB)
    low_bytes, high_bytes = int(peak_bytes * 0.9), int(peak_bytes * 1.1)
    memory = MemoryEstimate(peak_bytes, 0, 0, 0, 0, 0, low_bytes, high_bytes, HostEstimate(10 * GB))
    speed = SpeedEstimate(65_536.0, 2.0 * cost, 0.0, 0.0, 0.0, is_absolute=False)
    return Estimate(memory, speed)


def step(text: str, peaks_gb: dict[int, float], cost: float = 1.0) -> Step:
    strategies = tuple(strategy(text, micro_batch) for micro_batch in peaks_gb)
    return Step(rung(text), strategies, tuple(estimate(peak, cost) for peak in peaks_gb.values()))


def measured(peak_gb: float, tokens_per_s: float) -> Measured:
    return Measured(int(peak_gb * GB), 80 * GB, tokens_per_s, 2.1, 0.5, 0.1, total_s=6.4)


def out_of_memory(peak_gb: float, requested_gb: float) -> OutOfMemory:
    sizes = {"requested_bytes": int(requested_gb * GB), "peak_bytes": int(peak_gb * GB)}
    return OutOfMemory(5, Phase.BACKWARD, Place.DEVICE, "CUDA out of memory", **sizes, total_s=4.2)


def trial(text: str, micro_batch: int, outcome: Measured | OutOfMemory, cost: float = 1.0) -> Trial:
    return Trial(strategy(text, micro_batch), estimate(50.0, cost), outcome)


DEVICES = tuple(
    replace(
        make_device(i, DeviceKind.CUDA, memory_gb=85, name="NVIDIA A100-SXM4-80GB", compute_capability=(8, 0)),
        sku="a100-sxm4-80gb",
        uuid=f"GPU-{i}",
        memory_free_bytes=int(79.2 * GB),
    )
    for i in range(RANKS)
)
HOST = replace(
    make_host(1800, name="node-a", core_count=128), memory_available_bytes=1700 * GB, disk_free_bytes=900 * GB
)
HARDWARE = Hardware((Node(HOST, DEVICES, Link.NVLINK, "550.54"),))
SHAPE = replace(make_shape("Llama-2-13B", 40, 5120, 13_015_864_320), max_positions=4096, is_counted_exactly=True)
REQUEST = make_request("meta-llama/Llama-2-13b-hf", 2048, data="chats.jsonl")
PROFILE = DataProfile("chats.jsonl", "messages", 8412, 0, 2048, (300, 900, 2048))
LADDER = Ladder(
    int(79.2 * GB),
    (
        step("zero1+lora", {1: 40.0, 2: 51.0, 4: 73.0, 8: 110.0}),
        step("zero2+lora", {1: 38.0, 2: 49.0, 4: 71.0}, 1.05),
        step("zero2+lora+gc", {4: 35.0, 16: 42.0}, 1.25),
        step("zero3", {1: 60.0, 2: 78.0}),
        step("zero3+gc", {2: 45.0, 4: 53.0}, 1.3),
        *(step(f"zero{n}+{name}offload", {1: 30.0, 4: 40.0}, 4.0) for n in (2, 3) for name in ("", "gc+", "lora+gc+")),
    ),
    (
        LeftOut(rung("zero1"), "too large", 31 * GB),
        LeftOut(rung("zero2"), "too large", 18 * GB),
        LeftOut(rung("zero1+fa2"), "FlashAttention-2 is not installed (pip install flash-attn)"),
    ),
)
TRIALS = (
    trial("zero1+lora", 1, measured(40.2, 22_100.0)),
    trial("zero1+lora", 4, measured(74.1, 31_200.0)),
    trial("zero2+lora+gc", 16, measured(41.0, 24_900.0), 1.25),
    trial("zero3", 2, out_of_memory(78.9, 1.5)),
)
CHOICE = Choice(
    strategy("zero1+lora", 4),
    measured(74.1, 31_200.0),
    "nothing left can beat it: the nearest bound is 29,800 (zero2+lora mb4)",
    (
        Unprobed(rung("zero2+lora"), "cannot beat 31,200 (bound 29,800)"),
        *(
            Unprobed(one.rung, f"cannot beat 31,200 (bound {7400 - 900 * i:,})")
            for i, one in enumerate(LADDER.steps[5:])
        ),
    ),
    Beside(strategy("zero3+gc", 4), measured(53.0, 9_100.0)),
)
RESULT = ev.TrainingEnded("runs/a/model", None, 2367, 2.413, 1.183, 31_050.0, int(74.2 * GB), 90 * GB, 5530.0)
LOMO = replace(strategy("zero3+gc", 1), rung=replace(rung("zero3+gc"), optimizer=Optimizer.LOMO))
RESORT = Resort(LastResort.FUSED_UPDATE, ("lomo",), OPTIMIZER.of(Optimizer.LOMO).gives_up, LOMO, estimate(20))
GIVE_UP = GiveUp(
    "",
    strategy("zero3+gc+offload", 1),
    int(27.9 * GB),
    int(23.6 * GB),
    (
        "--method lora                       (19.8 GB, ~310 tokens/s)",
        "--seq 2048                          (22.1 GB, ~140 tokens/s)",
        "2 more GPUs like these              (22.6 GB)",
    ),
)


def beginning() -> list[ev.Event]:
    return [ev.MachineSeen(HARDWARE), ev.ModelRead(SHAPE), ev.DataRead(REQUEST, PROFILE), ev.LadderBuilt(LADDER)]


def searching() -> list[ev.Event]:
    """Up to a probe that is on its way."""
    events = beginning()
    for one in TRIALS:
        events += [ev.ProbeStarted(one.strategy, "best predicted speed"), ev.TrialEnded(one)]
    current = strategy("zero3+gc", 4)
    return [*events, ev.ProbeStarted(current, "all parameters"), ev.ProbeHeartbeat(current, Phase.FORWARD)]


def progress(at_step: int, loss: float | None = 1.183) -> ev.TrainingProgress:
    saved = at_step // 400 * 400 or None
    return ev.TrainingProgress(at_step, 2367, loss, 31_050.0, int(74.2 * GB), 2530.0, saved)


def whole() -> list[ev.Event]:
    last = trial("zero3+gc", 4, measured(53.0, 9_100.0), 1.3)
    return [
        *searching(),
        ev.TrialEnded(last),
        ev.Chosen(CHOICE, 48.0, 5),
        ev.TrainingStarted(CHOICE.strategy, None, "runs/a/logs/training.log"),
        *(progress(n) for n in range(0, 2368, 263)),
        RESULT,
    ]
