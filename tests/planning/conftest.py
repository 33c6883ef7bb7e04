"""What GPUs said is read with the helpers of the benchmark that recorded it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
