"""The bank against the model's own forward, once at load; and whether the probe of packed documents can be fooled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

import tiny_models
from ldc.engine.opening import open_model
from ldc.engine.packed import needs_mask
from ldc.errors import ExitCode, ModelError
from ldc.models.headers import read_shape
from ldc.models.layout import find_layout
from ldc.progress import Silent
from ldc.study.schema import ModelSpec

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_tiny(tmp_path_factory.mktemp("models") / "llama", "llama")


def opened(folder: Path) -> Any:
    return open_model("m", ModelSpec(source=str(folder)), folder.parent, "cpu", None, Silent())


def changed(monkeypatch: pytest.MonkeyPatch, change: Callable[[torch.Tensor, dict[str, Any]], torch.Tensor]) -> None:
    """Let Llama's decoder do something to its last hidden state that no layer and no norm does."""
    decoder = hf.models.llama.modeling_llama.LlamaModel
    forward = decoder.forward

    def other(self: Any, *args: Any, **kwargs: Any) -> Any:
        out = forward(self, *args, **kwargs)
        out.last_hidden_state = change(out.last_hidden_state, kwargs)
        return out

    monkeypatch.setattr(decoder, "forward", other)


def test_a_model_that_the_bank_reproduces_is_opened(llama: Path) -> None:
    loaded, base = opened(llama)
    assert len(base.layers) == len(loaded.layout.layers) == 3


def test_a_decoder_that_scales_its_output_is_refused(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, lambda state, _: 0.5 * state)
    with pytest.raises(
        ModelError, match=r"LlamaForCausalLM: .*\(rows of one document: largest relative difference 1\.0e\+00\).*Use a"
    ) as error:
        opened(llama)
    assert error.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("factor", [1.001, 0.999])
def test_a_small_difference_counts_too_in_float32(factor: float, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, lambda state, _: factor * state)
    with pytest.raises(ModelError, match=r"largest relative difference 1\.0e-03"):
        opened(llama)


def test_a_difference_in_packed_rows_alone_is_refused(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, lambda state, given: state if given.get("position_ids") is None else 0.5 * state)
    with pytest.raises(ModelError, match="rows of two documents: largest relative difference"):
        opened(llama)


def test_a_difference_in_one_row_alone_is_refused(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, lambda state, _: torch.cat([state[:-1], 1.1 * state[-1:]]) if len(state) > 1 else state)
    with pytest.raises(ModelError, match=r"largest relative difference 9\.1e-02"):
        opened(llama)


def test_a_decoder_of_another_width_than_its_layers_is_refused(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, base = opened(llama)
    changed(monkeypatch, lambda state, _: state[..., :16])
    from ldc.engine.reproduction import check_reproduced

    with pytest.raises(ModelError, match="32 numbers a token, where the model has 16"):
        check_reproduced(base, loaded.layout)


def test_layers_that_do_not_run_one_by_one_are_refused(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = hf.models.llama.modeling_llama.LlamaDecoderLayer
    forward = layer.forward
    before: list[torch.Tensor] = []

    def other(self: Any, state: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Every layer adds what the one before it was given, of as many rows."""
        before.append(state)
        return forward(self, state, *args, **kwargs) + before[-2 if self.self_attn.layer_idx else -1]

    monkeypatch.setattr(layer, "forward", other)
    with pytest.raises(ModelError, match="LlamaForCausalLM: its layers"):
        opened(llama)


def opt_350m() -> hf.PreTrainedModel:
    config = tiny_models.FAMILIES["opt"](3, 32)
    config.word_embed_proj_dim, config.do_layer_norm_before = 16, False
    return hf.OPTForCausalLM(config).eval()


def test_the_layout_of_opt_350m_is_refused_before_any_work_and_at_load(tmp_path: Path) -> None:
    model = opt_350m()
    model.save_pretrained(tmp_path)
    tiny_models.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"after its last layer the hidden states go through .*project_out"):
        find_layout(model)
    for refuse in (read_shape, opened):
        with pytest.raises(ModelError, match="projects its embeddings and its last hidden states to another width"):
            refuse(tmp_path)


def bloom(same: range) -> torch.nn.Module:
    """A decoder that does not keep packed documents apart; some of its tokens have equal embeddings."""
    config = hf.BloomConfig(vocab_size=tiny_models.VOCABULARY, hidden_size=32, n_layer=2, n_head=4)
    decoder = hf.AutoModelForCausalLM.from_config(config).eval().transformer
    with torch.no_grad():
        decoder.word_embeddings.weight[same.start : same.stop] = decoder.word_embeddings.weight[same.start]
    return decoder


def test_tokens_with_equal_embeddings_do_not_make_documents_look_apart() -> None:
    with pytest.raises(ModelError, match="BloomModel: documents that share a row see each other"):
        needs_mask(bloom(same=range(4, 8)), CPU)


def test_a_probe_that_could_not_tell_is_no_proof() -> None:
    with pytest.raises(ModelError, match="BloomModel: the hidden states of a row do not depend on the tokens before"):
        needs_mask(bloom(same=range(tiny_models.VOCABULARY)), CPU)
