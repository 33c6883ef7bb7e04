"""Every family of causal language models at tiny size: planned, traced, adapted, probed, saved and loaded again.

`expectations` declares what is known to fail; where it no longer does, the test says so.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import trl.trainer.utils
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from autofit.app.plan import plan
from autofit.app.tools import REAL_TOOLS
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.outcome import Measured
from autofit.domain.request import Lora
from autofit.domain.workload import BatchShape
from autofit.probing.agent import Agent
from autofit.probing.protocol import ProbeSpec
from autofit.store import Store
from autofit.worker.model.loss_names import name_for_loss
from autofit.worker.trace.micro_step_trace import trace
from tests.builders import make_request
from tests.in_process_tracer import start_tracer
from tests.models.expectations import Check, cases
from tests.models.families import VOCABULARY, tiny_config, write_model
from tests.models.job import LORA, ROWS, TOKENS, job_of, trainer_of, usable_knobs
from tests.models.results import KERNELS, TARGETS
from tests.waiting import DEADLINE_S
from tests.worker.model.partitions import check_same, load_in_parts
from tests.worker.saving.written import RANKS, converted, divided, same_bytes, save, write_slices
from tests.worker.trace.real_step import PLAIN, RANDOM_STATE_BYTES, RealStep, allocated_bytes, peak_bytes

Record = Callable[[str, str], None]

MACHINE = "1xA100-80GB"
PEAK_TOLERANCE = 1e-2  # with checkpointing; a tenth of it without


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several only wait for each other in such small products."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- Planned ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", cases(Check.PLAN, ["gpt2"]))
def test_it_is_planned_and_all_of_it_is_traced(model_type: str, tmp_path: Path, record_property: Record) -> None:
    record_property(KERNELS, ", ".join(kernel.value for kernel in usable_knobs(tiny_config(model_type)).kernels))
    model, told = write_model(model_type, tmp_path / "model"), list[str]()
    tools = replace(REAL_TOOLS, open_store=lambda: Store(tmp_path / "store.sqlite"), start_tracer=start_tracer)
    (planned,) = plan(make_request(model, TOKENS, global_batch=1), (MACHINE,), tell=told.append, tools=tools)
    assert planned.choice is not None
    assert told == [], told


# --- Traced -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def narrow_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of such small models would hide their layers: it works on tiles of 32768 columns."""
    monkeypatch.setattr(trl.trainer.utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", 256)


@pytest.mark.usefixtures("narrow_tiles")
@pytest.mark.parametrize("model_type", cases(Check.TRACE, ["bloom", "lfm2"]))
def test_the_allocators_peak(model_type: str) -> None:
    _check_peaks(model_type, None)


@pytest.mark.usefixtures("narrow_tiles")
@pytest.mark.parametrize("model_type", cases(Check.TRACE_LORA, ["deepseek_v3"]))
def test_the_allocators_peak_with_adapters(model_type: str) -> None:
    _check_peaks(model_type, LORA)


def _check_peaks(model_type: str, lora: Lora | None) -> None:
    """With checkpointing, too, where the family has it."""
    config = tiny_config(model_type)
    usable = usable_knobs(config)
    plain = replace(PLAIN, attention=usable.attention, lora=lora, tokens=TOKENS)
    for is_checkpointing in (False, True)[: 1 + usable.has_checkpointing]:
        step = replace(plain, gradient_checkpointing=GradientCheckpointing(is_checkpointing))
        told, real = trace(config, step), RealStep(config, step)
        real.model.train()
        real.train()  # what is made once and kept
        kept_bytes = RANDOM_STATE_BYTES * config.get_text_config().num_hidden_layers if is_checkpointing else 0
        expected_bytes = allocated_bytes(real.train) - kept_bytes
        assert peak_bytes(told.moments[:-1]) == pytest.approx(expected_bytes, rel=PEAK_TOLERANCE), step


# --- Trained ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", cases(Check.LOSS, ["cohere", "gemma2", "granite", "falcon_h1", "minicpm3"]))
def test_the_trainers_loss_is_the_models_own(model_type: str) -> None:
    """trl projects the last hidden states itself, and must scale and cap as the model does."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(model_type), dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 3 if parameter.ndim > 1 else 1  # away from a flat distribution, which hides a factor
    ids = torch.randint(4, VOCABULARY, (ROWS, TOKENS))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        logits = model(**batch, use_cache=False).logits[:, :-1].float()
        own = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        name_for_loss(model)
        add_fused_lm_head(model)
        log_probs = model(**batch, labels=ids, fused_lm_head=True).log_probs
    assert -log_probs.mean().item() == pytest.approx(own.item(), abs=1e-4)


@pytest.mark.parametrize("model_type", cases(Check.SAVED, ["gpt2", "gemma3"]))
def test_what_is_saved_is_what_was_trained(model_type: str, tmp_path: Path) -> None:
    trainer = trainer_of(job_of(write_model(model_type, tmp_path / "model")), tmp_path)
    began = _copies(trainer.model)
    trainer.train()
    trained = _copies(trainer.model)
    assert any(not torch.equal(began[name], tensor) for name, tensor in trained.items())
    trainer.save_model(str(tmp_path / "saved"))
    loaded, said = AutoModelForCausalLM.from_pretrained(
        tmp_path / "saved", dtype=trainer.model.dtype, output_loading_info=True
    )
    assert {name: list(names) for name, names in said.items() if names} == {}
    assert [name for name, tensor in loaded.state_dict().items() if not torch.equal(tensor, trained[name])] == []
    prompt = torch.arange(4, 12)[None]
    assert loaded.generate(prompt, max_new_tokens=3, min_new_tokens=3, do_sample=False).shape == (1, 11)


@pytest.mark.parametrize("model_type", cases(Check.WRITTEN))
def test_it_is_written_as_by_save_pretrained(model_type: str, tmp_path: Path) -> None:
    """Streamed whole, and as the slices of three ranks but for what a conversion gathers."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(model_type), dtype=torch.bfloat16)
    tmp_path.joinpath("sliced").mkdir()
    save(model, tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs")
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for rank in range(RANKS):
        with divided(copy.deepcopy(model), rank, RANKS) as own:
            for name, buffer in own.named_buffers():  # DeepSpeed makes some fp32
                buffer.data = buffers[name]
            write_slices(own, tmp_path / "sliced", rank)
    ours, theirs, sliced = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "theirs", "sliced"))
    assert list(ours) == list(theirs)
    assert [name for name in theirs if not same_bytes(ours[name], theirs[name])] == []
    assert {name for name in theirs if not same_bytes(sliced[name], theirs[name])} == converted(model)


@pytest.mark.parametrize("model_type", cases(Check.ADAPTERS, ["gpt_neox", "mamba2"]))
def test_automatic_adapters_learn(model_type: str, tmp_path: Path, record_property: Record) -> None:
    """All that there are; the head has none."""
    trainer = trainer_of(job_of(write_model(model_type, tmp_path / "model"), method=Method.LORA), tmp_path)
    record_property(TARGETS, ", ".join(sorted(trainer.model.peft_config["default"].target_modules)))
    trainer.train()
    assert not isinstance(trainer.model.get_output_embeddings(), BaseTunerLayer)
    halves = {name: tensor for name, tensor in trainer.model.named_parameters() if "lora_B" in name}
    assert halves
    assert [name for name, tensor in halves.items() if not tensor.any()] == []  # they begin at zero


def _copies(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    "model_type", cases(Check.STREAMED, ["gpt2", "mixtral", "gemma3", "hrm_text", "kimi_linear", "rwkv"])
)
def test_ranks_that_read_their_own_parts_hold_the_model(model_type: str, tmp_path: Path) -> None:
    """Of shards in fp32, trained in bf16."""
    torch.manual_seed(0)
    config = tiny_config(model_type)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)  # else many are equal, which hides who is whose
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    write_model(model_type, tmp_path)  # of some families transformers has saved a part of the configuration
    check_same(load_in_parts(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16))


@pytest.mark.slow
@pytest.mark.parametrize("model_type", cases(Check.PROBE, ["gpt_oss", "qwen3_next"]))
def test_a_probe_measures_it(model_type: str, tmp_path: Path, agent: Agent) -> None:
    job = job_of(write_model(model_type, tmp_path / "model"))
    shapes = (BatchShape(TOKENS, TOKENS - 0.5),)
    scratch, log = str(tmp_path / "scratch"), str(tmp_path / "probe.log")
    outcome = agent.probe(
        ProbeSpec(job, shapes, shapes, scratch, log, DEADLINE_S, True, measure_s=0.01), lambda _: None
    )
    assert isinstance(outcome, Measured), outcome
