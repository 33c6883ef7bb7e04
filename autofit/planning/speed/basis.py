"""What the speeds of a plan rest on, and how far they may err."""

from __future__ import annotations

from autofit.domain.hardware import DeviceKind
from autofit.planning.setting import Setting

from .rates import is_rated

_COMPARED = ((8, 0), (9, 0))  # A100 and H100, by compute capability


def speed_basis(setting: Setting) -> str | None:
    """One sentence on the basis and the error of the speeds; None where they are no more than ratios, and on CPU ranks.

    The figures are those of benchmarks/published.py: 44 of 48 runs on A100 and H100 within 15 %.
    """
    if setting.kind is DeviceKind.CPU or not is_rated(setting.hardware):
        return None
    count = setting.constants.fitted_from
    if count:
        return f"Speeds are the vendor's figures, corrected by {count} trials on such a device."
    basis = "Speeds are the vendor's figures by what kernels usually reach of them"
    if setting.capability in _COMPARED:
        return f"{basis}: 9 in 10 published runs on such cards were within 15 %."
    return f"{basis}, compared with few published runs on such cards or none: they may err by a third."
