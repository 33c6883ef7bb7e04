"""The benchmark of three phases: its parts, and the shape that it predicts."""

from __future__ import annotations

import json

from _opt_model import OPT_350M
from three_phases import body, each

from autofit.domain.comparison import Compared, Comparison, Optimization, Row, TaskComparison
from autofit.domain.efficiency import Cost, Efficiency, Rated
from autofit.domain.errors import UsageError
from autofit.domain.strategy import Strategy
from autofit.domain.task import Task
from tests.builders import GB, LLAMA_7B, make_hardware, make_request, make_rung

BASELINE = Rated(Strategy(make_rung(0), 1, 1), Cost(1.0, GB))


def compared(task: Task) -> tuple[Comparison, ...]:
    """On two machines; there is no reward model to be had."""
    if task is Task.REWARD:
        raise UsageError("no pairs")
    rows = tuple(Row(one, Compared(BASELINE, Efficiency(1.2, 1.3))) for one in Optimization)
    one = TaskComparison(make_request(task=task), BASELINE, rows)
    return tuple(Comparison(make_hardware(count), LLAMA_7B, (one,), ("A note.",)) for count in (1, 2))


def test_a_task_that_cannot_be_compared_leaves_the_others() -> None:
    part = each((Task.SFT, Task.REWARD, Task.DPO), compared)

    written = json.loads(json.dumps(body(part)))
    assert written["left_out"] == {"reward": "no pairs"}
    assert [len(machine["machine"]) for machine in written["machines"]] == [1, 2]
    assert [[task["task"] for task in machine["tasks"]] for machine in written["machines"]] == [["sft", "dpo"]] * 2
    assert part.comparisons[0].notes == ("A note.",)
    assert {one["finding"]: one["verdict"] for one in written["findings"]}[
        "ZeRO-1 is good for speed, whatever the hardware"
    ] == "agrees"


def test_the_shape_of_opt_350m_has_its_number_of_parameters() -> None:
    """331,196,416: embeddings of half the width with two projections, positions with two more, and no last norm."""
    config = json.loads((OPT_350M / "config.json").read_text("utf-8"))
    width, inner, embedded = config["hidden_size"], config["ffn_dim"], config["word_embed_proj_dim"]
    layer = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    around = config["vocab_size"] * embedded + (config["max_position_embeddings"] + 2) * width + 2 * embedded * width

    assert config["num_hidden_layers"] * layer + around == 331_196_416
    assert config["do_layer_norm_before"] is False
