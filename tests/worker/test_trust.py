"""Nothing that comes with a model or with data runs, unless the user said so."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2.exceptions import SecurityError

import autofit.worker
from autofit.domain.errors import UsageError
from autofit.worker.data.raw_table import read_hub
from autofit.worker.data.source import HubDataset
from autofit.worker.data.tokenizer import tokenizer_for
from tests.builders import make_request

TINY_LLAMA = Path(__file__).parents[2] / "examples" / "tiny-llama"
SOURCES = sorted(Path(path) for folder in autofit.worker.__path__ for path in Path(folder).rglob("*.py"))
SCRIPTS_OWN = "script/checkpoint_loading.py"  # a script of the user's, which would load the same file by itself
CHATS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
# What leads from a text to everything that Python has loaded, and what changes the data.
ESCAPES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__init__.__globals__ }}",
    "{{ raise_exception.__globals__['jinja2'] }}",
    "{{ cycler.__init__.__globals__.os.mkdir('attacked') }}",
    "{{ messages.append({'role': 'user', 'content': 'another'}) }}",
    "{{ messages[0].update(role='system') }}",
)


def calls(name: str) -> Iterator[tuple[Path, ast.Call]]:
    """Every call in the worker of something that is called `name`, or that is an attribute of that name."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if getattr(called, "attr", getattr(called, "id", None)) == name:
                assert isinstance(node, ast.Call)
                yield path, node


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((given.value for given in call.keywords if given.arg == name), None)


@pytest.mark.parametrize("name", ["from_pretrained", "from_config"])
def test_every_automatic_class_is_told_whether_code_may_run(name: str) -> None:
    of_auto = [(path, call) for path, call in calls(name) if ast.unparse(call.func).startswith(("Auto", "auto_class"))]
    assert len(of_auto) >= 1
    untold = [f"{path}:{call.lineno}" for path, call in of_auto if keyword(call, "trust_remote_code") is None]
    assert not untold


def test_what_torch_loads_are_weights_alone() -> None:
    loads = [(path, call) for path, call in calls("load") if ast.unparse(call.func) == "torch.load"]
    assert any(str(path).endswith(SCRIPTS_OWN) for path, _ in loads)
    for path, call in loads:
        weights_only = keyword(call, "weights_only")
        is_safe = isinstance(weights_only, ast.Constant) and weights_only.value is True
        assert is_safe or str(path).endswith(SCRIPTS_OWN), f"{path}:{call.lineno}"
    imported = {"pickle", "dill", "cloudpickle", "joblib"}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            assert not (isinstance(node, ast.Import) and imported & {alias.name for alias in node.names}), path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The tiny model, with files that one may change."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TINY_LLAMA / name, folder)
    return folder


def test_a_tokenizers_own_code_is_refused_before_any_of_it_runs(model: Path, tmp_path: Path) -> None:
    (model / "own_tokenizer.py").write_text(f"open({str(tmp_path / 'has_run')!r}, 'w')\n")
    config = json.loads((model / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own_tokenizer.OwnTokenizer", None]}}
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"none of it has run: .* --trust-remote-code"):
        tokenizer_for(make_request(model), {}, has_chats=False, embedding_count=None)
    assert not (tmp_path / "has_run").exists()


@pytest.mark.parametrize("template", ESCAPES)
def test_a_chat_template_reaches_nothing_but_the_chat(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (model / "chat_template.jinja").write_text(template)
    tokenizer, _ = tokenizer_for(make_request(model), {}, has_chats=True, embedding_count=None)
    assert tokenizer.chat_template == template
    with pytest.raises((SecurityError, AttributeError)):
        tokenizer.apply_chat_template(CHATS, tokenize=False)
    assert not (tmp_path / "attacked").exists()
    assert CHATS == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def test_a_data_sets_script_is_refused_before_any_of_it_runs(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "rows.py").write_text(f"open({str(tmp_path / 'has_run')!r}, 'w')\n")
    with pytest.raises(UsageError, match="script"):
        read_hub(HubDataset(str(folder), None))
    assert not (tmp_path / "has_run").exists()
