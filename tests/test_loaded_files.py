"""What is fingerprinted is what is loaded: nothing outside the folder is opened, nothing else in it, and no pickle."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny_models
from ldc.errors import ModelError
from ldc.models.folders import fingerprint, tokenizer_fingerprint, weight_files
from ldc.models.headers import read_shape

LOADED = {
    *("config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"),
    *("model-00002-of-00002.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
}
"""Of these the index is not hashed: it names the shards, which are, by name and content."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in two shards."""
    folder = tmp_path_factory.mktemp("models") / "llama"
    tiny_models.build("llama").save_pretrained(folder, max_shard_size="100KB")
    tiny_models.tokenizer().save_pretrained(folder)
    (folder / "special_tokens_map.json").write_text('{"bos_token": "<bos>", "eos_token": "<eos>"}')
    assert len(weight_files(folder)) == 2
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed, with another model beside it."""
    shutil.copytree(saved, tmp_path / "other")
    return Path(shutil.copytree(saved, tmp_path / "model"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Keys that lead to other files


@pytest.mark.parametrize(
    "shard",
    [
        "../other/model-00001-of-00002.safetensors",
        "/other/model-00001-of-00002.safetensors",
        "sub/model-00001-of-00002.safetensors",
        "..\\other\\model-00001-of-00002.safetensors",
        "model-00001-of-00002.bin",
        "pytorch_model.safetensors.bin",
        ".safetensors",
        "..",
        "",
        None,
        7,
    ],
)
def test_a_shard_that_is_no_plain_name_of_a_safetensors_file_is_refused(shard: object, model: Path) -> None:
    path = model / "model.safetensors.index.json"
    places = json.loads(path.read_text())["weight_map"]
    first = sorted(places)[0]
    (model / "sub").mkdir()
    for decoy in ("pytorch_model.safetensors.bin", "model-00001-of-00002.bin", "sub/model-00001-of-00002.safetensors"):
        shutil.copy(model / places[first], model / decoy)
    edit(path, weight_map=places | {first: shard})
    for refuse in (weight_files, read_shape, fingerprint):
        with pytest.raises(
            ModelError, match=r"index\.json: the shard .* is not the plain name of a \.safetensors file"
        ):
            refuse(model)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"transformers_weights": "b.safetensors"}, "transformers_weights"),
        ({"text_config": {"transformers_weights": "b.safetensors"}}, "transformers_weights"),
        ({"configuration_files": ["config.4.0.0.json"]}, "configuration_files"),
        ({"vision_config": {"part": {"use_pretrained_backbone": True}}}, "use_pretrained_backbone"),
    ],
)
def test_a_configuration_that_leads_to_other_files_is_refused(changes: dict[str, Any], key: str, model: Path) -> None:
    edit(model / "config.json", **changes)
    with pytest.raises(ModelError, match=rf"config\.json: the key {key} .* remove the key"):
        read_shape(model)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fast_tokenizer_files", ["../tokenizer.1.0.0.json"]),
        ("fast_tokenizer_files", ["tokenizer.1.0.0.json"]),
        ("gguf_file", "../other.gguf"),
        ("vocab", "../other/vocab.json"),
        ("merges", "../other/merges.txt"),
        ("init_inputs", ["../other/vocab.json"]),
        ("tokenizer_object", {}),
    ],
)
def test_a_tokenizer_that_leads_to_other_files_is_refused(key: str, value: Any, model: Path) -> None:
    edit(model / "tokenizer_config.json", **{key: value or {"a": 1}})
    with pytest.raises(ModelError, match=rf"tokenizer_config\.json: the key {key} .* remove the key"):
        tokenizer_fingerprint(model)


@pytest.mark.parametrize("value", [None, [], False])
def test_a_key_that_leads_nowhere_is_let_pass(value: object, model: Path) -> None:
    edit(model / "tokenizer_config.json", init_inputs=value)
    edit(model / "config.json", transformers_weights=value)
    tokenizer_fingerprint(model)
    read_shape(model)


def test_an_adapter_in_a_model_folder_is_named(model: Path) -> None:
    (model / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"this folder has an adapter \(adapter_config\.json\)"):
        read_shape(model)


# Fingerprints


def test_the_fingerprint_without_remote_code_is_what_it_always_was(model: Path) -> None:
    (model / "modeling_own.py").write_text("a = 1")
    for found, names in (
        (fingerprint(model), ["config.json", *(f.name for f in weight_files(model))]),
        (tokenizer_fingerprint(model), ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]),
    ):
        state = hashlib.blake2b(digest_size=16)
        for name in names:
            content = (model / name).read_bytes()
            state.update(f"{name}\0{len(content)}\0".encode() + content)
        assert found == state.hexdigest()


def test_the_folders_own_code_is_hashed_where_it_may_run(model: Path) -> None:
    assert fingerprint(model, remote_code=True) == fingerprint(model)
    found = {fingerprint(model)}
    for name, text in (("modeling_own.py", "a = 1"), ("modeling_own.py", "a = 2"), ("parts/layers.py", "b = 1")):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text(text)
        found.add(fingerprint(model, remote_code=True))
    assert len(found) == 4


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("name", ["org/model--modeling_own.Model", "/tmp/modeling_own.Model", "../modeling_own.Model"])
def test_code_of_another_place_is_refused_where_it_would_run(file: str, name: str, model: Path) -> None:
    edit(model / file, auto_map={"AutoConfig": "configuration_own.Config", "AutoTokenizer": [None, name]})
    fingerprint(model)
    with pytest.raises(
        ModelError, match=rf"{file}: auto_map names '{name}', which is no class of a Python file in this"
    ):
        fingerprint(model, remote_code=True)


# Every file that is opened

WATCH = """
import json, os, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
from pathlib import Path
from test_loaded_files import Notified, decoded
import torch
from ldc.models.load import load
from ldc.study.schema import ModelSpec
folder, trusted = Path(sys.argv[1]), sys.argv[2] == "trusted"
notified = Notified([folder, folder / "sub", folder.parent / "other"])
del opened[:]
load("m", ModelSpec(source=str(folder), trust_remote_code=trusted), folder, torch.device("cpu"))
print(json.dumps([sorted(decoded(opened)), sorted(notified.names())]))
"""


def decoded(opened: list[Any]) -> set[str]:
    """The real paths among what was opened; a link counts as what it points to, which may be gone by now."""
    return {os.path.realpath(os.fsdecode(path)) for path in opened if isinstance(path, (str, bytes, os.PathLike))}


class Notified:
    """What is opened in folders by whatever code, as the kernel tells it (inotify): tokenizers and safetensors are no
    Python, so that no audit hook sees what they open."""

    OPEN, NONBLOCK = 0x20, 0o4000

    def __init__(self, folders: list[Path]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._queue = self._libc.inotify_init1(self.NONBLOCK)
        assert self._queue >= 0
        self._folders = {
            self._libc.inotify_add_watch(self._queue, os.fsencode(folder), self.OPEN): folder.name
            for folder in folders
            if folder.is_dir()
        }

    def names(self) -> set[str]:
        """`folder/file` of everything opened so far."""
        found, content, at = set(), os.read(self._queue, 1 << 20), 0
        while at < len(content):
            watch, mask, _, length = struct.unpack_from("iIII", content, at)
            name = content[at + 16 : at + 16 + length].rstrip(b"\0").decode()
            at += 16 + length
            if name and not mask & 0x40000000:  # a folder that is listed
                found.add(f"{self._folders[watch]}/{name}")
        return found


def opened_while_loading(folder: Path, cache: Path, trusted: bool = False) -> tuple[set[str], set[str]]:
    """The files of the folder's parent that Python opened, and all that were opened by whatever code."""
    command = [sys.executable, "-c", WATCH, str(folder), "trusted" if trusted else "plain"]
    environment = os.environ | {"HF_MODULES_CACHE": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    paths, names = json.loads(done.stdout)
    near = os.path.realpath(folder.parent) + os.sep
    return {path.removeprefix(near) for path in paths if path.startswith(near)}, set(names)


def with_decoys(model: Path) -> None:
    """Files that transformers would read in some version or in some case, and paths that old versions stored."""
    other = model.parent / "other"
    for name in ("chat_template.jinja", "merges.txt", "pytorch_model.bin", ".metadata", "__0_0.distcp", "README.md"):
        (model / name).write_text("not read")
    for name in ("generation_config.json", "vocab.json", "tekken.json", "processor_config.json", "config.9.0.0.json"):
        (model / name).write_text("{}")
    for name in ("tokenizer.9.0.0.json", "tokenizer.1.0.0.json"):
        shutil.copy(other / "tokenizer.json", model / name)
    for name in ("shard-00001-model-00001-of-00001.safetensors", "adapter_model.safetensors"):
        shutil.copy(other / "model-00001-of-00002.safetensors", model / name)
    for name in ("additional_chat_templates", "custom_generate", "sub"):
        (model / name).mkdir()
    (model / "additional_chat_templates" / "tool.jinja").write_text("not read")
    (model / "custom_generate" / "generate.py").write_text("raise SystemExit('this code must not run')")
    left = {f"{name}_file": str(other / f"{name}.json") for name in ("tokenizer", "vocab", "special_tokens_map")}
    edit(model / "tokenizer_config.json", **left, name_or_path=str(other), merges_file=str(other / "merges.txt"))
    edit(model / "config.json", _name_or_path=str(other), auto_map={"AutoConfig": "org/other--configuration.Other"})


linux = pytest.mark.skipif(sys.platform != "linux", reason="watches files by inotify")


@linux
@pytest.mark.parametrize("prepare", [lambda model: None, with_decoys], ids=["plain", "decoys"])
def test_only_fingerprinted_files_are_opened_while_a_model_loads(
    prepare: Callable[[Path], None], model: Path, tmp_path: Path
) -> None:
    prepare(model)
    by_python, by_all = opened_while_loading(model, tmp_path / "cache")
    assert by_all == {f"model/{name}" for name in LOADED}
    assert by_python <= by_all


OWN_CONFIGURATION = """
from transformers import LlamaConfig
class OwnConfig(LlamaConfig):
    model_type = "own"
"""
OWN_MODEL = """
from transformers import LlamaForCausalLM
from .configuration_own import OwnConfig
from .answer import ANSWER
class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@linux
def test_code_that_is_trusted_is_read_from_the_folder_where_it_was_hashed(model: Path, tmp_path: Path) -> None:
    code = {"configuration_own": OWN_CONFIGURATION, "modeling_own": OWN_MODEL, "answer": "ANSWER = 42"}
    for name, text in code.items():
        (model / f"{name}.py").write_text(text)
    classes = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    edit(model / "config.json", model_type="own", auto_map=classes)
    (model / "custom_generate").mkdir()
    (model / "custom_generate" / "requirements.txt").write_text("not read")
    by_python, by_all = opened_while_loading(model, tmp_path / "cache", trusted=True)
    assert by_all == {f"model/{name}" for name in LOADED} | {f"model/{name}.py" for name in code}
    assert {path for path in by_python if not path.startswith("cache/")} <= by_all
