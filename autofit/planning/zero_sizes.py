"""The sizes of ZeRO's buffers: what the configuration tells DeepSpeed is what the estimates count."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class ZeroSizes:
    """The sizes of ZeRO's buckets, in elements."""

    reduce_bucket: int
    allgather_bucket: int
    prefetch_bucket: int  # stage 3
    persistence_threshold: int  # stage 3: parameters of so many elements at most stay whole on every rank

    def config(self, stage: int) -> dict[str, int]:
        """The sizes that `stage` has, by DeepSpeed's keys within `zero_optimization`; none where ZeRO divides
        nothing."""
        if stage == 0:
            return {}
        sizes = {"reduce_bucket_size": self.reduce_bucket, "allgather_bucket_size": self.allgather_bucket}
        if stage < 3:
            return sizes
        return sizes | {
            "stage3_prefetch_bucket_size": self.prefetch_bucket,
            "stage3_param_persistence_threshold": self.persistence_threshold,
        }


@lru_cache(maxsize=64)  # the estimates of one model ask for them at every moment
def zero_sizes(hidden_size: int, bucket: int | None = None) -> ZeroSizes:
    """The sizes as Hugging Face's "auto" sets them (transformers 5.23,
    HfTrainerDeepSpeedConfig.trainer_config_finalize), but for a reduce bucket of `bucket` elements where that is given.

    The allgather bucket, of which it says nothing, is as large as the reduce bucket: DeepSpeed 0.19.8 reads it with
    torch older than all_gather_into_tensor alone (all_gather_dp_groups in runtime/utils.py).
    """
    reduce_bucket = hidden_size**2 if bucket is None else bucket
    return ZeroSizes(
        reduce_bucket=reduce_bucket,
        allgather_bucket=reduce_bucket,
        prefetch_bucket=int(0.9 * hidden_size**2),
        persistence_threshold=10 * hidden_size,
    )
