"""`ldc norms` against PEFT itself: adapters that PEFT writes in every variant, next to PEFT's own delta weights."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ldc
from ldc.cli import main
from ldc.commands import updates
from ldc.inspection.adapter import adapter_table
from ldc.inspection.intruders import Intruders, most_alike
from ldc.inspection.peft_adapter import read_adapter
from ldc.inspection.sums import by_block
from ldc.models.layout import map_components
from tiny_models import build, save_tiny

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PEFT and what it imports
    pytest.mark.filterwarnings("ignore::UserWarning"),  # PEFT warns of much, among it that no Hub is in reach
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import peft

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PATTERNS = {
    "rank_pattern": {"q_proj": 2, r"layers\.[01]\.mlp\..*": 6},
    "alpha_pattern": {"^model.layers.2.*up_proj": 5},
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {"target_modules": LINEARS}),
    "rslora": ("llama", {"target_modules": LINEARS, "use_rslora": True}),
    "patterns": ("llama", {"target_modules": LINEARS, **PATTERNS}),
    "patterns-rslora": ("llama", {"target_modules": LINEARS, **PATTERNS, "use_rslora": True}),
    "partial-layers": ("llama", {"target_modules": ["q_proj", "up_proj"], "layers_to_transform": [0, 2]}),
    "all-linear": ("gemma3_text", {"target_modules": "all-linear"}),
    "regular-expression": ("qwen3", {"target_modules": r".*\.1\.(self_attn|mlp)\.(v|down)_proj"}),
    "modules-to-save": ("llama", {"target_modules": ["v_proj"], "modules_to_save": ["lm_head"]}),
    "dora": ("llama", {"target_modules": LINEARS, "use_dora": True}),
    "embedding-and-head": ("gpt_neox", {"target_modules": ["embed_in", "lm_head", "query_key_value", "dense"]}),
    "conv1d": ("gpt2", {"target_modules": ["c_attn", "c_fc", "c_proj"], "fan_in_fan_out": True}),
    "lora-bias": ("opt", {"target_modules": ["fc1", "k_proj"], "lora_bias": True}),
    "biases": ("opt", {"target_modules": ["fc2"], "bias": "all"}),
    "pissa": ("llama", {"target_modules": LINEARS, "init_lora_weights": "pissa"}),
    "olora": ("llama", {"target_modules": ["up_proj"], "init_lora_weights": "olora"}),
    "orthogonal": ("llama", {"target_modules": LINEARS, "init_lora_weights": "orthogonal"}),
    "vision-wrapper": ("gemma3", {"target_modules": r".*language_model.*\.(q|gate)_proj"}),
    "experts": ("mixtral", {"target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj"]}),
    "invoked": ("llama", {"target_modules": ["q_proj"], "alora_invocation_tokens": [3, 4]}),
    "phi-fused": ("phi3", {"target_modules": ["qkv_proj", "gate_up_proj"]}),
}


def adapted(family: str, settings: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    """PEFT's model with every factor random, so that no update is zero."""
    torch.manual_seed(0)
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM"} | settings)
    model = peft.get_peft_model(build(family), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            parameter.data = torch.randn(parameter.shape).to(dtype)
    return model


def delta_norms(model: Any, name: str = "default") -> dict[str, float]:
    """Path -> norm of PEFT's own delta weight, summed in float64."""
    out = {}
    for path, module in model.base_model.model.named_modules():
        if hasattr(module, "get_delta_weight") and (name in module.lora_A or name in module.lora_embedding_A):
            delta = module.get_delta_weight(name).detach().double()
            out[path] = float(torch.linalg.vector_norm(delta))
    return out


def check(rows: list[dict[str, Any]], expected: dict[str, float], tolerance: float = 1e-6) -> None:
    assert expected
    assert {row["path"] for row in rows} == expected.keys()
    for row in rows:
        assert row["frobenius"] == pytest.approx(expected[row["path"]], rel=tolerance), row["path"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_norms_of_an_adapter_from_peft_are_those_of_its_delta_weights(variant: str, tmp_path: Path) -> None:
    model = adapted(*VARIANTS[variant])
    model.save_pretrained(tmp_path)
    check(adapter_table(tmp_path).rows, delta_norms(model))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_factors_of_any_floating_dtype_are_read(dtype: torch.dtype, tmp_path: Path) -> None:
    model = adapted("llama", {"target_modules": LINEARS})
    model.save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(file).items()}, file)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype).float()
    check(adapter_table(tmp_path).rows, delta_norms(model))


def test_a_converted_pissa_adapter_has_the_norms_of_what_was_learned(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=LINEARS, init_lora_weights="pissa")
    model = peft.get_peft_model(build("llama"), config)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "start")
    model.peft_config["default"].init_lora_weights = "pissa"
    before = {p: m.get_delta_weight("default").detach().clone().double() for p, m in lora_layers(model)}
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data += 0.1 * torch.randn(parameter.shape)
    after = {p: m.get_delta_weight("default").detach().double() for p, m in lora_layers(model)}
    model.save_pretrained(tmp_path / "raw")
    model.save_pretrained(tmp_path / "new", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    check(adapter_table(tmp_path / "new").rows, {p: float((after[p] - before[p]).norm()) for p in after}, 1e-5)
    assert read_adapter(tmp_path / "new").notes == ()
    (note,) = read_adapter(tmp_path / "raw").notes
    assert "init_lora_weights=pissa" in note
    assert "path_initial_model_for_weight_conversion" in note


def lora_layers(model: Any) -> list[tuple[str, Any]]:
    return [(p, m) for p, m in model.base_model.model.named_modules() if hasattr(m, "get_delta_weight")]


def test_places_ranks_and_scaling_are_told(tmp_path: Path) -> None:
    model = adapted(*VARIANTS["patterns-rslora"])
    model.save_pretrained(tmp_path)
    rows = adapter_table(tmp_path).rows
    expected = {c.path: c for c in map_components(build("llama"))[1]}
    for row in rows:
        c = expected[row["path"]]
        assert (row["layer"], row["block"], row["component"]) == (c.layer, c.block, c.name)
        assert (row["d_in"], row["d_out"]) == (c.d_in, c.d_out)
        layer = model.base_model.model.get_submodule(c.path)
        assert (row["rank"], row["scaling"]) == (layer.r["default"], pytest.approx(layer.scaling["default"]))
        assert row["rms"] == pytest.approx(row["frobenius"] / math.sqrt(c.d_in * c.d_out))
    assert {row["rank"] for row in rows} == {2, 4, 6}
    assert [(row["layer"], row["block"]) for row in rows] == sorted((row["layer"], row["block"]) for row in rows)


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("plain", []),
        ("dora", ["DoRA: S measures the LoRA part"]),
        ("modules-to-save", ["stored whole and not counted: lm_head"]),
        ("lora-bias", ["lora_bias"]),
        ("biases", ["bias=all"]),
        ("invoked", ["aLoRA"]),
        ("olora", ["init_lora_weights=olora"]),
        ("orthogonal", []),
        ("experts", ["covers all its experts"]),
    ],
)
def test_what_makes_s_something_else_is_said(variant: str, said: list[str], tmp_path: Path) -> None:
    adapted(*VARIANTS[variant]).save_pretrained(tmp_path)
    notes = adapter_table(tmp_path).notes
    assert len(notes) == len(said)
    for note, part in zip(notes, said, strict=True):
        assert part in note


def test_modules_to_save_are_listed_and_have_no_row(tmp_path: Path) -> None:
    adapted("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}).save_pretrained(tmp_path)
    table = adapter_table(tmp_path)
    assert table.others == ("lm_head",)
    assert {row["component"] for row in table.rows} == {"q_proj"}


def test_embeddings_and_heads_are_rows_of_no_block(tmp_path: Path) -> None:
    adapted(*VARIANTS["embedding-and-head"]).save_pretrained(tmp_path)
    rows = [row for row in adapter_table(tmp_path).rows if row["block"] is None]
    assert [(row["layer"], row["component"]) for row in rows] == [(None, "gpt_neox.embed_in"), (None, "lm_head")]
    blocks = by_block(adapter_table(tmp_path).rows)
    assert [row["component"] for row in blocks if row["block"] is None] == ["gpt_neox.embed_in", "lm_head"]


def renamed(folder: Path, change: Callable[[str], str]) -> None:
    file = folder / "adapter_model.safetensors"
    save_file({change(name): tensor for name, tensor in load_file(file).items()}, file)


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key.removeprefix("base_model.model."),
        lambda key: f"base_model.model.{key}",
        lambda key: f"module._orig_mod.{key}",
        lambda key: key.replace(".weight", ".default.weight"),
    ],
    ids=["bare", "twice", "wrapped", "named"],
)
def test_keys_of_other_savers_are_understood(change: Callable[[str], str], tmp_path: Path) -> None:
    model = adapted(*VARIANTS["patterns"])
    model.save_pretrained(tmp_path)
    renamed(tmp_path, change)
    check(adapter_table(tmp_path).rows, delta_norms(model))


def test_several_adapters_are_chosen_among_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = adapted("llama", {"target_modules": ["q_proj"]})
    for name in ("one", "two"):
        model.add_adapter(name, peft.LoraConfig(r=2, target_modules=["v_proj"]))
    model.save_pretrained(tmp_path, selected_adapters=["one", "two"])
    assert main(["norms", str(tmp_path)]) == 2
    assert "holds several adapters, in subfolders: one, two. Choose with --name one" in capsys.readouterr().err
    check(adapter_table(tmp_path, name="two").rows, delta_norms(model, "two"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "base", "llama")


@pytest.mark.parametrize("variant", ["plain", "conv1d", "embedding-and-head", "vision-wrapper", "phi-fused"])
def test_relative_norms_are_over_the_base_models_weights(variant: str, tmp_path: Path) -> None:
    family, settings = VARIANTS[variant]
    folder = save_tiny(tmp_path / "base", family)
    adapted(family, settings).save_pretrained(tmp_path / "adapter")
    model = build(family)
    for row in adapter_table(tmp_path / "adapter", folder).rows:
        norm = float(model.get_submodule(row["path"]).weight.detach().double().norm())
        assert row["base_frobenius"] == pytest.approx(norm, rel=1e-6)
        assert row["relative"] == pytest.approx(row["frobenius"] / norm, rel=1e-6)


def test_experts_are_relative_to_the_weights_that_the_base_stores_one_by_one(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "base", "mixtral")
    adapted(*VARIANTS["experts"]).save_pretrained(tmp_path / "adapter")
    model = build("mixtral")
    for row in adapter_table(tmp_path / "adapter", folder).rows:
        norm = float(model.get_submodule(row["path"]).gate_up_proj.detach().double().norm())
        assert row["base_frobenius"] == pytest.approx(norm, rel=1e-6)
        assert row["relative"] == pytest.approx(row["frobenius"] / norm, rel=1e-6)


@pytest.mark.parametrize("targets", [["gate_up_proj", "down_proj"], ["down_proj", "gate_up_proj"], ["down_proj"]])
@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_experts_are_named_by_the_parameter_that_peft_adapts(family: str, targets: list[str], tmp_path: Path) -> None:
    settings = {"target_modules": [], "target_parameters": [f"mlp.experts.{name}" for name in targets]}
    model = adapted(family, settings)
    model.save_pretrained(tmp_path)
    rows = adapter_table(tmp_path).rows
    check(rows, delta_norms(model))
    for row in rows:
        parameter = model.base_model.model.get_submodule(row["path"]).parameter_name
        assert (row["block"], row["component"]) == ("mlp", f"experts.{parameter}")


def test_a_base_of_other_shapes_is_told_with_the_first_mismatch(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = save_tiny(tmp_path / "wide", "llama", hidden=64)
    adapted("llama", {"target_modules": ["up_proj", "q_proj"]}).save_pretrained(tmp_path / "adapter")
    assert main(["norms", str(tmp_path / "adapter"), "--base", str(wide)]) == 2
    error = capsys.readouterr().err
    assert "model.layers.0.mlp.up_proj is 136 x 64 in the base model, in the adapter 72 x 32" in error
    assert "5 more of its 6 modules do not fit" in error
    short = save_tiny(tmp_path / "short", "llama", layers=2)
    assert main(["norms", str(tmp_path / "adapter"), "--base", str(short)]) == 2
    assert "model.layers.2.mlp.up_proj is not in the base model" in capsys.readouterr().err


def exact_cosines(w: np.ndarray, update: np.ndarray, top: int) -> np.ndarray:
    n = min(w.shape)
    u, tuned = np.linalg.svd(w)[0][:, :n], np.linalg.svd(w + update)[0][:, :n]
    return np.abs(u.T @ tuned[:, :top]).max(axis=0)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (30, 30)])
def test_cosines_of_intruders_are_those_of_whole_decompositions(shape: tuple[int, int]) -> None:
    g = np.random.default_rng(0)
    w, a, b = g.normal(size=shape), g.normal(size=(3, shape[1])), g.normal(size=(shape[0], 3))
    expected = exact_cosines(w, 0.7 * b @ a, 10)
    np.testing.assert_allclose(most_alike(w, a, b, 0.7, 10), expected, rtol=1e-9)
    np.testing.assert_allclose(most_alike(w, a, 0 * b, 0.7, 10), 1.0, rtol=1e-9)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_intruders_are_counted_by_their_definition(family: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "base", family)
    settings = VARIANTS["plain" if family == "llama" else "conv1d"][1]
    model = adapted(family, settings)
    model.save_pretrained(tmp_path / "adapter")
    for row in adapter_table(tmp_path / "adapter", folder, intruders=Intruders(5, 0.6)).rows:
        layer = model.base_model.model.get_submodule(row["path"])
        w, delta = layer.base_layer.weight.detach().double(), layer.get_delta_weight("default").detach().double()
        if family == "gpt2":
            w, delta = w.T, delta.T
        cosines = exact_cosines(w.numpy(), delta.numpy(), 5)
        assert row["intruders"] == int((cosines < 0.6).sum())
        assert row["least_cosine"] == pytest.approx(float(cosines.min()), rel=1e-5)


def cached(folder: Path, cache: Path, name: str, revision: str = "main") -> None:
    """Lay a folder's files out as the Hub's client does: blobs, snapshots of links to them, refs."""
    repository = cache / f"models--{name.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    for part in ("blobs", f"snapshots/{commit}", "refs"):
        (repository / part).mkdir(parents=True)
    for number, file in enumerate(sorted(p for p in folder.iterdir() if p.is_file())):
        shutil.copy(file, repository / "blobs" / f"blob{number}")
        (repository / "snapshots" / commit / file.name).symlink_to(Path("../../blobs") / f"blob{number}")
    (repository / "refs" / revision).write_text(commit)


def test_an_adapter_and_its_base_are_found_in_the_hub_cache(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    model = adapted("llama", {"target_modules": LINEARS})
    model.save_pretrained(tmp_path / "adapter")
    cached(tmp_path / "adapter", tmp_path / "hub", "someone/an-adapter", "v1")
    cached(base, tmp_path / "hub", "someone/a-model")
    rows = adapter_table("someone/an-adapter@v1", "someone/a-model").rows
    check(rows, delta_norms(model))
    assert all(row["relative"] > 0 for row in rows)
    assert main(["norms", "someone/an-adapter"]) == 4
    error = capsys.readouterr().err
    assert "revision main" in error
    assert "the cache holds its revisions 01234567" in error
    assert "hf download someone/an-adapter" in error
    blobs = tmp_path / "hub" / "models--someone--an-adapter" / "blobs"
    for blob in blobs.iterdir():
        if blob.stat().st_size > 2000 and blob.read_bytes()[:1] != b"{":
            blob.unlink()
    assert main(["norms", "someone/an-adapter@v1"]) == 4
    assert "fetch all of it: hf download someone/an-adapter" in capsys.readouterr().err


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    adapted("llama", {"target_modules": LINEARS}).save_pretrained(folder)
    return folder


def configure(folder: Path, **fields: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def cut(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def pickle_it(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def lose_b(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if not k.endswith("0.mlp.up_proj.lora_B.weight")}, file)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "its header says"),
        (lambda f: (f / "adapter_model.safetensors").write_bytes(b"version https://git-lfs"), "Git LFS pointer"),
        (pickle_it, r"pickled \(adapter_model.bin\).*save_pretrained"),
        (lambda f: (f / "adapter_model.safetensors").unlink(), "has no adapter_model.safetensors beside it"),
        (lambda f: (f / "adapter_config.json").unlink(), "not a PEFT adapter: no adapter_config.json"),
        (lambda f: (f / "adapter_config.json").write_text("{"), "not readable as JSON"),
        (lambda f: configure(f, peft_type="LOHA"), "peft_type is 'LOHA'"),
        (lambda f: configure(f, r=8), "A has 4 rows and B 4 columns, but adapter_config.json gives rank 8"),
        (lambda f: configure(f, lora_alpha=None), "lora_alpha is None"),
        (lambda f: configure(f, rank_pattern={"(": 4}), "rank_pattern cannot be read"),
        (lambda f: configure(f, use_bdlora={"nblocks": 2}), "use_bdlora"),
        (lose_b, "layers.0.mlp.up_proj lacks lora_B"),
    ],
)
def test_what_is_no_readable_adapter_is_refused_in_one_message(
    damage: Callable[[Path], Any], message: str, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(adapter)
    assert main(["norms", str(adapter)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ldc: error: ")
    assert err.count("\n") == 1
    assert re.search(message, err), err


def test_a_folder_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["norms", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_factors_that_are_not_finite_have_no_norm_and_are_named(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors["base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"][0, 0] = float("inf")
    save_file(tensors, file)
    table = adapter_table(adapter)
    assert [row["path"] for row in table.rows if math.isnan(row["frobenius"])] == ["model.layers.1.mlp.up_proj"]
    assert table.notes == ("not finite, so without norms: model.layers.1.mlp.up_proj",)


def test_blocks_are_sums_of_their_components(adapter: Path, base: Path) -> None:
    rows = adapter_table(adapter, base).rows
    frame = ldc.adapter_norms(adapter, base)
    sums = frame.groupby(["layer", "block"])["frobenius"].sum()
    assert list(frame.columns) == list(rows[0])
    assert frame.attrs["notes"] == list(adapter_table(adapter, base).notes)
    for block in by_block(rows):
        own = [row for row in rows if (row["layer"], row["block"]) == (block["layer"], block["block"])]
        assert block["components"] == len(own) == (4 if block["block"] == "attn" else 3)
        assert block["s_block"] == pytest.approx(sum(row["frobenius"] for row in own))
        assert block["s_block"] == pytest.approx(sums[block["layer"], block["block"]])
        assert block["rss"] == pytest.approx(math.sqrt(sum(row["frobenius"] ** 2 for row in own)))
        whole = math.sqrt(sum(row["base_frobenius"] ** 2 for row in own))
        assert block["relative"] == pytest.approx(block["rss"] / whole)


def test_table_csv_json_and_figure_hold_the_same_rows(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = adapter_table(adapter).rows
    assert main(["norms", str(adapter), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == rows
    assert told["not_counted"] == []
    assert main(["norms", str(adapter), "--csv"]) == 0
    read = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [float(row["frobenius"]) for row in read] == [row["frobenius"] for row in rows]
    assert main(["norms", str(adapter), "--by", "block"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "block", "components", "S_block", "rss"]
    assert len(lines) == 7
    figure = tmp_path / "figure.svg"
    assert main(["norms", str(adapter), "--figure", str(figure)]) == 0
    assert capsys.readouterr().out == f"{figure}\n"
    assert "<svg" in figure.read_text()


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@x"])
def test_no_text_of_the_csv_begins_as_a_formula(name: str) -> None:
    """A tensor's name ran as a formula where a spreadsheet opened the CSV."""
    rows = list(csv.DictReader(updates._csv([{"layer": -1, "path": name}]).splitlines()))
    assert rows == [{"layer": "-1", "path": f"'{name}"}]


def test_a_figure_takes_a_folder_of_any_name(adapter: Path, tmp_path: Path) -> None:
    """`$\\frac$` in the name of a folder was read as a formula, and failed."""
    odd = tmp_path / "a$\\frac$"
    shutil.copytree(adapter, odd)
    assert main(["norms", str(odd), "--figure", str(tmp_path / "figure.svg")]) == 0
    assert "<svg" in (tmp_path / "figure.svg").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--json", "--csv"], "choose one of"),
        (["--figure", "x.bmp"], "ends in .png, .pdf, .svg"),
        (["--intruders"], "give --base"),
    ],
)
def test_options_that_contradict_are_usage_errors(
    words: list[str], message: str, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["norms", str(adapter), *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
