"""`ldc diff`: norms of the difference of two checkpoints, streamed, against the same in memory."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import ldc
from ldc.cli import main
from ldc.inspection.adapter import adapter_table
from ldc.inspection.models import checkpoint_table
from ldc.models.layout import map_components
from ldc.spectrum import largest_singular_values
from tiny_models import build, save_tiny

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PEFT and what it imports
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def tuned_from(family: str, size: float = 0.01, seed: int = 1) -> Any:
    """The random model of `build`, every weight moved a little."""
    model = build(family)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator)
    return model


def saved(model: Any, folder: Path, dtype: torch.dtype = torch.float32, shard: str = "5GB") -> Path:
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "base", "llama")


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "gpt_neox", "phi3"])
def test_every_weight_has_the_norm_of_its_difference(family: str, tmp_path: Path) -> None:
    """Stored in shards on one side, whole on the other."""
    old = saved(build(family), tmp_path / "base")
    new = saved(tuned_from(family), tmp_path / "tuned", shard="40KB")
    assert len(list(new.glob("*.safetensors"))) > 2
    rows = {row["path"]: row for row in checkpoint_table(old, new).rows}
    before, after = build(family).state_dict(), tuned_from(family).state_dict()
    for c in map_components(build(family))[1]:
        row, name = rows[f"{c.path}.weight"], f"{c.path}.weight"
        assert (row["layer"], row["block"], row["component"]) == (c.layer, c.block, c.name)
        w, delta = before[name].double(), after[name].double() - before[name].double()
        assert row["frobenius"] == pytest.approx(float(delta.norm()), rel=1e-6)
        assert row["base_frobenius"] == pytest.approx(float(w.norm()), rel=1e-6)
        assert row["relative"] == pytest.approx(float(delta.norm() / w.norm()), rel=1e-6)
        assert row["rms"] == pytest.approx(float(delta.norm()) / math.sqrt(w.numel()), rel=1e-6)
        assert row["changed"] == 1.0
    counted = {f"{c.path}.weight" for c in map_components(build(family))[1]}
    assert {path for path, row in rows.items() if row["block"] is not None} == counted


@pytest.mark.parametrize("first", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("second", [torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_may_differ(first: torch.dtype, second: torch.dtype, tmp_path: Path) -> None:
    old, new = saved(build("llama"), tmp_path / "a", first), saved(tuned_from("llama"), tmp_path / "b", second)
    before, after = build("llama").to(first).state_dict(), tuned_from("llama").to(second).state_dict()
    for row in checkpoint_table(old, new).rows:
        delta = after[row["path"]].double() - before[row["path"]].double()
        assert row["frobenius"] == pytest.approx(float(delta.norm()), rel=1e-6)


def merged(tmp_path: Path, dtype: torch.dtype, scale: float = 1.0) -> tuple[Path, Path, Path]:
    """A base in this dtype, an adapter on it, and the two merged by PEFT: their folders."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import peft

        torch.manual_seed(0)
        folder = saved(build("llama"), tmp_path / "base", dtype)
        config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"])
        model = peft.get_peft_model(build("llama").to(dtype), config)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = scale * torch.randn(parameter.shape)
        model.save_pretrained(tmp_path / "adapter")
        return folder, tmp_path / "adapter", saved(model.merge_and_unload(), tmp_path / "merged", dtype)


def test_an_adapter_merged_in_float32_has_the_norms_that_ldc_norms_gives(tmp_path: Path) -> None:
    folder, adapter, whole = merged(tmp_path, torch.float32)
    moved = {r["path"].removesuffix(".weight"): r for r in checkpoint_table(folder, whole).rows if r["frobenius"] > 0}
    rows = {row["path"]: row for row in adapter_table(adapter, folder).rows}
    assert rows.keys() == moved.keys()
    for path, row in rows.items():
        assert moved[path]["frobenius"] == pytest.approx(row["frobenius"], rel=1e-5)
        assert moved[path]["relative"] == pytest.approx(row["relative"], rel=1e-5)
        assert (moved[path]["layer"], moved[path]["block"]) == (row["layer"], row["block"])


def test_a_small_adapter_merged_in_bfloat16_is_told_to_be_rounding(tmp_path: Path) -> None:
    folder, _, whole = merged(tmp_path, torch.bfloat16, scale=2e-3)
    table = checkpoint_table(folder, whole)
    moved = [row for row in table.rows if row["changed"] > 0]
    assert moved
    assert all(row["frobenius"] < 2 * row["rounding"] for row in moved)
    (note,) = [note for note in table.notes if "rounding" in note]
    assert f"{len(moved)} of {len(moved)} changed weights" in note
    assert "rounding to BF16 alone" in note


def test_the_rounding_column_is_the_norm_that_rounding_gives(tmp_path: Path) -> None:
    """The same weights in float32 and in bfloat16 differ by rounding alone."""
    old, new = saved(build("llama"), tmp_path / "a"), saved(build("llama"), tmp_path / "b", torch.bfloat16)
    for row in checkpoint_table(old, new).rows:
        if row["block"]:
            assert row["frobenius"] == pytest.approx(row["rounding"], rel=0.1)


def test_older_and_newer_key_layouts_are_the_same_weights(tmp_path: Path) -> None:
    old, new = saved(build("gemma3"), tmp_path / "a"), saved(tuned_from("gemma3"), tmp_path / "b")
    expected = checkpoint_table(old, new).rows
    file = new / "model.safetensors"
    tensors = load_file(file)
    assert any(key.startswith("language_model.model.") for key in tensors), "transformers saves the older layout"

    def newer(key: str) -> str:
        return re.sub(r"^language_model\.model\.", "model.language_model.", key)

    save_file({newer(key): tensor for key, tensor in tensors.items()}, file)
    text = [row for row in expected if "language_model" in row["path"]]
    again = [row for row in checkpoint_table(old, new).rows if "language_model" in row["path"]]
    assert text
    assert again == text


def test_a_resized_vocabulary_is_compared_in_the_rows_in_common(base: Path, tmp_path: Path) -> None:
    model = tuned_from("llama")
    model.resize_token_embeddings(400, mean_resizing=False)
    table = checkpoint_table(base, saved(model, tmp_path / "tuned"))
    (row,) = [row for row in table.rows if row["path"] == "model.embed_tokens.weight"]
    before = build("llama").get_input_embeddings().weight.detach().double()
    after = tuned_from("llama").get_input_embeddings().weight.detach().double()
    assert row["frobenius"] == pytest.approx(float((after - before).norm()), rel=1e-6)
    assert row["block"] is None
    assert "model.embed_tokens.weight: 320 rows in BASE, 400 in TUNED; the first 320 are compared" in table.notes


def test_a_head_untied_by_training_is_compared_with_the_embeddings(base: Path, tmp_path: Path) -> None:
    folder = saved(build("llama"), tmp_path / "tuned")
    tensors = load_file(folder / "model.safetensors")
    before = tensors["model.embed_tokens.weight"]
    save_file(tensors | {"lm_head.weight": before + 0.5}, folder / "model.safetensors")
    table = checkpoint_table(base, folder)
    (row,) = [row for row in table.rows if row["frobenius"] > 0]
    assert row["path"] == "lm_head.weight"
    assert row["frobenius"] == pytest.approx(0.5 * math.sqrt(before.numel()), rel=1e-4)
    assert "the head is tied in BASE" in table.notes[0]
    assert "the head is tied in TUNED" in checkpoint_table(folder, base).notes[0]


def test_identical_models_are_told(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(base), str(base)]) == 0
    assert "the two models are identical" in capsys.readouterr().err


def test_tensors_of_one_side_are_listed(base: Path, tmp_path: Path) -> None:
    folder = saved(tuned_from("llama"), tmp_path / "tuned")
    tensors = load_file(folder / "model.safetensors")
    gone = tensors.pop("model.layers.1.mlp.up_proj.weight")
    tensors["score.weight"], tensors["model.counts"] = gone, torch.arange(3)
    save_file(tensors, folder / "model.safetensors")
    table = checkpoint_table(base, folder)
    assert table.others == (
        "model.layers.1.mlp.up_proj.weight (only in BASE)",
        "model.counts (only in TUNED)",
        "score.weight (only in TUNED)",
    )
    assert table.notes[-1].startswith("not compared: model.layers.1.mlp.up_proj.weight (only in BASE)")


def wider(folder: Path) -> None:
    saved(build("llama", hidden=64), folder)


def other_family(folder: Path) -> None:
    saved(build("gpt_neox"), folder)


def truncated(folder: Path) -> None:
    file = saved(build("llama"), folder) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def contradicting(folder: Path) -> None:
    file = saved(build("llama"), folder) / "model.safetensors"
    content = file.read_bytes()
    assert b'"dtype":"F32"' in content
    file.write_bytes(content.replace(b'"dtype":"F32"', b'"dtype":"F16"', 1))


def adapter_only(folder: Path) -> None:
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (wider, "is not a fine-tune of"),
        (other_family, "have no weight matrix of a layer in common"),
        (truncated, "its header says"),
        (contradicting, "The file is damaged: fetch it again"),
        (adapter_only, "an adapter, not a whole model. For its norms run: ldc norms"),
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.mkdir(), "no config.json"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_message(
    make: Callable[[Path], None], message: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "tuned")
    capsys.readouterr()  # what saving says
    assert main(["diff", str(base), str(tmp_path / "tuned")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_json_csv_blocks_and_figure(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = saved(tuned_from("llama"), tmp_path / "tuned")
    words = ["diff", str(base), str(new)]
    assert main([*words, "--json", "--by", "block", "--stable-rank"]) == 0
    told = json.loads(capsys.readouterr().out)
    blocks = [row for row in told["rows"] if row["block"]]
    assert [(row["layer"], row["block"]) for row in blocks] == [(n, b) for n in range(3) for b in ("attn", "mlp")]
    assert main([*words, "--csv"]) == 0
    assert capsys.readouterr().out.startswith("layer,block,component,path,frobenius,")
    assert main([*words, "--figure", str(tmp_path / "f.png")]) == 0
    assert (tmp_path / "f.png").read_bytes()[:4] == b"\x89PNG"
    frame = ldc.checkpoint_norms(base, new)
    pd.testing.assert_series_equal(
        frame["frobenius"], pd.Series([row["frobenius"] for row in checkpoint_table(base, new).rows], name="frobenius")
    )
    layers = [row["layer"] for row in checkpoint_table(base, new).rows if row["layer"] is not None]
    assert frame["layer"].dropna().tolist() == layers


def test_the_stable_rank_is_that_of_the_whole_decomposition(base: Path, tmp_path: Path) -> None:
    new = saved(tuned_from("llama"), tmp_path / "tuned")
    before, after = build("llama").state_dict(), tuned_from("llama").state_dict()
    seen = 0
    for row in checkpoint_table(base, new, with_stable_rank=True).rows:
        if before[row["path"]].ndim != 2:
            assert row["stable_rank"] is None
            continue
        sigma = torch.linalg.svdvals(after[row["path"]].double() - before[row["path"]].double())
        assert row["spectral"] == pytest.approx(float(sigma[0]), rel=1e-5)
        assert row["stable_rank"] == pytest.approx(float((sigma**2).sum() / sigma[0] ** 2), rel=1e-5)
        seen += 1
    assert seen == 22


@pytest.mark.parametrize("shape", [(512, 512), (300, 1200), (1200, 300)])
def test_randomised_singular_values_of_noise_are_within_a_thousandth(shape: tuple[int, int]) -> None:
    """A flat spectrum is the worst case; power iteration alone is 1 % off here."""
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    exact = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    ours = largest_singular_values(matrix, 3)
    np.testing.assert_allclose(ours, exact[:3], rtol=1e-3)
    assert (ours <= exact[:3] * (1 + 1e-6)).all()


def test_randomised_singular_values_of_a_matrix_of_low_rank_are_exact() -> None:
    g = np.random.default_rng(0)
    matrix = g.normal(size=(900, 5)) @ g.normal(size=(5, 700))
    exact = np.linalg.svd(matrix, compute_uv=False)[:5]
    np.testing.assert_allclose(largest_singular_values(matrix, 5), exact, rtol=1e-10)
    assert largest_singular_values(np.zeros((300, 200)), 1) == [0.0]


HEAVY = ("torch", "transformers", "peft", "pandas", "matplotlib", "scipy", "safetensors", "pyarrow")


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"], ["--by", "block"]])
@pytest.mark.parametrize("command", ["diff", "norms"])
def test_reading_files_imports_nothing_heavy(form: list[str], command: str, base: Path, tmp_path: Path) -> None:
    words = ["diff", str(base), str(base)]
    if command == "norms":
        folder, adapter, _ = merged(tmp_path / "m", torch.float32)
        words = ["norms", str(adapter), "--base", str(folder)]
    code = f"import sys; from ldc.cli import main; assert main({words + form}) == 0; " + (
        f"print('heavy:', [m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("heavy: []\n")


@pytest.mark.slow
def test_a_large_pair_takes_the_memory_of_stretches_only(tmp_path: Path) -> None:
    """Two checkpoints of 0.5 GB each, in bfloat16, are compared in less than 250 MB, the interpreter included."""
    shape = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 8, "vocab_size": 64_000}
    from transformers import AutoConfig, LlamaForCausalLM

    config = AutoConfig.for_model("llama", **shape, num_attention_heads=16, num_key_value_heads=8)
    for number in range(2):
        torch.manual_seed(number)
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / str(number), max_shard_size="200MB")
    words = ["diff", str(tmp_path / "0"), str(tmp_path / "1"), "--json"]
    code = f"import resource; from ldc.cli import main; assert main({words}) == 0; " + (
        "import sys; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kilobytes = int(done.stderr.splitlines()[-1])
    assert kilobytes < 250_000
    for row in json.loads(done.stdout)["rows"][:3]:
        assert row["frobenius"] > 0
