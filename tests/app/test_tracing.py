"""What is heard of a model's tracing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autofit.app.tracing import TraceProvider
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.request import Request
from autofit.domain.trace import MicroStep
from autofit.probing.protocol import Traced, TraceProgress
from autofit.store import Store
from tests.builders import make_request
from tests.fake_tracer import FakeTracer

STEP = MicroStep(None, Attention.SDPA, GradientCheckpointing.OFF, Dtype.BF16, DeviceKind.CPU, 1, 64, False)


class SlowTracer(FakeTracer):
    """Takes 100 seconds by its own clock, and says so every five."""

    @contextmanager
    def start(self, log_path: Path) -> Iterator[SlowTracer]:
        yield self

    def trace(
        self,
        request: Request,
        micro_steps: Sequence[MicroStep],
        *,
        log_path: Path,
        on_progress: Callable[[TraceProgress], None] = lambda progress: None,
        **_: object,
    ) -> Traced:
        for passed_s in range(5, 100, 5):
            on_progress(TraceProgress(0, float(passed_s)))
        return super().trace(request, micro_steps, log_path=log_path)


def test_a_long_tracing_is_told_more_and_more_seldom(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    told: list[str] = []
    ignored: list[Any] = []
    with (
        Store(tmp_path / "store.sqlite") as store,
        TraceProvider(make_request(tmp_path), store, SlowTracer().start, ignored.append, told.append) as tracing,
    ):
        assert [trace.of for trace in tracing.traces([STEP])] == [STEP]
    assert [text.rpartition("after ")[2] for text in told] == ["5.0 s.", "10.0 s.", "20.0 s.", "40.0 s.", "1:20."]
