import shutil
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors
from huggingface_hub.utils.tqdm import are_progress_bars_disabled

from autofit.domain.errors import UsageError
from autofit.inputs.model_files import read_model_files
from tests.hardware.model_folder import (
    TINY_COUNT,
    TINY_LLAMA,
    TINY_TENSORS,
    write_config,
    write_safetensors,
    write_shards,
)


class FakeHub:
    """A scripted `huggingface_hub`: repositories as lists of files, errors as the real client raises them."""

    def __init__(self, cache):
        self.cache = cache
        self.repos = {}
        self.gated = set()
        self.cached = set()
        self.error = None

    def add(self, repo_id, files=("config.json", "model.safetensors"), is_gated=False, config=TINY_LLAMA):
        self.repos[repo_id] = tuple(files)
        self.gated |= {repo_id} if is_gated else set()
        if "config.json" in files:
            write_config(self.cache / repo_id, config)

    def hf_hub_download(self, repo_id, filename, *, local_files_only=False):
        if local_files_only:
            if repo_id in self.cached:
                return str(self.cache / repo_id / filename)
            raise errors.LocalEntryNotFoundError("Cannot find the requested files in the disk cache")
        self._enter(repo_id)
        if repo_id in self.gated:
            raise errors.GatedRepoError("403 Client Error.", response=response(403))
        assert filename in self.repos[repo_id], "autofit must look before it asks"
        return str(self.cache / repo_id / filename)

    def model_info(self, repo_id):
        self._enter(repo_id)
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in self.repos[repo_id]])

    def get_safetensors_metadata(self, repo_id):
        self._enter(repo_id)
        if "model.safetensors" not in self.repos[repo_id]:
            raise errors.NotASafetensorsRepoError("no model.safetensors")
        tensors = {name: SimpleNamespace(dtype="BF16", shape=list(shape)) for name, shape in TINY_TENSORS.items()}
        return SimpleNamespace(files_metadata={"model.safetensors": SimpleNamespace(tensors=tensors)})

    def _enter(self, repo_id):
        if self.error is not None:
            raise self.error
        if repo_id not in self.repos:
            raise errors.RepositoryNotFoundError("404 Client Error.", response=response(404))


def response(status_code):
    return SimpleNamespace(headers={}, request=None, status_code=status_code)


def http_error(message):
    """What the HTTP library below raises, whichever it is in this release of huggingface_hub."""
    return errors.HfHubHTTPError.__bases__[0](message)


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.fixture
def hub(tmp_path):
    return FakeHub(tmp_path / "cache")


@pytest.fixture
def refusal():
    def read(model, library=None):
        with pytest.raises(UsageError) as caught:
            read_model_files(str(model), library)
        return str(caught.value)

    return read


class TestFolder:
    def test_counted_from_headers(self, tmp_path):
        write_safetensors(write_config(tmp_path) / "model.safetensors", TINY_TENSORS)

        found = read_model_files(str(tmp_path))

        assert found.path_or_id == str(tmp_path)
        assert found.shape.name == str(tmp_path)
        assert found.shape.parameter_count == TINY_COUNT
        assert found.shape.is_counted_exactly
        assert found.notes == ()

    def test_shards(self, tmp_path):
        write_shards(write_config(tmp_path), [{"a": (10, 10)}, {"b": (5,)}])

        assert read_model_files(str(tmp_path)).shape.parameter_count == 105

    def test_old_weights_are_counted_by_formula(self, tmp_path):
        (write_config(tmp_path) / "pytorch_model.bin").touch()

        shape = read_model_files(str(tmp_path)).shape

        assert not shape.is_counted_exactly
        attention, feed_forward, norms = 64 * 64 * 2 + 64 * 32 * 2, 3 * 64 * 176, 2 * 64
        assert shape.parameter_count == 2 * (attention + feed_forward + norms) + 2 * 6400 + 64

    def test_quantised_weights_are_counted_by_formula(self, tmp_path):
        config = {**TINY_LLAMA, "quantization_config": {"quant_method": "mxfp4"}}
        weights = {"layer.qweight": (8, 8), "model.embed_tokens.weight": (100, 64)}
        write_safetensors(write_config(tmp_path, config) / "model.safetensors", weights)

        found = read_model_files(str(tmp_path))

        assert not found.shape.is_counted_exactly

    def test_files_of_another_format(self, tmp_path, refusal):
        (tmp_path / "model.gguf").touch()

        assert "holds GGUF files" in refusal(tmp_path)

    def test_home_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        write_safetensors(write_config(tmp_path / "tiny") / "model.safetensors", TINY_TENSORS)

        assert read_model_files("~/tiny").path_or_id == str(tmp_path / "tiny")

    @pytest.mark.parametrize("form", ["./nothing", "/nowhere/nothing", "~/nothing-here", "runs/one/checkpoint-5"])
    def test_missing(self, refusal, form):
        assert refusal(form).startswith(f"There is no folder {form}: name one")

    def test_a_file(self, tmp_path, refusal):
        (tmp_path / "model.gguf").touch()

        assert "model.gguf is a file: name the folder" in refusal(tmp_path / "model.gguf")

    def test_no_config(self, tmp_path, refusal):
        assert "has no config.json, so it is not in the transformers format" in refusal(tmp_path)

    def test_an_adapter(self, tmp_path, refusal):
        (tmp_path / "adapter_config.json").write_text("{}")

        assert "is a LoRA adapter, not a model" in refusal(tmp_path)

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [(b'{"hidden_size": 64,', "is not JSON"), (b"\xff\xfe", "is not JSON"), (b"[1]", "is not a JSON object")],
    )
    def test_broken_config(self, tmp_path, refusal, content, sentence):
        (tmp_path / "config.json").write_bytes(content)

        assert sentence in refusal(tmp_path)

    def test_no_weights(self, tmp_path, refusal):
        assert "has no weights" in refusal(write_config(tmp_path))


class TestHub:
    def test_counted_from_the_hubs_headers(self, hub):
        hub.add("me/tiny")

        found = read_model_files("me/tiny", hub)

        assert found.path_or_id == found.shape.name == "me/tiny"
        assert found.shape.parameter_count == TINY_COUNT
        assert found.shape.is_counted_exactly

    def test_no_progress_bar_on_somebody_elses_screen(self, hub):
        hub.add("me/tiny")
        seen = []
        real = hub.model_info
        hub.model_info = lambda repo_id: seen.append(are_progress_bars_disabled()) or real(repo_id)

        read_model_files("me/tiny", hub)

        assert seen == [True]
        assert not are_progress_bars_disabled()

    def test_old_weights(self, hub):
        hub.add("me/tiny", files=("config.json", "pytorch_model-00001-of-00002.bin"))

        assert not read_model_files("me/tiny", hub).shape.is_counted_exactly

    def test_no_weights(self, hub, refusal):
        hub.add("me/tiny", files=("config.json", "tiny.gguf"))

        assert "me/tiny has no weights on the hub" in refusal("me/tiny", hub)

    def test_a_whole_model_in_the_cache_needs_no_network(self, hub):
        hub.add("me/tiny")
        write_safetensors(hub.cache / "me/tiny/model.safetensors", TINY_TENSORS)
        hub.cached = {"me/tiny"}
        hub.error = errors.OfflineModeIsEnabled("offline mode is enabled.")

        assert read_model_files("me/tiny", hub).shape.parameter_count == TINY_COUNT

    def test_part_of_a_model_in_the_cache_is_not_enough(self, hub):
        hub.add("me/tiny")
        write_shards(hub.cache / "me/tiny", [{"a": (10, 10)}, {"b": (5,)}])
        (hub.cache / "me/tiny/model-00002-of-00002.safetensors").unlink()

        assert read_model_files("me/tiny", hub).shape.parameter_count == TINY_COUNT

    def test_gated(self, hub, refusal):
        hub.add("me/tiny", is_gated=True)

        text = refusal("me/tiny", hub)

        assert "me/tiny is gated: ask for access on https://huggingface.co/me/tiny" in text
        assert "hf auth login" in text

    def test_misspelt(self, hub, refusal):
        text = refusal("me/tyni", hub)

        assert text.startswith(
            "'me/tyni' is neither a folder here nor a model on the Hugging Face hub: check the spell"
        )

    def test_no_valid_id(self, hub, refusal):
        hub.error = errors.HFValidationError("Repo id must use alphanumeric chars")

        assert "check the spelling" in refusal("what a model!", hub)

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (errors.OfflineModeIsEnabled("offline mode is enabled."), "offline mode is enabled"),
            (http_error("Name or service not known"), "Name or service not known"),
            (caused(errors.LocalEntryNotFoundError("Please check"), OSError("Network down")), "Network down"),
        ],
    )
    def test_offline(self, hub, refusal, error, reason):
        hub.error = error

        text = refusal("me/tiny", hub)

        assert f"me/tiny is not in the local cache and the hub cannot be reached ({reason})" in text
        assert "pass a folder with config.json" in text
        assert "hf download me/tiny" in text
        assert "HF_HOME" in text

    def test_a_refused_login(self, hub, refusal):
        hub.error = errors.HfHubHTTPError("401 Client Error: bad token", response=response(401))

        assert "refuses to give me/tiny to this login (401 Client Error: bad token)" in refusal("me/tiny", hub)

    def test_a_broken_header(self, hub, refusal):
        hub.add("me/tiny")

        def broken(_repo_id):
            raise errors.SafetensorsParsingError("Failed to parse safetensors header")

        hub.get_safetensors_metadata = broken

        assert "no readable safetensors header" in refusal("me/tiny", hub)

    def test_the_real_client_in_offline_mode(self, refusal, monkeypatch, tmp_path):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

        assert "the hub cannot be reached" in refusal("someone/no-such-model-in-this-cache")

    def test_the_real_client_refuses_an_impossible_id(self, refusal):
        assert "check the spelling" in refusal("what a model!")


class TestOtherFormat:
    """A publisher's own format, with the transformers format under the same name and "-hf"."""

    @pytest.fixture
    def llama(self, hub):
        hub.add("meta/Llama-2-13b", files=("consolidated.00.pth", "params.json"))
        hub.add("meta/Llama-2-13b-hf")
        return hub

    def test_is_used_and_said(self, llama):
        found = read_model_files("meta/Llama-2-13b", llama)

        assert found.path_or_id == found.shape.name == "meta/Llama-2-13b-hf"
        assert found.notes == (
            "meta/Llama-2-13b has no config.json; its transformers format lies in meta/Llama-2-13b-hf, which is used.",
        )

    def test_both_gated(self, llama, refusal):
        llama.gated = {"meta/Llama-2-13b", "meta/Llama-2-13b-hf"}

        text = refusal("meta/Llama-2-13b", llama)

        assert "lies in the transformers format in meta/Llama-2-13b-hf." in text
        assert "meta/Llama-2-13b-hf is gated: ask for access" in text

    def test_there_is_none(self, llama, refusal):
        del llama.repos["meta/Llama-2-13b-hf"]

        assert refusal("meta/Llama-2-13b", llama).startswith("meta/Llama-2-13b has no config.json")

    def test_it_has_no_config_either(self, llama, refusal):
        llama.add("meta/Llama-2-13b-hf", files=("README.md",))

        assert refusal("meta/Llama-2-13b", llama).startswith("meta/Llama-2-13b has no config.json")
        llama.add("meta/Llama-2-13b-hf-hf")
        assert refusal("meta/Llama-2-13b-hf", llama).startswith("meta/Llama-2-13b-hf has no config.json")

    def test_an_adapter_is_no_other_format(self, hub, refusal):
        hub.add("me/adapter", files=("adapter_config.json", "adapter_model.safetensors"))

        assert "is a LoRA adapter" in refusal("me/adapter", hub)


def test_a_folder_goes_before_a_hub_id_of_the_same_name(tmp_path, monkeypatch, hub):
    monkeypatch.chdir(tmp_path)
    write_safetensors(write_config(tmp_path / "me" / "tiny") / "model.safetensors", {"a": (3,)})
    hub.add("me/tiny")

    assert read_model_files("me/tiny", hub).shape.parameter_count == 3
    shutil.rmtree(tmp_path / "me")
    assert read_model_files("me/tiny", hub).shape.parameter_count == TINY_COUNT
