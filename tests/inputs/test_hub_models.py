"""Models of the hub, asked for with its own client: what is used of them, and every refusal as one sentence."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.utils.tqdm import are_progress_bars_disabled

from autofit.domain.errors import UsageError
from autofit.inputs.download import Download
from autofit.inputs.found_model import ModelFiles
from autofit.inputs.hub_model import check_cached
from autofit.inputs.model_files import read_model_files
from tests.hardware.model_folder import (
    TINY_COUNT,
    TINY_LLAMA,
    TINY_TENSORS,
    write_config,
    write_safetensors,
    write_shards,
)
from tests.stand_in_hub import COMMIT, StandInHub, use_cache

TOKENIZER = {"tokenizer.json": b"{}", "tokenizer_config.json": b"{}"}
OTHERS = {"tf_model.h5": b"0", "flax_model.msgpack": b"0", "original/consolidated.00.pth": b"0", "README.md": b"text"}
INDEX = "model.safetensors.index.json"


def weights(folder: Path, shards: int = 1) -> dict[str, bytes]:
    """The tiny tensors, in one file or a file each."""
    folder.mkdir(parents=True)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", TINY_TENSORS)
    else:
        write_shards(folder, [{name: shape} for name, shape in TINY_TENSORS.items()])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, bytes]:
    """The files of a whole tiny model."""
    return {"config.json": json.dumps(TINY_LLAMA).encode(), **TOKENIZER, **weights(tmp_path / "tiny")}


def read(hub: StandInHub, model: str = "me/tiny", **options: Any) -> ModelFiles:
    return read_model_files(model, hub.library(), **options)


def refusal(hub: StandInHub, model: str = "me/tiny", **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        read(hub, model, **options)
    return str(caught.value)


def download_of(hub: StandInHub, model: str = "me/tiny") -> Download:
    found = read(hub, model).download
    assert found is not None
    return found


def names(files: tuple[Any, ...]) -> set[str]:
    return {file.name for file in files}


def in_cache(hub: StandInHub, model: str, only: str | None = None) -> None:
    """Has the whole model in the cache, or a file of it, as somebody else's download leaves it; and the hub gone."""
    huggingface_hub.snapshot_download(model, endpoint=hub.url, token=False, allow_patterns=only)
    hub.asked.clear()


class TestWhatIsSeen:
    def test_counted_from_headers_alone(self, hub: StandInHub, tiny: dict[str, bytes]) -> None:
        hub.add("me/tiny", tiny)
        found = read(hub)
        assert found.path_or_id == "me/tiny"
        assert found.shape is not None
        assert (found.shape.name, found.shape.parameter_count, found.shape.is_counted_exactly) == (
            "me/tiny",
            TINY_COUNT,
            True,
        )
        assert [asked.range for asked in hub.asked_for("model.safetensors")] == ["bytes=0-100000"]

    def test_no_progress_bar_on_somebody_elses_screen(
        self, hub: StandInHub, tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.add("me/tiny", tiny)
        library, seen = hub.library(), []
        real = library.model_info

        def look(*arguments: Any, **options: Any) -> Any:
            seen.append(are_progress_bars_disabled())
            return real(*arguments, **options)

        monkeypatch.setattr(library, "model_info", look)
        read_model_files("me/tiny", library)
        assert seen == [True]
        assert not are_progress_bars_disabled()

    def test_old_weights_are_counted_by_formula(self, hub: StandInHub, tiny: dict[str, bytes]) -> None:
        del tiny["model.safetensors"]
        hub.add("me/tiny", {**tiny, "pytorch_model.bin": b"0"})
        shape = read(hub).shape
        assert shape is not None
        assert not shape.is_counted_exactly

    def test_a_folder_goes_before_an_id_of_the_same_name(
        self, hub: StandInHub, tiny: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write_safetensors(write_config(tmp_path / "me" / "tiny") / "model.safetensors", {"a": (3,)})
        hub.add("me/tiny", tiny)
        shape = read(hub).shape
        assert shape is not None
        assert shape.parameter_count == 3
        assert hub.asked == []


def test_weights_in_the_cache_that_would_run_more_are_refused(hub: StandInHub, tiny: dict[str, bytes]) -> None:
    del tiny["model.safetensors"]
    check_cached("me/tiny")  # nothing is there yet
    hub.add("me/tiny", {**tiny, "pytorch_model.bin": pickle.dumps({"weight": eval}, protocol=2)})
    in_cache(hub, "me/tiny")
    assert "asks for __builtin__ eval to be run" in refusal(hub)
    with pytest.raises(UsageError, match="it may be an attack"):
        check_cached("me/tiny")


class TestWhatIsDownloaded:
    def test_one_format_and_what_stands_beside_it(self, hub: StandInHub, tiny: dict[str, bytes]) -> None:
        template = {"chat_template.jinja": b"{{ messages }}", "additional_chat_templates/tool.jinja": b"{{ 1 }}"}
        hub.add("me/tiny", {**tiny, **template, **OTHERS, "pytorch_model.bin": b"0", "vocab.bpe": b"a b"})
        download = download_of(hub)
        assert names(download.weights) == {"model.safetensors"}
        assert names(download.small) == {*TOKENIZER, *template, "vocab.bpe"}  # config.json is here by now
        assert download.commit == COMMIT
        assert download.size_bytes == sum(len(tiny[name]) for name in ("model.safetensors", *TOKENIZER)) + 14 + 7 + 3

    def test_the_shards_that_the_index_names(self, hub: StandInHub, tiny: dict[str, bytes], tmp_path: Path) -> None:
        del tiny["model.safetensors"]
        shards = weights(tmp_path / "shards", shards=3)
        hub.add("me/tiny", {**tiny, **shards, "model-00001-of-00009.safetensors": b"0", "pytorch_model.bin": b"0"})
        download = download_of(hub)
        assert names(download.weights) == set(shards) - {INDEX}  # the index itself is here by now
        assert INDEX not in names(download.small)

    def test_the_old_format_where_there_is_no_other(self, hub: StandInHub, tiny: dict[str, bytes]) -> None:
        del tiny["model.safetensors"]
        parts = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
        index = json.dumps({"weight_map": dict(zip("ab", parts, strict=True))}).encode()
        hub.add("me/tiny", {**tiny, **dict.fromkeys(parts, b"0"), "pytorch_model.bin.index.json": index})
        assert names(download_of(hub).weights) == set(parts)

    def test_nothing_where_it_is_all_in_the_cache(self, hub: StandInHub, tiny: dict[str, bytes]) -> None:
        hub.add("me/tiny", {**tiny, **OTHERS})
        in_cache(hub, "me/tiny")
        found = read(hub)
        assert (found.download, found.notes, hub.asked) == (None, (), [])

    def test_only_what_the_cache_lacks(self, hub: StandInHub, tiny: dict[str, bytes]) -> None:
        hub.add("me/tiny", tiny)
        in_cache(hub, "me/tiny", only="*.json")
        download = download_of(hub)
        assert (names(download.small), names(download.weights)) == (set(), {"model.safetensors"})

    def test_the_list_alone_where_files_are_here_that_nobody_listed(
        self, hub: StandInHub, tiny: dict[str, bytes]
    ) -> None:
        hub.add("me/tiny", tiny)
        for name in tiny:
            hub.library().hf_hub_download("me/tiny", name)
        assert download_of(hub) == Download("me/tiny", COMMIT)

    def test_a_plan_downloads_nothing(self, hub: StandInHub, tiny: dict[str, bytes]) -> None:
        del tiny["tokenizer.json"], tiny["tokenizer_config.json"]
        hub.add("me/tiny", tiny)
        assert read(hub, needs_weights=False).download is None


class TestWhatTheRepositoryLacks:
    @pytest.mark.parametrize(
        ("files", "sentence"),
        [
            ({"tiny.Q4.gguf": b"0"}, "but GGUF files (tiny.Q4.gguf), which are not trained: name the model that they"),
            (
                {"original/a.00.pth": b"0"},
                "but its publisher's own format (original/a.00.pth): name the repository",
            ),
            ({"tf_model.h5": b"0"}, "but weights for TensorFlow (tf_model.h5): name a repository that has them as"),
            ({"flax_model.msgpack": b"0"}, "but weights for Flax (flax_model.msgpack): name a repository"),
            ({"onnx/model.onnx": b"0"}, "but weights for ONNX (onnx/model.onnx): name a repository"),
        ],
    )
    def test_weights_in_another_format(self, hub: StandInHub, files: Mapping[str, bytes], sentence: str) -> None:
        hub.add("me/tiny", {"config.json": json.dumps(TINY_LLAMA).encode(), **TOKENIZER, **files})
        assert f"me/tiny has no weights that transformers loads, {sentence}" in refusal(hub)

    def test_no_weights_at_all(self, hub: StandInHub) -> None:
        hub.add("me/tiny", {"config.json": json.dumps(TINY_LLAMA).encode(), **TOKENIZER})
        assert refusal(hub) == "me/tiny has no weights among its files: choose another model."

    def test_a_shard(self, hub: StandInHub, tiny: dict[str, bytes]) -> None:
        del tiny["model.safetensors"]
        hub.add("me/tiny", {**tiny, "pytorch_model.bin.index.json": b'{"weight_map": {"a": "one.bin"}}'})
        assert refusal(hub) == (
            "The pytorch_model.bin.index.json of me/tiny names one.bin, which its repository lacks: choose another "
            "model."
        )

    def test_a_tokenizer(self, hub: StandInHub, tiny: dict[str, bytes]) -> None:
        del tiny["tokenizer.json"], tiny["tokenizer_config.json"]
        hub.add("me/tiny", {**tiny, "text_encoder/tokenizer.json": b"{}"})
        said = refusal(hub)
        assert said.startswith("me/tiny has no tokenizer among its files (tokenizer.json, tokenizer.model, vocab.json)")
        assert "hf download me/tiny --local-dir FOLDER" in said

    @pytest.mark.parametrize("name", ["tokenizer.model", "vocab.txt", "spiece.model", "qwen.tiktoken", "tekken.json"])
    def test_any_tokenizer_will_do(self, hub: StandInHub, tiny: dict[str, bytes], name: str) -> None:
        del tiny["tokenizer.json"], tiny["tokenizer_config.json"]
        hub.add("me/tiny", {**tiny, name: b"0"})
        assert name in names(download_of(hub).small)

    def test_a_readable_header(self, hub: StandInHub, tiny: dict[str, bytes]) -> None:
        hub.add("me/tiny", {**tiny, "model.safetensors": b"\xff" * 64})
        assert "The weights of me/tiny on the hub have no readable safetensors header" in refusal(hub)

    def test_a_config(self, hub: StandInHub) -> None:
        hub.add("me/tiny", {"model.gguf": b"0"})
        assert refusal(hub).startswith("me/tiny holds GGUF files, which are not trained")
        hub.add("me/tiny", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"0"})
        assert "me/tiny is a LoRA adapter, not a model" in refusal(hub)


class TestRefusals:
    def test_gated(self, hub: StandInHub, tiny: dict[str, bytes]) -> None:
        hub.add("me/tiny", tiny, is_gated=True)
        said = refusal(hub)
        assert said == (
            f"me/tiny is gated: ask for access and accept its licence on {hub.url}/me/tiny, then log in with "
            "`hf auth login` or set HF_TOKEN."
        )
        assert read_model_files("me/tiny", hub.library("granted")).download is not None

    @pytest.mark.parametrize("model", ["me/tyni", "what a model!"])
    def test_unknown(self, hub: StandInHub, model: str) -> None:
        assert refusal(hub, model).startswith(
            f"'{model}' is neither a folder here nor a model on the Hugging Face hub: check the spelling"
        )

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_login_that_does_not_do(self, hub: StandInHub, status: int) -> None:
        hub.status = status
        said = refusal(hub)
        assert said.startswith("The hub refuses to give me/tiny to this login (")
        assert str(status) in said
        assert "hf auth login" in said

    @pytest.mark.parametrize(
        ("headers", "when"),
        [
            ({"Retry-After": "60"}, "in 60 s"),
            ({"ratelimit": '"api";r=0;t=55', "ratelimit-policy": '"fixed window";"api";q=500;w=300'}, "in 55 s"),
            ({}, "in a while"),
        ],
    )
    def test_too_many_requests(self, hub: StandInHub, headers: dict[str, str], when: str) -> None:
        hub.status, hub.headers = 429, headers
        assert refusal(hub) == (
            "me/tiny is not whole in the local cache and the hub has had too many requests from here (429): repeat the "
            f"command {when}; who is logged in (`hf auth login`) may ask more often."
        )
        assert len(hub.asked) == 1

    def test_a_hub_in_trouble(self, hub: StandInHub) -> None:
        hub.status = 503
        assert "the hub has trouble of its own (Server error '503 Service Unavailable'): repeat" in refusal(hub)

    @pytest.mark.parametrize(
        ("proxy", "sentence"),
        [
            ("http://me:secret@127.0.0.1:9", "through the proxy http://127.0.0.1:9 ([Errno 111] Connection refused)"),
            ("http://nowhere:port", "through the proxy http://nowhere:port (Invalid port: 'port')"),
            ("ftp://127.0.0.1", "through the proxy ftp://127.0.0.1 (Unknown scheme for proxy"),
        ],
    )
    def test_a_proxy_that_is_not_there(
        self, hub: StandInHub, monkeypatch: pytest.MonkeyPatch, proxy: str, sentence: str
    ) -> None:
        monkeypatch.setenv("http_proxy", proxy)
        said = refusal(hub)
        assert f"the hub cannot be reached {sentence}" in said
        assert said.endswith("check HTTPS_PROXY and NO_PROXY.")
        assert "secret" not in said

    def test_a_proxy_that_wants_a_password(self, hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", hub.url)
        hub.status = 407
        said = refusal(hub)
        assert f"the proxy {hub.url} lets nothing through to the hub (Client error '407 Proxy" in said
        assert said.endswith("set HTTPS_PROXY to one that does, with the name and the password that it wants.")

    def test_nobody_listens(self, hub: StandInHub) -> None:
        hub.url = "http://127.0.0.1:9"
        said = refusal(hub)
        assert (
            "me/tiny is not whole in the local cache and the hub cannot be reached ([Errno 111] Connection ref" in said
        )
        assert "pass a folder with config.json" in said
        assert "hf download me/tiny" in said
        assert "HF_HOME" in said

    def test_a_cache_that_cannot_be_written(
        self, hub: StandInHub, tiny: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hub.add("me/tiny", tiny)
        (tmp_path / "file").touch()
        use_cache(monkeypatch, tmp_path / "file", hub.url)
        said = refusal(hub)
        assert f"and the cache cannot be used (Not a directory: {tmp_path}/file/hub" in said
        assert said.endswith("): see to that there, or set HF_HOME to a folder that can be written.")

    def test_offline_mode(self, hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        assert "the hub cannot be reached (HF_HUB_OFFLINE is set): pass a folder" in refusal(hub)
        assert hub.asked == []


class TestAHubThatIsGone:
    @pytest.fixture(params=["nobody listens", "offline mode", 429, 503])
    def gone(self, request: pytest.FixtureRequest, hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Has the hub gone once it is called."""

        def go() -> None:
            if isinstance(request.param, int):
                hub.status = request.param
            elif request.param == "offline mode":
                monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
            else:
                hub.url = "http://127.0.0.1:9"

        return go

    def test_a_whole_model_in_the_cache_will_do(self, hub: StandInHub, tiny: dict[str, bytes], gone: Any) -> None:
        hub.add("me/tiny", tiny)
        for name in tiny:  # nobody kept the list of its files
            hub.library().hf_hub_download("me/tiny", name)
        gone()
        found = read(hub)
        assert (found.download, found.notes) == (None, ())
        assert found.shape is not None
        assert found.shape.parameter_count == TINY_COUNT

    def test_its_transformers_format_in_the_cache_will_do(
        self, hub: StandInHub, tiny: dict[str, bytes], gone: Any
    ) -> None:
        hub.add("meta/Llama-2-13b-hf", tiny)
        in_cache(hub, "meta/Llama-2-13b-hf")
        gone()
        found = read(hub, "meta/Llama-2-13b")
        assert (found.path_or_id, found.download) == ("meta/Llama-2-13b-hf", None)
        (note,) = found.notes
        assert note.startswith("the hub ")
        assert note.endswith(
            ": meta/Llama-2-13b-hf, meta/Llama-2-13b in the transformers format, lies in the cache and is used"
        )

    def test_half_a_model_will_not_do(self, hub: StandInHub, tiny: dict[str, bytes], gone: Any) -> None:
        for model in ("meta/Llama-2-13b-hf", "me/tiny"):
            hub.add(model, tiny)
            in_cache(hub, model, only="*.json")
        gone()
        assert refusal(hub).startswith("me/tiny is not whole in the local cache and the hub")
        assert refusal(hub, "meta/Llama-2-13b").startswith(
            "meta/Llama-2-13b is not whole in the local cache and the hub"
        )

    def test_a_config_will_do_for_a_plan(self, hub: StandInHub, tiny: dict[str, bytes], gone: Any) -> None:
        hub.add("me/tiny", tiny)
        in_cache(hub, "me/tiny", only="*.json")
        gone()
        found = read(hub, needs_weights=False)
        assert found.shape is not None
        assert not found.shape.is_counted_exactly
        assert found.notes[0].endswith("the parameters of me/tiny are counted from its config.json alone")


class TestOtherFormat:
    """A publisher's own format, with the transformers format under the same name and "-hf"."""

    @pytest.fixture
    def llama(self, hub: StandInHub, tiny: dict[str, bytes]) -> StandInHub:
        hub.add("meta/Llama-2-13b", {"consolidated.00.pth": b"0", "params.json": b"{}"})
        hub.add("meta/Llama-2-13b-hf", tiny)
        return hub

    def test_is_used_and_said(self, llama: StandInHub) -> None:
        found = read(llama, "meta/Llama-2-13b")
        assert found.shape is not None
        assert found.path_or_id == found.shape.name == "meta/Llama-2-13b-hf"
        assert found.notes == (
            "meta/Llama-2-13b has no config.json; its transformers format lies in meta/Llama-2-13b-hf, which is used.",
        )
        assert found.download is not None
        assert found.download.model == "meta/Llama-2-13b-hf"

    def test_both_gated(self, llama: StandInHub) -> None:
        for repository in llama.repositories.values():
            repository.is_gated = True
        said = refusal(llama, "meta/Llama-2-13b")
        assert "lies in the transformers format in meta/Llama-2-13b-hf." in said
        assert "meta/Llama-2-13b-hf is gated: ask for access" in said

    def test_there_is_none(self, llama: StandInHub) -> None:
        del llama.repositories["meta/Llama-2-13b-hf"]
        assert refusal(llama, "meta/Llama-2-13b").startswith("meta/Llama-2-13b has no config.json")

    def test_it_has_no_config_either(self, llama: StandInHub) -> None:
        llama.add("meta/Llama-2-13b-hf", {"README.md": b"text"})
        assert refusal(llama, "meta/Llama-2-13b").startswith("meta/Llama-2-13b has no config.json")
        llama.add("meta/Llama-2-13b-hf-hf", {"config.json": b"{}"})
        assert refusal(llama, "meta/Llama-2-13b-hf").startswith("meta/Llama-2-13b-hf has no config.json")

    def test_is_named_where_the_other_one_is_not_there(self, llama: StandInHub) -> None:
        del llama.repositories["meta/Llama-2-13b"]
        assert refusal(llama, "meta/Llama-2-13b") == (
            "'meta/Llama-2-13b' is not on the Hugging Face hub, but meta/Llama-2-13b-hf is: name that."
        )
