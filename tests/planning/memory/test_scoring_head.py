"""What ZeRO-3 holds of a model whose head scores."""

from dataclasses import replace

from autofit.domain.knobs.method import Method
from autofit.domain.model import ModelFacts, ParameterGroup, Positions
from autofit.domain.task import Task
from autofit.planning.memory.buffers import gathered_count
from autofit.planning.setting import Setting
from tests.builders import LLAMA_7B, make_hardware, make_request, make_rung

TABLE, LAYERS = 10**8, 10**7
GROUPS = (ParameterGroup(TABLE, 1, False, 2), ParameterGroup(10**6, 10, False, 2), ParameterGroup(1000, 64, True, 2))


def test_its_frozen_input_embeddings_are_not_gathered_for_the_backward_pass() -> None:
    facts = ModelFacts("{}", GROUPS, Positions.ROTARY, lora_targets=("q_proj",), adapted=GROUPS)
    request = make_request(task=Task.REWARD)
    setting = Setting(request, make_hardware(2), LLAMA_7B, 64, facts=facts)
    rung = make_rung(3, method=Method.LORA)
    assert gathered_count(rung, setting, 0.0) <= LAYERS + 64 * 1000
    of_words = replace(setting, request=replace(request, task=Task.SFT))
    assert gathered_count(rung, of_words, 0.0) > TABLE  # tied to a head, which needs it
