"""`ldc import`: a GGUF file made into a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import gguf_import

import tiny_models
from ldc.cli import main
from ldc.conversion import gguf as conversion
from ldc.models.load import load
from ldc.study.schema import ModelSpec

gguf = pytest.importorskip("gguf")
HEADS, KEY_HEADS = 4, 2
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def as_llama_cpp_orders(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key projection as llama.cpp's rotary embedding wants them: pairs are neighbours."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write(path: Path, model: Any, left_out: tuple[str, ...] = (), quantised: bool = False) -> Path:
    """A tiny Llama as llama.cpp would store it.

    Args:
        left_out: keys of the metadata that are not written.
        quantised: projections in blocks of Q8_0, else all in F32.
    """
    config, tokenizer = model.config, tiny_models.tokenizer()
    writer = gguf.GGUFWriter(path, "llama")
    if "heads" not in left_out:
        writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // HEADS)
    writer.add_vocab_size(config.vocab_size)
    state = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(state["vocab"], key=state["vocab"].get)
    tokens += [f"<unused{i}>" for i in range(config.vocab_size - len(tokens))]
    tokens[-1] = "<|endoftext|>"  # transformers adds this token where it is absent
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<") and token.endswith(">") else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in state["merges"]])
    writer.add_bos_token_id(tiny_models.BOS)
    writer.add_eos_token_id(tiny_models.EOS)
    for name, tensor in model.state_dict().items():
        values = tensor.float().numpy()
        if name == "model.embed_tokens.weight":
            writer.add_tensor("token_embd.weight", values)
        elif name == "model.norm.weight":
            writer.add_tensor("output_norm.weight", values)
        elif name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            inner = rest.removesuffix(".weight")
            if inner.endswith("q_proj"):
                values = as_llama_cpp_orders(values, HEADS)
            if inner.endswith("k_proj"):
                values = as_llama_cpp_orders(values, KEY_HEADS)
            kind = gguf.GGMLQuantizationType.Q8_0
            if quantised and values.ndim == 2 and values.shape[1] % 32 == 0:
                writer.add_tensor(
                    f"blk.{layer}.{NAMES[inner]}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind
                )
            else:
                writer.add_tensor(f"blk.{layer}.{NAMES[inner]}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("quantised", [False, True])
def test_the_folder_is_the_model_of_the_file(
    quantised: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_models.build("llama", hidden=64)
    path = write(tmp_path / "tiny.gguf", model, quantised=quantised)
    out = tmp_path / "tiny"
    assert main(["import", str(path), "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["difference"] == 0.0
    assert told["stored"] == ({"F32": 11, "Q8_0": 18} if quantised else {"F32": 29})
    assert (told["layers"], told["architecture"]) == (3, "llama")
    found = load("tiny", ModelSpec(source=str(out)), tmp_path, torch.device("cpu"))
    ids = torch.arange(2, 22)[None]
    with torch.no_grad():
        theirs, ours = model(input_ids=ids).logits, found.model(input_ids=ids).logits
    worst = float((theirs - ours).abs().max())
    assert worst < (0.02 if quantised else 1e-6)
    assert (worst > 1e-6) is quantised
    text = "The heart pumps blood"
    plain = tiny_models.tokenizer()(text, add_special_tokens=False)["input_ids"]
    assert found.tokenizer(text, add_special_tokens=False)["input_ids"] == plain
    assert json.loads((out / "gguf.json").read_text())["sha256"] == told["sha256"]
    assert len({file.stat().st_mode for file in out.iterdir()}) == 1


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    assert not out
    assert err.count("ldc: error:") == 1
    return code, " ".join(err.split())


def test_what_is_no_whole_gguf_file_is_refused_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = tiny_models.build("llama", layers=1), tmp_path / "out"
    whole = write(tmp_path / "whole.gguf", model).read_bytes()
    cases = {
        "text.gguf": (b"hello", "not a GGUF file"),
        "cut.gguf": (whole[: len(whole) // 2], "cannot be read as GGUF"),
        "head.gguf": (whole[:20], "cannot be read as GGUF"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        code, told = refused(["import", str(tmp_path / name), "-o", str(out), "-q"], capsys)
        assert code == 2, told
        assert message in told
    code, told = refused(["import", str(tmp_path / "absent.gguf"), "-o", str(out), "-q"], capsys)
    assert "no such file" in told
    write(tmp_path / "headless.gguf", model, left_out=("heads",))
    code, told = refused(["import", str(tmp_path / "headless.gguf"), "-o", str(out), "-q"], capsys)
    assert "llama.attention.head_count" in told
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))


def test_a_folder_with_files_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "tiny.gguf", tiny_models.build("llama", layers=1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    _, told = refused(["import", str(path), "-o", str(tmp_path / "out"), "-q"], capsys)
    assert "not empty" in told
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_gguf_file_given_as_a_model_names_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "tiny.gguf", tiny_models.build("llama", layers=1))
    for source in (path, tmp_path):
        study = tmp_path / "study.yaml"
        study.write_text(f"models: {{m: {source}}}\ndomains: {{math: embedded}}\ntraining: {{steps: 1}}\n")
        code, told = refused(["run", str(study), "--dry-run"], capsys)
        assert f"ldc import {path}" in told
        assert code == 2


@pytest.mark.parametrize("missing", [("gguf",), ("accelerate",), ("gguf", "accelerate")])
def test_packages_that_reading_needs_are_named_before_work(
    missing: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Transformers reads GGUF with accelerate too, and says so only after the file was read."""
    path = tmp_path / "m.gguf"
    path.write_bytes(conversion.MAGIC)
    monkeypatch.setattr(conversion, "find_spec", lambda name: None if name in missing else object())
    assert main(["import", str(path), "-o", str(tmp_path / "m")]) == 4
    assert f"install it with: pip install {' '.join(missing)}" in " ".join(capsys.readouterr().err.split())


def test_the_benchmark_writes_what_an_import_gave(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf", tiny_models.build("llama", layers=1))
    for _ in range(2):
        gguf_import.main([str(path), "--folders", str(tmp_path / "kept"), "--out", str(tmp_path / "docs")])
    (row,) = json.loads((tmp_path / "docs" / "gguf.json").read_text())
    assert row["difference"] == 0.0
    assert row["with_bos"] > 1 < row["without_bos"]
    assert f"| {row['with_bos']} | {row['without_bos']} | {row['two_bos']} |" in (tmp_path / "docs/gguf.md").read_text()
