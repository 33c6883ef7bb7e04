"""Every check, in the order of what breaks first."""

from __future__ import annotations

from _check import Check, Where

_REPORT = "report it with the lines above"

CHECKS = (
    Check("machine", "_check_machine", 30.0, "run `autofit doctor`", Where.PROCESS),
    Check("visible devices", "_check_machine", 30.0, _REPORT, Where.PROCESS),
    Check("forked clean", "_check_memory", 20.0, "no probe can run: something touched CUDA before the fork"),
    Check("memory cap", "_check_memory", 60.0, "--memory-limit does not hold on this card; do not rely on it"),
    Check("driver memory", "_check_memory", 60.0, "peaks are measured wrongly on this card", needs_gpu=True),
    Check("free memory", "_check_memory", 60.0, "ZeRO-1 and 2 cannot start on this card", needs_gpu=True),
    Check("pinned memory", "_check_memory", 60.0, "offload's host memory is measured wrongly", needs_gpu=True),
    Check("no memory left", "_check_memory", 90.0, "an out-of-memory here is taken for a crash", needs_gpu=True),
    Check("process group", "_check_group", 60.0, "look into NCCL's log (NCCL_DEBUG=INFO)"),
    Check("rehearsal group", "_check_group", 60.0, "rehearsals are wrong or slow: pin --no-rehearse in the meantime"),
    Check(
        "attention kernels",
        "_check_kernels",
        90.0,
        "the tracer assumes another kernel than torch takes",
        needs_gpu=True,
    ),
    Check("kernel launches", "_check_kernels", 60.0, _REPORT),
    Check("trace", "_check_kernels", 120.0, "predictions fall back to the closed form"),
    Check("host optimizer", "_check_kernels", 180.0, "offload cannot compile DeepSpeed's Adam: see `autofit doctor`"),
    Check("lean optimizers", "_check_optimizers", 300.0, "pin --optimizer adamw: the lean ones do not work here"),
    Check("quantised layers", "_check_quantized", 90.0, "do not use --quantize on this card"),
    Check("divided optimizer", "_check_offload", 240.0, "pin --offload optimizer in the meantime", needs_gpu=True),
    Check("train", "_check_runs", 240.0, "see the log of the run", Where.PROCESS),
    Check("merge", "_check_runs", 180.0, "see the log of the run", Where.PROCESS),
    Check("drop in", "_check_runs", 240.0, "see the log of the run", Where.PROCESS),
)
