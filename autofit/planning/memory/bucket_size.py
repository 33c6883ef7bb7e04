"""How large ZeRO's reduce bucket is: as large as helps, where memory leaves room for it."""

from __future__ import annotations

from dataclasses import replace

from autofit.domain.knobs.dtype import element_bytes
from autofit.domain.strategy import Strategy
from autofit.planning.parameters import parameters
from autofit.planning.setting import Setting
from autofit.planning.zero_sizes import zero_sizes

from .buffers import reduction_copies
from .interval import HEADROOM, TRACED_HIGH, worst_fragmentation
from .peak_memory import estimate_memory

WANTED_BYTES = 25 * 2**20
"""The size of a bucket above which a reduction is hardly faster: what torch's DistributedDataParallel fills before it
reduces beside the backward pass (bucket_cap_mb in nn/parallel/distributed.py). A larger one leaves more of it for the
end, where nothing hides it."""

_MULTIPLE = 1024
"""DeepSpeed wants buckets that two divides, for NCCL's alignment (nccl_start_alignment_factor)."""


def with_bucket(strategy: Strategy, setting: Setting) -> Setting:
    """The setting with the bucket of `strategy`: WANTED_BYTES or what is trained, halved until all of it fits.

    It is Hugging Face's hidden² at least; a larger one is taken only where the upper end of the estimate leaves
    HEADROOM beside it, so that no strategy is lost to its bucket. What trials have taught is left out: a probe, those
    after it and the full run have the same bucket. A setting that has one stays as it is.
    """
    if setting.bucket_elements is not None:
        return setting
    least = zero_sizes(setting.shape.hidden_size).reduce_bucket
    wanted = _wanted(strategy, setting)
    if strategy.rung.zero_stage == 0 or strategy.rung.optimizer.is_fused or wanted <= least:
        return _sized(setting, least)
    lean = _lean(setting, least)
    room = (1 - HEADROOM) * setting.device_memory_bytes - estimate_memory(strategy, lean).high_bytes
    held_bytes = reduction_copies(strategy.rung, lean) * element_bytes(strategy.rung.dtype)
    each_bytes = TRACED_HIGH * worst_fragmentation(strategy, lean) * held_bytes
    while wanted > least and (wanted - least) * each_bytes > room:
        wanted = _rounded(wanted // 2)
    return _sized(setting, max(least, wanted))


def _sized(setting: Setting, elements: int) -> Setting:
    """The setting with such a bucket: the same one for all strategies, with what was found in it."""
    return setting.once((_sized, elements), lambda: replace(setting, bucket_elements=elements))


def _lean(setting: Setting, elements: int) -> Setting:
    """The same without what trials have taught."""
    if setting.known_constants is None:
        return _sized(setting, elements)
    return setting.once((_lean, elements), lambda: replace(setting, known_constants=None, bucket_elements=elements))


def _wanted(strategy: Strategy, setting: Setting) -> int:
    """Elements of the largest bucket that helps."""
    trained_count = parameters(strategy.rung, setting).trained_count
    return _rounded(min(trained_count, WANTED_BYTES // element_bytes(strategy.rung.dtype)))


def _rounded(elements: int) -> int:
    return -(-elements // _MULTIPLE) * _MULTIPLE
