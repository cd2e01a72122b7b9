"""Kind `probe`: how much every site of the model tells about the domain of a text; forward passes only.

Information in bits is log2 K less the loss of a linear discriminant of K equally likely domains on held-out documents,
on documents of sources that it has not read where a domain has several. The model is read once for the positions, and
the lens is fitted and scored in passes of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from ldc.engine.discriminant import separability, trace_ratio
from ldc.engine.estimates import ratio
from ldc.engine.lens import fit_lenses, fitting_tokens, lens_losses
from ldc.engine.lens import layers_at_once as lenses_at_once
from ldc.engine.probing import MEMORY, QUESTIONS, LayerReadouts, NotFinite, layers_at_once, probe_layers
from ldc.engine.random_weights import random_weights
from ldc.engine.results import Result
from ldc.engine.sites import EMBEDDINGS
from ldc.engine.units import FIRST_POSITION, LAST_BLOCK, TEST, TRUE, Item, Material, material
from ldc.engine.word_counts import word_losses
from ldc.engine.workspace import Workspace
from ldc.norms import Array
from ldc.plan.runs import Run
from ldc.plan.specs import Probe, RunId
from ldc.tables import EFFECTS

Row = tuple[object, ...]
Rows = list[Row]
MEASURES = (
    ("information", "attn", "attn", None),
    ("information", "mlp", "mlp", None),
    ("information", "stream", "stream", None),
    ("beyond_words", "attn", "words+attn", "words"),
    ("beyond_words", "mlp", "words+mlp", "words"),
    ("beyond_words", "stream", "words+stream", "words"),
    ("added", "attn", "before+attn", "before"),
    ("added", "mlp", "between+mlp", "between"),
    ("added_permuted", "attn", "permuted before+attn", "permuted before"),
    ("added_permuted", "mlp", "permuted between+mlp", "permuted between"),
    ("information_permuted", "attn", "permuted attn", None),
    ("information_permuted", "mlp", "permuted mlp", None),
    ("information_permuted", "stream", "permuted stream", None),
    ("information_control", "attn", "control attn", None),
    ("information_control", "mlp", "control mlp", None),
    ("information_control", "stream", "control stream", None),
)
"""(measure, block, question, the question whose information is taken off)."""
AT_EMBEDDINGS = (
    ("information", "before"),
    ("information_permuted", "permuted before"),
    ("information_control", "control before"),
)


def work(
    space: Workspace, runs: Sequence[Run], _stored: Callable[[RunId], Any], _compiled: bool, tell: Callable[[int], None]
) -> Iterator[Result]:
    """Probe one run after the other."""
    for run in runs:
        assert isinstance(run.spec, Probe)
        base, spec = space.base, run.spec
        if spec.random_weights and any(not p.is_floating_point() for p in base.decoder.parameters()):
            note = "no probe of random weights: the weights are quantised, and cannot be drawn"
            yield Result(run, {"effects": EFFECTS.rows([])}, notes=(note,))
            continue
        config = getattr(space.loaded.model, "config", None)
        read = material(space.feed, spec, base.head.weight_VD.shape[0])
        try:
            with random_weights(base.decoder, config) if spec.random_weights else nullcontext():
                rows = _information(space, read, tell)
            if not spec.random_weights:
                rows += _lens(space, read, tell)
        except NotFinite as error:
            yield Result(run, {"effects": EFFECTS.rows([])}, failure=str(error))
            continue
        yield Result(run, {"effects": EFFECTS.rows(rows)}, notes=_notes(read))


@torch.no_grad()
def _information(space: Workspace, read: Material, tell: Callable[[int], None]) -> Rows:
    """What discriminants tell, at every layer."""
    base = space.base
    rows = _words(space, read)
    batch_tokens = space.study.evaluation.batch_tokens
    for layers in layers_at_once(len(base.layers), base.head.weight_VD.shape[1], read.folds.count, MEMORY):
        for layer, found in probe_layers(space.sites, read, layers, batch_tokens, tell).items():
            rows += _layer_rows(read, layer, found)
    return rows


def _words(space: Workspace, read: Material) -> Rows:
    losses, documents = word_losses(read, space.base.head.weight_VD.shape[0])
    by_document = _by_document(losses.numpy()[None], documents.numpy(), len(read.items))[0]
    return _means(read, TEST, "words", EMBEDDINGS, "stream", _capacity(read) - by_document)


def _layer_rows(read: Material, layer: int, found: LayerReadouts) -> Rows:
    answers = found.units.answers()
    loss_QN = _by_document(answers.loss_QU.cpu().numpy(), answers.document_U.cpu().numpy(), len(read.items))
    told = dict(zip(QUESTIONS, _capacity(read) - loss_QN, strict=True))
    rows: Rows = []
    for measure, block, question, less in MEASURES:
        value_N = told[question] if less is None else told[question] - told[less]
        rows += _means(read, TEST, measure, layer, block, value_N)
    code_CN = _by_document(answers.code_CU.cpu().numpy(), answers.coded_document_U.cpu().numpy(), len(read.items))
    codes = dict(zip([name for name, q in QUESTIONS.items() if q.coded], code_CN, strict=True))
    for block in ("attn", "mlp", "stream"):
        rows += _means(read, LAST_BLOCK, "code_length", layer, block, codes[block])
        rows += _spreads(read, found, layer, block, block)
    if layer == 0:
        for measure, question in AT_EMBEDDINGS:
            rows += _means(read, TEST, measure, EMBEDDINGS, "stream", told[question])
        rows += _means(read, LAST_BLOCK, "code_length", EMBEDDINGS, "stream", codes["before"])
        rows += _spreads(read, found, EMBEDDINGS, "stream", "before")
    for at, pooled in found.pooled.items():
        answer = pooled.answers()
        value_1N = _by_document(answer.loss_QU.cpu().numpy(), answer.document_U.cpu().numpy(), len(read.items))
        rows += _means(read, TEST, "pooled", at, "stream", _capacity(read) - value_1N[0], units=False)
    return rows


def _spreads(read: Material, found: LayerReadouts, layer: int, block: str, state: str) -> Rows:
    """`separability` and `trace_ratio` of the domain of each text against all others, from all training documents."""
    moments = found.units.moments
    sums = moments.of(list(range(read.folds.count)), QUESTIONS[state].space, TRUE)
    rows: Rows = []
    for measure, value_K in (("separability", separability(sums)), ("trace_ratio", trace_ratio(sums))):
        for number, name in enumerate(read.names):
            own = [item for item in read.items if item.text == number and item.block < TEST]
            value = float(value_K[read.label_of[number]])
            nan = math.nan
            rows.append((name, measure, layer, block, value, nan, nan, nan, len(own), _units(own)))
    return rows


def _lens(space: Workspace, read: Material, tell: Callable[[int], None]) -> Rows:
    """`lens_loss` at every stream, and `lens`, what each block takes off it."""
    base = space.base
    layers, width = len(base.layers), base.head.weight_VD.shape[1]
    rows_to_fit = _general(space, read, fitting_tokens(width))
    nats: list[dict[tuple[str, int], Array]] = [{} for _ in read.names]
    for part in lenses_at_once(layers, width, MEMORY):
        lenses = fit_lenses(space.sites, part, rows_to_fit, tell)
        for number, text in enumerate(read.held_out):
            nats[number] |= lens_losses(space.sites, lenses, text, space.study.evaluation.batch_tokens, tell)
    rows: Rows = []
    for name, text, found in zip(read.names, read.held_out, nats, strict=True):
        size, scored = np.array(text.bytes, float), sum(text.tokens)
        for layer in range(-1, layers):
            rows.append((name, "lens_loss", layer, "stream", *_per_byte(found["before", layer + 1], size), scored))
        for layer in range(layers):
            steps = [found["before", layer], found["between", layer], found["before", layer + 1]]
            for block, at in (("attn", 0), ("mlp", 1)):
                rows.append((name, "lens", layer, block, *_per_byte(steps[at] - steps[at + 1], size), scored))
    return rows


def _general(space: Workspace, read: Material, tokens: int) -> list[tuple[int, ...]]:
    """Training windows of the reference texts, or of all texts where there are none, in turn, up to so many tokens."""
    references = [n for n, name in enumerate(read.names) if space.study.domains[name].reference]
    chosen = references or list(range(len(read.names)))
    lists = [[i for i in read.items if i.text == n and i.block < TEST] for n in chosen]
    share, found = tokens / len(chosen), []
    for items in lists:
        total = 0
        for item in items:
            if total >= share:
                break
            found.append(item.tokens)
            total += len(item.tokens) - FIRST_POSITION
    return found


def _per_byte(nats_J: Array, bytes_J: Array) -> tuple[float, float, float, float, int]:
    """Bits per byte of documents, its standard error, the value of either half, and the number of documents."""
    found = ratio(nats_J / math.log(2), bytes_J)
    return found.value, found.se, found.half_a, found.half_b, len(bytes_J)


def _means(
    read: Material, block: int, measure: str, layer: int, place: str, value_N: Array, units: bool = True
) -> Rows:
    """A row for each text: the mean over its documents of a block (training documents: all blocks up to it).

    Args:
        value_N: of each document, by number in `read.items`; NaN where it has none.
        units: whether units are positions; else a document is one.
    """
    rows: Rows = []
    for number, name in enumerate(read.names):
        own = [n for n, i in enumerate(read.items) if i.text == number and (i.block == TEST) is (block == TEST)]
        values = value_N[own]
        count = len(values)
        se = float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
        mean, even, odd = (float(v.mean()) if len(v) else math.nan for v in (values, values[0::2], values[1::2]))
        tokens = _units([read.items[n] for n in own]) if units else count
        rows.append((name, measure, layer, place, mean, se, even, odd, count, tokens))
    return rows


def _by_document(loss_QU: Array, document_U: Array, documents: int) -> Array:
    """[Q, documents] the mean over the units of each document; NaN where it has none."""
    count_N = np.bincount(document_U, minlength=documents).astype(float)
    sums = [np.bincount(document_U, weights=loss_U, minlength=documents) for loss_U in loss_QU]
    with np.errstate(invalid="ignore"):
        return np.stack(sums) / np.where(count_N > 0, count_N, np.nan)


def _units(items: Sequence[Item]) -> int:
    return sum(len(item.units) for item in items)


def _capacity(read: Material) -> float:
    """log2 K bits: what a perfect readout would tell."""
    return math.log2(len(read.domains))


def _notes(read: Material) -> tuple[str, ...]:
    """Classes that a probe lacks, so that it tells nothing about the documents of its fold."""
    notes = []
    for probe in read.folds.probes:
        have = {item.label for item in read.items if item.block < TEST and item.fold in read.folds.used(probe)}
        absent = [domain for label, domain in enumerate(read.domains) if label not in have]
        if absent:
            notes.append(
                f"probe: no document of {', '.join(absent)} is long enough or left to fit on without fold {probe + 1} "
                f"of {read.folds.count}, so its information there is 0; give more documents of at least "
                f"{FIRST_POSITION + 1} tokens"
            )
    return tuple(notes)
