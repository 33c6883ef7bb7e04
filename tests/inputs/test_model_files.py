import pytest

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


@pytest.fixture
def refusal():
    def read(model):
        with pytest.raises(UsageError) as caught:
            read_model_files(str(model))
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
        [
            (
                b'{"hidden_size": 64,',
                "is not JSON (Expecting property name enclosed in double quotes: line 1 column 20",
            ),
            (b"\xff\xfe", "is not UTF-8 text (byte 1)"),
            (b'\xef\xbb\xbf{"hidden_size": 64}', "is not JSON (Unexpected UTF-8 BOM"),
            (b"[1]", "is not a JSON object"),
            (b"[" * 100_000, "is nested too deep to be read"),
            (b'{"hidden_size": 64, "hidden_size": 128}', "says two things of 'hidden_size'"),
            (b'{"rms_norm_eps": NaN}', "holds NaN"),
            (b'{"hidden_size": 1' + b"0" * 5000 + b"}", "is not JSON"),
        ],
    )
    def test_broken_config(self, tmp_path, refusal, content, sentence):
        (tmp_path / "config.json").write_bytes(content)

        assert sentence in refusal(tmp_path)

    def test_no_weights(self, tmp_path, refusal):
        assert "has no weights" in refusal(write_config(tmp_path))
