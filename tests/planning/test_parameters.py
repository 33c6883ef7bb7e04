"""The tensors of a model whose class was not asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.knobs.method import Method
from autofit.domain.task import Task
from autofit.planning.parameters import Parameters, parameters
from tests.builders import make_rung
from tests.planning import simulated as sim


def guessed(task: Task, method: Method) -> Parameters:
    there = sim.setting(sim.hardware(2))
    scene = replace(there, request=replace(there.request, task=task), traces=(), facts=None)
    return parameters(make_rung(2, method=method), scene)


@pytest.mark.parametrize("method", Method)
def test_a_model_that_scores_has_a_vector_for_its_head_that_is_always_trained(method: Method) -> None:
    shape = sim.setting(sim.hardware(2)).shape
    words, scores = (guessed(task, method) for task in (Task.SFT, Task.REWARD))
    table = shape.vocabulary_size * shape.hidden_size
    assert words.whole_count - scores.whole_count == table - shape.hidden_size
    lost = table if method is Method.FULL else 0
    assert words.trained_count - scores.trained_count == lost - shape.hidden_size
