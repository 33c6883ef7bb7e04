import json

import pytest

from autofit.domain.errors import UsageError
from autofit.inputs.weights import Tensor, count_parameters, has_all_weights, read_tensors
from tests.hardware.model_folder import TINY_COUNT, TINY_TENSORS, write_safetensors, write_shards


def counted(folder, is_tied=False):
    return count_parameters(read_tensors(folder), is_tied=is_tied)


def test_single_file(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", TINY_TENSORS)

    assert counted(tmp_path) == TINY_COUNT
    assert has_all_weights(tmp_path)


def test_shards_and_no_file_beside_them(tmp_path):
    names = list(TINY_TENSORS)
    write_shards(tmp_path, [{name: TINY_TENSORS[name]} for name in names])
    write_safetensors(tmp_path / "consolidated.safetensors", TINY_TENSORS)  # the publisher's own format

    assert counted(tmp_path) == TINY_COUNT
    assert has_all_weights(tmp_path)


def test_a_header_of_many_gigabytes_of_weights_is_read_at_once(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"w": (70_000, 1_000_000)})

    assert counted(tmp_path) == 70_000_000_000


def test_tied_output_weights_count_once():
    tensors = [Tensor(name, "F32", shape) for name, shape in TINY_TENSORS.items()]

    assert count_parameters(tensors, is_tied=True) == 6400 + 64


@pytest.mark.parametrize(
    "buffer",
    [
        Tensor("h.0.attn.bias", "F32", (1, 1, 1024, 1024)),
        Tensor("h.0.attn.masked_bias", "F32", ()),
        Tensor("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", (64,)),
        Tensor("gpt_neox.layers.0.attention.bias", "BOOL", (1, 1, 2048, 2048)),
        Tensor("embeddings.position_ids", "I64", (1, 512)),
    ],
    ids=lambda tensor: tensor.name,
)
def test_buffers_are_no_parameters(buffer):
    assert count_parameters([buffer, Tensor("h.0.attn.c_attn.bias", "F16", (30,))], is_tied=False) == 30


def test_old_format_has_no_header(tmp_path):
    (tmp_path / "pytorch_model.bin").touch()

    assert read_tensors(tmp_path) is None
    assert has_all_weights(tmp_path)


def test_shards_of_the_old_format_are_whole_with_their_index_alone(tmp_path):
    shards = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    (tmp_path / shards[0]).touch()
    assert not has_all_weights(tmp_path)
    (tmp_path / "pytorch_model.bin.index.json").write_text(
        json.dumps({"weight_map": dict(zip("ab", shards, strict=True))})
    )
    assert not has_all_weights(tmp_path)
    (tmp_path / shards[1]).touch()
    assert has_all_weights(tmp_path)


def test_the_file_that_transformers_takes_counts_where_there_are_several(tmp_path):
    write_shards(tmp_path, [{"a": (10, 10)}, {"b": (5,)}])
    write_safetensors(tmp_path / "model.safetensors", TINY_TENSORS)
    (tmp_path / "pytorch_model.bin").touch()

    assert counted(tmp_path) == TINY_COUNT


@pytest.mark.parametrize("stray", ["training_args.bin", "consolidated.safetensors", "README.md"])
def test_no_weights(tmp_path, stray):
    (tmp_path / stray).touch()

    assert not has_all_weights(tmp_path)
    with pytest.raises(UsageError, match="no weights that transformers loads"):
        read_tensors(tmp_path)


def test_a_missing_shard(tmp_path):
    write_shards(tmp_path, [{"a": (2, 2)}, {"b": (2, 2)}])
    (tmp_path / "model-00002-of-00002.safetensors").unlink()

    assert not has_all_weights(tmp_path)
    with pytest.raises(UsageError, match=r"model-00002-of-00002\.safetensors is missing"):
        read_tensors(tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "is not the index"),
        ('{"weight_map": 3}', "is not the index"),
        ('{"weight_map": {"a": 3}}', "is not the index"),
        ('{"weight_map": {"a": "x\\u0000"}}', "is not the index"),
    ],
)
def test_a_broken_index(tmp_path, text, sentence):
    (tmp_path / "model.safetensors.index.json").write_text(text)

    with pytest.raises(UsageError, match=f"model.safetensors.index.json {sentence}"):
        read_tensors(tmp_path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "git lfs pull"),
        (b"\xff" * 20, "is no safetensors file"),
        (b"", "is not whole"),
        ((5).to_bytes(8, "little") + b"{nope", "is not whole"),
        ((10).to_bytes(8, "little") + b'{"a": "b"}', "is not whole"),
        ((2).to_bytes(8, "little") + b"[]", "is not whole"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path, content, sentence):
    (tmp_path / "model.safetensors").write_bytes(content)

    with pytest.raises(UsageError, match=sentence):
        read_tensors(tmp_path)


def test_a_download_that_broke_off(tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"a": (1000, 10)})
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1500)

    with pytest.raises(UsageError, match="1,500 bytes are missing"):
        read_tensors(tmp_path)
