"""Promises of the models package: components found by role, headers equal to modules, incomplete models refused."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

import tiny_models
from ldc.errors import EnvironmentFault, ExitCode, ModelError
from ldc.models.folders import fingerprint, resolve_folder, tokenizer_fingerprint, weight_files
from ldc.models.headers import read_header, read_shape
from ldc.models.layout import find_layout, logits_of, probe, probe_tokens
from ldc.models.load import load
from ldc.models.roles import Component, block_and_name, components_of, locate
from ldc.study.schema import ModelSpec

CPU = torch.device("cpu")
LAYERS = 3
SPLIT_7 = ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
EXPECTED: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "llama": ("model", "model.norm", SPLIT_7),
    "gemma3_text": ("model", "model.norm", SPLIT_7),
    "gemma3": ("model.language_model", "model.language_model.norm", SPLIT_7),
    "qwen3": ("model", "model.norm", SPLIT_7),
    "mistral": ("model", "model.norm", SPLIT_7),
    "phi3": ("model", "model.norm", ("attn.qkv_proj", "attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")),
    "gpt_neox": (
        "gpt_neox",
        "gpt_neox.final_layer_norm",
        ("attn.query_key_value", "attn.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    ),
    "gpt2": ("transformer", "transformer.ln_f", ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")),
    "opt": (
        "model.decoder",
        "model.decoder.final_layer_norm",
        ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.out_proj", "mlp.fc1", "mlp.fc2"),
    ),
}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("models")
    return {family: tiny_models.save_tiny(base / family, family, LAYERS) for family in tiny_models.FAMILIES}


@pytest.fixture
def llama(saved: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the Llama checkpoint, to be damaged."""
    return Path(shutil.copytree(saved["llama"], tmp_path / "llama"))


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change: Any) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def load_folder(folder: Path, dtype: torch.dtype | None = None) -> Any:
    return load("m", ModelSpec(source=str(folder)), folder.parent, CPU, dtype)


# Roles


@pytest.mark.parametrize(
    ("path", "stack", "layer", "below"),
    [
        ("model.layers.12.mlp.down_proj", "model.layers", 12, "mlp.down_proj"),
        ("model.language_model.layers.3.self_attn.q_proj", "model.language_model.layers", 3, "self_attn.q_proj"),
        ("language_model.model.layers.3.self_attn.q_proj", "language_model.model.layers", 3, "self_attn.q_proj"),
        ("transformer.h.0.attn.c_attn", "transformer.h", 0, "attn.c_attn"),
        ("model.decoder.layers.1.fc1", "model.decoder.layers", 1, "fc1"),
    ],
)
def test_a_path_gives_its_layer(path: str, stack: str, layer: int, below: str) -> None:
    place = locate(path)
    assert place is not None
    assert (place.stack, place.layer, place.below) == (stack, layer, below)


@pytest.mark.parametrize(
    "path",
    [
        "model.vision_tower.vision_model.encoder.layers.3.self_attn.q_proj",
        "vision_tower.vision_model.encoder.layers.3.mlp.fc1",
        "model.visual.blocks.3.attn.qkv",
        "model.encoder.layers.0.self_attn.q_proj",
        "model.audio_tower.layers.0.self_attn.q_proj",
        "model.multi_modal_projector.layers.0.mlp",
        "lm_head",
        "model.embed_tokens",
    ],
)
def test_no_path_of_an_encoder_head_or_embedding_is_in_a_layer(path: str) -> None:
    assert locate(path) is None


@pytest.mark.parametrize(
    ("below", "has_feed_forward", "expected"),
    [
        ("self_attn.q_proj", True, ("attn", "q_proj")),
        ("attention.dense", True, ("attn", "dense")),
        ("attn.attention.q_proj", True, ("attn", "attention.q_proj")),
        ("feed_forward.w1", True, ("mlp", "w1")),
        ("ffn.up_proj", True, ("mlp", "up_proj")),
        ("fc1", False, ("mlp", "fc1")),
        ("per_layer_input_gate", True, None),
        ("mlp.experts.0.w1", True, None),
        ("block_sparse_moe.gate", False, None),
        ("cross_attn.q_proj", True, None),
        ("linear_attn.in_proj", True, None),
        ("mixer.in_proj", False, None),
    ],
)
def test_the_child_of_a_layer_gives_the_block(below: str, has_feed_forward: bool, expected: object) -> None:
    assert block_and_name(below, has_feed_forward) == expected


def test_a_component_is_labelled_by_layer_block_and_name() -> None:
    assert Component(12, "mlp", "down_proj", "model.layers.12.mlp.down_proj", 8, 4).label == "12.mlp.down_proj"


def test_the_order_of_components_does_not_depend_on_the_order_of_the_input() -> None:
    paths = {f"model.layers.{i}.{c}": (8, 8) for i in range(11) for c in ("self_attn.q_proj", "mlp.up_proj")}
    _, forwards = components_of(paths, [], "m")
    _, backwards = components_of(dict(reversed(paths.items())), [], "m")
    assert forwards == backwards
    assert [c.layer for c in forwards[::2]] == list(range(11))


def test_layers_that_differ_are_refused() -> None:
    paths = {"model.layers.0.attn.q": (8, 8), "model.layers.0.mlp.up": (8, 8), "model.layers.1.attn.q": (8, 8)}
    with pytest.raises(ModelError, match=r"layer 1 of model.layers has no mlp projection.*found are 1.attn.q"):
        components_of(paths, [], "m")
    odd = {"model.layers.1.mlp.up": (8, 8), "model.layers.1.mlp.gate": (8, 8)}
    with pytest.raises(ModelError, match=r"layers 0 and 1 .* do not hold the same projections \(mlp.gate in one"):
        components_of(paths | odd, [], "m")


def test_a_gap_in_the_layers_is_refused() -> None:
    paths = {f"model.layers.{i}.{c}": (8, 8) for i in (0, 2) for c in ("attn.q", "mlp.up")}
    with pytest.raises(ModelError, match="no weights for the layers 1: the model is incomplete"):
        components_of(paths, [], "m")


def test_a_model_without_decoder_layers_is_refused() -> None:
    with pytest.raises(ModelError, match="no decoder layers found"):
        components_of({"vision_tower.layers.0.attn.q_proj": (8, 8), "lm_head": (8, 8)}, [], "m")


# Layout


@pytest.mark.parametrize("family", sorted(EXPECTED))
def test_every_projection_of_every_layer_is_a_component(family: str) -> None:
    decoder, norm, names = EXPECTED[family]
    model = tiny_models.build(family, LAYERS)
    layout = find_layout(model)
    assert (layout.decoder, layout.final_norm, layout.head) == (decoder, norm, "lm_head")
    assert [c.label for c in layout.components] == [f"{i}.{name}" for i in range(LAYERS) for name in names]
    assert all(c.path.startswith(layout.layers[c.layer] + ".") for c in layout.components)
    assert not any("vision" in c.path for c in layout.components)
    for c in layout.components:
        x = torch.zeros(1, c.d_in)
        assert model.get_submodule(c.path)(x).shape == (1, c.d_out)


@pytest.mark.parametrize("family", sorted(EXPECTED))
def test_headers_and_modules_agree(family: str, saved: dict[str, Path]) -> None:
    model = tiny_models.build(family, LAYERS)
    shape = read_shape(saved[family])
    assert shape.components == find_layout(model).components
    assert (shape.layers, shape.hidden, shape.vocabulary) == (LAYERS, 32, tiny_models.VOCABULARY)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.weight_bytes == 4 * shape.parameters
    assert shape.tied_head == (model.get_output_embeddings().weight is model.get_input_embeddings().weight)


def test_the_longer_vision_tower_of_gemma_3_is_never_touched() -> None:
    model = tiny_models.build("gemma3", LAYERS)
    assert len(model.model.vision_tower.encoder.layers) > LAYERS
    assert {c.layer for c in find_layout(model).components} == set(range(LAYERS))


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_both_key_layouts_of_gemma_3_give_the_paths_of_the_loaded_model(
    prefix: str, saved: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved["gemma3"], tmp_path / "gemma3"))
    edit_weights(folder, lambda w: {k.replace("language_model.model.", prefix): t for k, t in w.items()})
    assert read_shape(folder).components == find_layout(tiny_models.build("gemma3", LAYERS)).components


def test_gpt2_as_stored_on_the_hub_is_read_and_loaded(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved["gpt2"], tmp_path / "gpt2"))

    def as_on_the_hub(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        bare = {k.removeprefix("transformer."): t for k, t in weights.items()}
        return bare | {f"h.{i}.attn.bias": torch.ones(1, 1, 8, 8) for i in range(LAYERS)}

    edit_weights(folder, as_on_the_hub)
    assert read_shape(folder) == read_shape(saved["gpt2"])
    assert load_folder(folder).layout.components == read_shape(folder).components


def test_sliding_windows_are_reported(saved: dict[str, Path]) -> None:
    assert (read_shape(saved["gemma3"]).window, read_shape(saved["gemma3"]).windowed) == (8, (0, 1))
    assert read_shape(saved["mistral"]).windowed == (0, 1, 2)
    assert (read_shape(saved["llama"]).window, read_shape(saved["llama"]).windowed) == (None, ())


@pytest.mark.parametrize("family", sorted(EXPECTED))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_decoder_and_head_by_hand_give_the_models_own_logits(family: str, dtype: torch.dtype) -> None:
    probe(tiny_models.build(family, LAYERS).to(dtype))


def test_the_soft_cap_is_part_of_the_head() -> None:
    model = tiny_models.build("gemma3_text", LAYERS)
    model.lm_head.weight.data *= 100  # so that the cap of 30 is felt; the embeddings are tied and grow with it
    layout = find_layout(model)
    ids = probe_tokens(model)
    with torch.no_grad():
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        assert float(model.lm_head(hidden).abs().max()) > 30
        torch.testing.assert_close(logits_of(model, layout, hidden), model(input_ids=ids).logits)


def test_probing_leaves_the_training_mode_and_hooks_as_they_were() -> None:
    model = tiny_models.build("llama", LAYERS).train()
    probe(model)
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())


def test_a_head_that_scales_its_logits_is_refused() -> None:
    with pytest.raises(ModelError, match=r"head is not reproduced.*'logit_scale': 0.0625") as error:
        probe(tiny_models.build("cohere", LAYERS))
    assert error.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_a_mixture_of_experts_is_refused_in_memory_and_on_disk(family: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"mixture of experts.*children are mlp, self_attn.*mlp.experts.gate_up_proj"):
        find_layout(tiny_models.build(family, LAYERS))
    with pytest.raises(ModelError, match=r"mixture of experts.*could not be placed: .*experts.0.*and \d+ more"):
        read_shape(tiny_models.save_tiny(tmp_path, family, LAYERS))


# Files


def test_reading_a_shape_imports_no_torch(saved: dict[str, Path]) -> None:
    code = (
        "import sys, pathlib; from ldc.models.headers import read_shape; "
        "print(read_shape(pathlib.Path(sys.argv[1])).layers, {'torch', 'transformers'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(saved["llama"])]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.strip() == f"{LAYERS} set()"


def test_shards_give_the_shape_of_the_single_file(saved: dict[str, Path], tmp_path: Path) -> None:
    tiny_models.build("llama", LAYERS).save_pretrained(tmp_path, max_shard_size="40KB")
    files = weight_files(tmp_path)
    assert len(files) > 1
    assert read_shape(tmp_path) == read_shape(saved["llama"])
    files[1].unlink()
    with pytest.raises(ModelError, match=rf"1 of {len(files)} shards named in .* are missing: {files[1].name}"):
        read_shape(tmp_path)


def cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def cut_tensors(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 10\n")


def garbage(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 9) + b"{not json" + b"0" * 50)


def no_offsets(path: Path) -> None:
    text = b'{"a.weight":{"dtype":"F32","shape":[1]}}'
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"0" * 50)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_header, "no safetensors header in its 40 bytes"),
        (cut_tensors, r"bytes, but its header says"),
        (pointer, "the file is a Git LFS pointer"),
        (garbage, "not readable as JSON"),
        (no_offsets, "entry 'a.weight' cannot be read"),
    ],
)
def test_damaged_weights_are_refused_by_name(damage: Any, message: str, llama: Path) -> None:
    damage(llama / "model.safetensors")
    with pytest.raises(ModelError, match=message) as error:
        read_shape(llama)
    assert "model.safetensors" in str(error.value)
    assert "etch the file again" in str(error.value)
    assert error.value.exit_code == ExitCode.USAGE


def test_an_empty_folder_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        read_shape(tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        read_shape(tmp_path / "absent")


def test_a_folder_without_weights_is_refused(llama: Path) -> None:
    (llama / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no weights: neither model\.safetensors nor"):
        read_shape(llama)


def test_pickled_weights_are_refused_and_the_conversion_told(llama: Path) -> None:
    (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickled \(pytorch_model\.bin\).*save_pretrained"):
        read_shape(llama)


def test_an_adapter_is_not_a_base_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="holds an adapter; name its base model"):
        read_shape(tmp_path)


def test_an_unreadable_configuration_is_refused(llama: Path) -> None:
    (llama / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json: not readable as JSON"):
        read_shape(llama)
    (llama / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="no model_type"):
        read_shape(llama)


def test_quantised_weights_are_refused(llama: Path) -> None:
    edit_config(llama, quantization_config={"quant_method": "gptq"})
    with pytest.raises(ModelError, match=r"stored quantised \(gptq\)"):
        read_shape(llama)


def test_the_fingerprint_is_of_the_content_alone(saved: dict[str, Path], llama: Path) -> None:
    assert fingerprint(llama) == fingerprint(saved["llama"])
    before = fingerprint(llama), tokenizer_fingerprint(llama)
    with (llama / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    assert fingerprint(llama) != before[0]
    assert tokenizer_fingerprint(llama) == before[1]
    (llama / "tokenizer.json").write_text("{}")
    assert tokenizer_fingerprint(llama) != before[1]
    (llama / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        tokenizer_fingerprint(llama)


def test_a_header_is_read_without_its_metadata(saved: dict[str, Path]) -> None:
    tensors = read_header(saved["llama"] / "model.safetensors")
    embeddings = tensors["model.embed_tokens.weight"]
    assert "__metadata__" not in tensors
    assert (embeddings.shape, embeddings.stored_bytes, embeddings.dtype) == ((320, 32), 4 * 320 * 32, "F32")


# Where a model is


def test_a_folder_is_found_from_the_base(saved: dict[str, Path]) -> None:
    assert resolve_folder("m", ModelSpec(source="llama"), saved["llama"].parent) == saved["llama"].resolve()


def test_embedded_models_are_found_by_name() -> None:
    assert resolve_folder("tiny-llama", ModelSpec(source="embedded"), Path()).parts[-2:] == ("embedded", "tiny-llama")
    with pytest.raises(ModelError, match="choose tiny-gemma or tiny-llama"):
        resolve_folder("llama", ModelSpec(source="embedded"), Path())


@pytest.mark.parametrize("source", ["./absent", "/absent/folder", "a/b/c"])
def test_a_missing_folder_is_a_mistake_in_the_study(source: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        resolve_folder("m", ModelSpec(source=source), tmp_path)


def test_a_folder_has_no_revisions(saved: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="remove revision: main"):
        resolve_folder("m", ModelSpec(source="llama", revision="main"), saved["llama"].parent)


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME"])
def test_a_hub_id_is_found_in_the_cache(
    variable: str, saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    repository = (tmp_path if variable == "HF_HUB_CACHE" else tmp_path / "hub") / "models--org--tiny"
    snapshot = repository / "snapshots" / "0123abc"
    shutil.copytree(saved["llama"], snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    for revision in (None, "main", "0123abc"):
        assert resolve_folder("m", ModelSpec(source="org/tiny", revision=revision), tmp_path) == snapshot
    assert load("m", ModelSpec(source="org/tiny"), tmp_path, CPU).revision == "0123abc"
    with pytest.raises(EnvironmentFault, match=r"revision v2\) is neither a folder .* nor in the Hub cache"):
        resolve_folder("m", ModelSpec(source="org/tiny", revision="v2"), tmp_path)


def test_a_hub_id_that_is_nowhere_is_a_fault_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EnvironmentFault, match=r"org/tiny .* neither a folder .* hf download org/tiny") as error:
        resolve_folder("m", ModelSpec(source="org/tiny"), tmp_path)
    assert error.value.exit_code == ExitCode.ENVIRONMENT


# Loading


@pytest.mark.parametrize("family", sorted(EXPECTED))
def test_a_loaded_model_is_the_model_of_transformers(family: str, saved: dict[str, Path]) -> None:
    loaded = load_folder(saved[family])
    ids = probe_tokens(loaded.model)
    reference = hf.AutoModelForCausalLM.from_pretrained(saved[family], dtype=torch.float32).eval()
    with torch.no_grad():
        assert torch.equal(loaded.model(input_ids=ids).logits, reference(input_ids=ids).logits)
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert loaded.dtype == torch.float32
    assert loaded.model.config._attn_implementation == "sdpa"


def test_the_tokenizer_puts_one_bos_at_the_head_as_its_file_says(saved: dict[str, Path]) -> None:
    tokenizer = load_folder(saved["llama"]).tokenizer
    ids = tokenizer("The heart pumps").input_ids
    assert tokenizer.is_fast
    assert ids == tiny_models.tokenizer()("The heart pumps").input_ids
    assert ids.count(tokenizer.bos_token_id) == 1


def test_weights_stored_as_float16_load_as_float32(tmp_path: Path) -> None:
    tiny_models.build("gemma3_text", LAYERS).half().save_pretrained(tmp_path)
    tiny_models.tokenizer().save_pretrained(tmp_path)
    assert {p.dtype for p in load_folder(tmp_path).model.parameters()} == {torch.float32}


def test_loading_says_nothing(saved: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    load_folder(saved["llama"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("family", ["gemma3", "gemma3_text"])
def test_float16_is_refused_on_gemma_3(family: str, saved: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="float16 overflows on Gemma 3"):
        load_folder(saved[family], torch.float16)


def test_missing_weights_are_refused_by_name(llama: Path) -> None:
    edit_weights(llama, lambda w: {k: t for k, t in w.items() if k != "model.layers.1.input_layernorm.weight"})
    with pytest.raises(ModelError, match=r"1 weights .* missing .*model\.layers\.1\.input_layernorm\.weight"):
        load_folder(llama)


def test_an_untied_head_that_is_missing_is_refused(llama: Path) -> None:
    edit_config(llama, tie_word_embeddings=False)
    with pytest.raises(ModelError, match=r"missing and would start at random: lm_head\.weight"):
        load_folder(llama)


def test_a_layer_more_than_the_configuration_says_is_refused(llama: Path) -> None:
    edit_config(llama, num_hidden_layers=LAYERS - 1)
    with pytest.raises(ModelError, match=r"9 weights have no place in the architecture: model\.layers\.2"):
        load_folder(llama)


def test_weights_of_another_shape_are_refused(llama: Path) -> None:
    edit_config(llama, intermediate_size=40)
    with pytest.raises(
        ModelError, match=r"differ in shape .*down_proj\.weight \(stored \(32, 72\), expected \(32, 40\)\)"
    ):
        load_folder(llama)


def test_harmless_buffers_of_old_checkpoints_are_let_pass(llama: Path) -> None:
    edit_weights(llama, lambda w: w | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    load_folder(llama)


def test_an_unknown_architecture_is_refused_with_the_cause_kept(llama: Path) -> None:
    edit_config(llama, model_type="nothing-known")
    with pytest.raises(ModelError, match="transformers cannot load") as error:
        load_folder(llama)
    assert error.value.__cause__ is not None


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    config = tiny_models.FAMILIES["llama"](LAYERS, 32)
    config.vocab_size = 64
    hf.LlamaForCausalLM(config).save_pretrained(tmp_path)
    tiny_models.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"the tokenizer has \d+ tokens and the model 64"):
        load_folder(tmp_path)
