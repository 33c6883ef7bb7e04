"""Where rehearsals of a plan's candidates are played: what the devices here can show of the machine planned for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from autofit.domain.estimate import Estimate
from autofit.domain.hardware import Device, DeviceKind, Hardware
from autofit.domain.knobs.attention import Attention
from autofit.domain.outcome import Place
from autofit.domain.strategy import Strategy
from autofit.planning.prior_constants import prior
from autofit.planning.setting import Setting


@dataclass(frozen=True)
class MemoryShortfall:
    """More memory of the device or the host may be needed than is free."""

    place: Place
    needs_bytes: int
    has_bytes: int


@dataclass(frozen=True)
class RehearsalSite:
    """The devices of one node `here`, for rehearsals of `setting`; `has_flash`: FlashAttention-2 runs here."""

    setting: Setting
    here: Hardware
    has_flash: bool

    @property
    def device(self) -> str:
        return self.here.devices[0].name.removeprefix("NVIDIA ")

    @property
    def is_same_kind(self) -> bool:
        """Whether a GPU stands in for a GPU or a CPU for a CPU: memory then carries over as it is."""
        return self.here.kind is self.setting.kind

    def is_timed(self, strategy: Strategy) -> bool:
        """Whether times carry over: the same product, the same kernel, and a core at least for each CPU rank."""
        node = self.here.nodes[0]
        has_cores = self.here.kind is DeviceKind.CUDA or node.host.core_count >= self.setting.ranks_per_node
        is_alike = _is_same_product(self.here.devices[0], self.setting.hardware.devices[0])
        return is_alike and has_cores and self.playable(strategy) == strategy

    @property
    def room_bytes(self) -> int:
        """The memory of one rehearsal; on a CPU it may take what the host has."""
        node = self.here.nodes[0]
        return node.host.memory_available_bytes if self.here.kind is DeviceKind.CPU else self.here.device_memory_bytes

    @property
    def planned_bytes(self) -> int:
        """The memory of a device of the machine planned for; where it is of another kind, with the runtime of the kind
        here."""
        setting = self.setting
        runtime_bytes = setting.runtime_bytes if self.is_same_kind else prior(self.here.devices[0]).runtime_bytes
        return setting.device_memory_bytes - setting.runtime_bytes + runtime_bytes

    @property
    def is_limited(self) -> bool:
        """Whether the device here can stand in for a full one there; otherwise it runs out of memory earlier."""
        return self.room_bytes >= self.planned_bytes

    @property
    def limited(self) -> Hardware:
        """The machine here, as rehearsals are to use it."""
        return replace(self.here, memory_limit_bytes=min(self.room_bytes, self.planned_bytes))

    def playable(self, strategy: Strategy) -> Strategy:
        """The strategy as it can be played: torch's own attention kernel, which holds as much, stands in for a
        FlashAttention-2 that is not here."""
        if self.has_flash or strategy.rung.attention is not Attention.FLASH_2:
            return strategy
        return replace(strategy, rung=replace(strategy.rung, attention=Attention.SDPA))

    def shortfalls(self, estimate: Estimate) -> MemoryShortfall | None:
        """What one rank lacks here, None when it is to be built."""
        free_bytes = self.here.nodes[0].host.memory_available_bytes
        memory, ranks = estimate.memory, self.setting.ranks_per_node
        if self.here.kind is DeviceKind.CUDA:
            device = MemoryShortfall(Place.DEVICE, memory.low_bytes, self.room_bytes)
            return _lacking(device, MemoryShortfall(Place.HOST, memory.host_bytes // ranks, free_bytes))
        # Here the device lies in the host's memory, and running out of that ends more than the rehearsal.
        offloaded_bytes = 0 if self.is_same_kind else memory.host.offloaded_bytes // ranks
        needs_bytes = min(memory.high_bytes, self.planned_bytes) + offloaded_bytes
        return _lacking(MemoryShortfall(Place.HOST, needs_bytes, free_bytes))


def _lacking(*parts: MemoryShortfall) -> MemoryShortfall | None:
    return next((part for part in parts if part.needs_bytes > part.has_bytes), None)


def _is_same_product(one: Device, other: Device) -> bool:
    """Whether two devices are one product; an unknown one is the same only by its name."""
    if one.kind is not other.kind:
        return False
    return one.name == other.name if one.sku is None or other.sku is None else one.sku == other.sku
