"""What the GPU suite saw, whole enough that today's estimates can be held against it without a GPU."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path

from _suite_configurations import Configuration

from autofit.domain.codec import decode, encode
from autofit.domain.estimate import Constants, Estimate
from autofit.domain.hardware import DeviceKind, Hardware, Link
from autofit.domain.model import ModelShape
from autofit.domain.outcome import Measured
from autofit.domain.plan import Verdict
from autofit.domain.trace import Trace
from autofit.domain.trial import Trial
from autofit.hardware.machine_spec import NETWORK_BYTES_PER_S
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.setting import Setting
from autofit.planning.speed.step_time import estimate_speed
from autofit.store.serialization import pack, unpack

DEVICES_PER_NODE = 8


@dataclass(frozen=True)
class Row:
    """One configuration: predicted before anything was fitted, and tried."""

    configuration: Configuration
    trial: Trial
    verdict: Verdict
    has_trace: bool
    driver_bytes: int | None = None  # taken during it by the driver's word, at the ends of phases; None on a CPU

    @property
    def measured(self) -> Measured | None:
        return self.trial.outcome if isinstance(self.trial.outcome, Measured) else None


@dataclass(frozen=True)
class Model:
    """`shape.name` is the configurations' word for it."""

    shape: ModelShape
    traces: tuple[Trace, ...]


@dataclass(frozen=True)
class Recording:
    """`hardware` is one node with the one device that was there, without a limit."""

    hardware: Hardware
    models: tuple[Model, ...]
    rows: tuple[Row, ...] = ()

    def setting(self, configuration: Configuration, constants: Constants | None = None) -> Setting:
        """On `rank_count` such devices; `constants` are what was fitted, None: the priors."""
        model = next(model for model in self.models if model.shape.name == configuration.model)
        lengths = configuration.profile.sampled_lengths_tokens
        return Setting(
            configuration.request(configuration.model),
            widened(self.hardware, configuration),
            model.shape,
            configuration.tokens,
            configuration.is_padded,
            sum(lengths) / len(lengths),
            traces=model.traces,
            known_constants=constants,
        )

    def estimate(self, configuration: Configuration, constants: Constants | None = None) -> Estimate:
        """As it is tried: a rehearsal has nobody to talk to."""
        setting, strategy = self.setting(configuration, constants), configuration.strategy
        memory = estimate_memory(strategy, setting, is_rehearsal=configuration.is_rehearsal)
        speed = estimate_speed(strategy, setting)
        return Estimate(memory, replace(speed, communication_s=0.0) if configuration.is_rehearsal else speed)

    @property
    def measured(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.measured is not None)


@dataclass(frozen=True)
class _Models:
    models: tuple[Model, ...]


def widened(hardware: Hardware, configuration: Configuration) -> Hardware:
    """As many of the device as the configuration has ranks, eight a node, under its limit."""
    node, ranks = hardware.nodes[0], configuration.rank_count
    if configuration.is_rehearsal:
        link = Link.NVLINK if hardware.kind is DeviceKind.CUDA else Link.HOST
        devices = node.devices[:1] * min(ranks, DEVICES_PER_NODE)
        node = replace(node, devices=devices, link=link, network_bytes_per_s=NETWORK_BYTES_PER_S)
    return replace(
        hardware, nodes=(node,) * -(-ranks // DEVICES_PER_NODE), memory_limit_bytes=configuration.limit_bytes
    )


def write_body(recording: Recording) -> dict[str, object]:
    """For a result's JSON; the models' traces, most of the bytes and nobody's reading, are packed."""
    packed = base64.b64encode(pack(_Models(recording.models))).decode()
    return {"hardware": encode(recording.hardware), "rows": encode(recording.rows), "packed_models": packed}


def read_recording(path: Path) -> Recording:
    """ValueError when `path` is no result of the suite."""
    return read_body(json.loads(path.read_text("utf-8"))["recording"])


def read_body(body: dict[str, object]) -> Recording:
    models = unpack(_Models, base64.b64decode(str(body["packed_models"]))).models
    rest = decode(Recording, {"hardware": body["hardware"], "models": [], "rows": body["rows"]})
    return replace(rest, models=models)
