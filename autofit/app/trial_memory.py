"""What is remembered from run to run: the trials of the same search, and the constants of a kind of device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from autofit.domain.estimate import Constants
from autofit.domain.hardware import Hardware
from autofit.domain.trial import Trial
from autofit.domain.workload import RowLengths
from autofit.planning.memory.calibration import calibrate_memory
from autofit.planning.setting import Setting
from autofit.planning.speed.step_time import calibrate_speed
from autofit.store import Store
from autofit.store.machine_kind import DeviceKey
from autofit.store.trial_key import TrialKey
from autofit.store.versions import versions


def known_constants(hardware: Hardware, store: Store) -> Constants | None:
    """The constants that were fitted on such devices; None where there are none yet."""
    return store.get_constants(_device_key(hardware))


def calibrate(setting: Setting, trials: Sequence[Trial], store: Store) -> None:
    """Keeps what the trials say of this kind of device, for the next search."""
    constants = calibrate_speed(calibrate_memory(setting.constants, trials, setting), trials, setting)
    if constants.fitted_from:
        store.put_constants(_device_key(setting.hardware), constants)


def _device_key(hardware: Hardware) -> DeviceKey:
    return DeviceKey.of(hardware.devices[0], versions())


@dataclass(frozen=True)
class TrialMemory:
    """The trials of all searches that would measure the same, by `key`."""

    store: Store
    key: TrialKey

    @staticmethod
    def of(setting: Setting, rows: RowLengths, store: Store) -> TrialMemory:
        """The memory of a search; `rows` are those that the probes see, in tokens."""
        request = replace(setting.request, lora=setting.lora)
        return TrialMemory(store, TrialKey.of(request, setting.shape, rows, setting.hardware, versions()))

    def recall(self) -> tuple[Trial, ...]:
        return tuple(self.store.recall(self.key))

    def remember(self, trial: Trial) -> None:
        self.store.remember(trial, self.key)

    def replace(self, trials: Sequence[Trial]) -> None:
        """Puts `trials` in the place of what is not true any more."""
        self.store.forget(self.key)
        for trial in trials:
            self.remember(trial)
