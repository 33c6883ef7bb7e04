"""What one rank holds of the frozen copy of the model that stands beside the one of which all parameters train.

trl 1.16 gives it an engine of its own (prepare_deepspeed in models/utils.py): under ZeRO-3 of that stage, which divides
it, and else of stage 0, which does not. Without an engine it is as whole.
"""

from __future__ import annotations

from autofit.domain.knobs.dtype import element_bytes
from autofit.domain.knobs.offload import Offload
from autofit.domain.strategy import Rung
from autofit.planning.parameters import parameters
from autofit.planning.reference import keeps_reference
from autofit.planning.setting import Setting


def reference_bytes(rung: Rung, setting: Setting, persistent_count: int, *, offload: Offload) -> int:
    """Bytes of its weights and of its tensors that are none, throughout the training: 2P in half precision, divided by
    the ranks under ZeRO-3 but for the `persistent_count` elements that are whole everywhere; offloaded parameters leave
    only these. 0 where there is no such copy."""
    if not keeps_reference(rung, setting.request):
        return 0
    width, known = element_bytes(rung.dtype), parameters(rung, setting)
    if rung.zero_stage < 3:
        return width * known.whole_count + setting.buffers_bytes
    divided = 0 if offload is Offload.ALL else known.divided_count(setting.rank_count, is_trained=True)
    return width * (divided + persistent_count) + setting.buffers_bytes
