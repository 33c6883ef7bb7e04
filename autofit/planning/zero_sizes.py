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


@lru_cache(maxsize=8)  # the estimates of one model ask for them at every moment
def zero_sizes(hidden_size: int) -> ZeroSizes:
    """The sizes as Hugging Face's "auto" sets them (transformers 5.23,
    HfTrainerDeepSpeedConfig.trainer_config_finalize).

    The allgather bucket, of which it says nothing, is as large as the other.
    """
    return ZeroSizes(
        reduce_bucket=hidden_size**2,
        allgather_bucket=hidden_size**2,
        prefetch_bucket=int(0.9 * hidden_size**2),
        persistence_threshold=10 * hidden_size,
    )
