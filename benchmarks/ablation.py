"""All blocks of a model ablated over the shared trunk, against hooks on the whole model and against nnsight."""

from __future__ import annotations

import copy
import importlib.util
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import ours
from benchmarks.console import say
from benchmarks.grid import Grid, embedded
from benchmarks.pairs import Pairs
from benchmarks.rows import Row, of_pairs
from ldc.domains.windows import Window
from ldc.engine.ablation import Ablation, Array, Site
from ldc.engine.bank import Base
from ldc.engine.sites import find_sites

ROWS, LENGTH = 16, 128
BATCH_TOKENS = 8_192
"""The default of `evaluation.batch_tokens`: a pass of ours is of 2,048 tokens, as is one of the baselines."""
UNIT = "seconds for the loss of every row under the model, and with each block's output replaced by its mean"
PEER = "nnsight"


@dataclass(frozen=True)
class Work:
    """What every arm does: rows of text, and the mean that takes the place of what each block adds."""

    grid: Grid
    ablation: Ablation
    windows: tuple[Window, ...]
    means: dict[Site, Tensor]

    @property
    def tokens(self) -> Tensor:
        """All rows [R, T]."""
        return torch.tensor([window.tokens for window in self.windows])


def work_of(grid: Grid, rows: int = ROWS, length: int = LENGTH) -> Work:
    """Random rows, all of one length, so that nobody reads padding, and the means over other rows."""
    ablation = Ablation(find_sites(Base.of(grid.model, grid.layout)), BATCH_TOKENS)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(2, grid.vocabulary, (2 * rows, length), generator=generator)
    scored = (False, *[True] * (length - 1))
    windows = tuple(Window(i, tuple(row), scored) for i, row in enumerate(tokens[:rows].tolist()))
    added, _ = ablation.read(tokens[rows:])
    return Work(grid, ablation, windows, {site: state.mean(dim=(0, 1)) for site, state in added.items()})


def shared(work: Work) -> Array:
    """Nats [1 + 2 L, rows] over the trunk: the model as it is first, then in the order of `Ablation.blocks`."""
    found = np.zeros((1 + len(work.ablation.blocks), len(work.windows)))
    for group in work.ablation.groups(work.windows):
        recording = work.ablation.record(group.batch)
        found[0, group.places] = work.ablation.base(group.batch, recording)
        found[1:, group.places] = work.ablation.replaced(group.batch, recording, work.means)[0]
    return found


@torch.no_grad()
def hooked(work: Work) -> Array:
    """The same by 2 L + 1 passes of the whole decoder with a hook each, and the engine's head."""
    base, tokens = work.ablation.sites.base, work.tokens
    labels = ours.labels_of(tokens)
    found = []
    for site in (None, *work.ablation.blocks):
        with ExitStack() as stack:
            if site is not None:
                module = base.root.get_submodule(work.ablation.sites.path(*site))
                handle = module.register_forward_hook(_putting(work.means[site]))
                stack.callback(handle.remove)
            out: Any = base.decoder(input_ids=tokens, use_cache=False)
        _, nll = base.head.loss(out.last_hidden_state, labels, torch.ones(labels.shape))
        found.append(nll.double().sum(dim=1).numpy())
    return np.stack(found)


def _putting(mean: Tensor) -> Callable[[Any, Any, Any], Any]:
    def hook(_module: Any, _args: Any, out: Any) -> Any:
        first = out[0] if isinstance(out, tuple) else out
        put = mean.expand_as(first)
        return (put, *out[1:]) if isinstance(out, tuple) else put

    return hook


class Peer:
    """The same by nnsight.

    Args:
        together: False traces each block in a pass of its own over all rows; True gives the blocks to one trace as
            invokes, which are further rows from layer 0 on, as many as make a pass of 2,048 tokens.
    """

    def __init__(self, work: Work, together: bool) -> None:
        from nnsight import LanguageModel  # type: ignore[import-not-found]

        self.work, self.together = work, together
        tokenizer = copy.deepcopy(work.grid.tokenizer)
        tokenizer.pad_token = tokenizer.eos_token  # it pads rows, though all are of one length
        self.model = LanguageModel(work.grid.model, tokenizer=tokenizer)

    @torch.no_grad()
    def nats(self) -> Array:
        """As `shared`."""
        tokens = self.work.tokens
        if not self.together:
            return np.stack([self._one(site, tokens) for site in (None, *self.work.ablation.blocks)])
        rows = max(1, len(tokens) // 4)
        return np.concatenate([self._some(tokens[at : at + rows]) for at in range(0, len(tokens), rows)], axis=1)

    def _one(self, site: Site | None, tokens: Tensor) -> Array:
        model = self.model
        with model.trace(tokens):
            if site is not None:
                layer = model.model.layers[site[0]]
                if site[1] == "attn":
                    layer.self_attn.output[0][:] = self.work.means[site]
                else:
                    layer.mlp.output[:] = self.work.means[site]
            found = _row_nats(model.lm_head.output, tokens).save()
        return found.numpy()

    def _some(self, tokens: Tensor) -> Array:
        sites = (None, *self.work.ablation.blocks)
        given = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}  # without, invokes differ
        parts = []
        for at in range(0, len(sites), 4):
            model, kept = self.model, []
            with model.trace() as tracer:
                kept = [].save()
                for site in sites[at : at + 4]:
                    with tracer.invoke(given):
                        if site is not None:
                            layer = model.model.layers[site[0]]
                            if site[1] == "attn":
                                layer.self_attn.output[0][:] = self.work.means[site]
                            else:
                                layer.mlp.output[:] = self.work.means[site]
                        kept.append(_row_nats(model.lm_head.output, tokens))
            parts += [one.numpy() for one in kept]
        return np.stack(parts)


def _row_nats(logits: Tensor, tokens: Tensor) -> Tensor:
    """Nats of each row from all its logits, as one would write it."""
    nll = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return nll.view(len(tokens), -1).double().sum(dim=1)


def flop_ratio(work: Work) -> float:
    """Products of 2 L + 1 whole passes over those of the shared trunk. A member's own layer counts whole."""
    grid, layers = work.grid, len(work.grid.layout.layers)
    body = sum(c.d_in * c.d_out for c in grid.layout.components)
    hidden = grid.model.get_submodule(grid.layout.head).weight.shape[1]
    head = grid.vocabulary * hidden * (LENGTH - 1) / LENGTH
    passes = 1 + sum((layers - layer) / layers for layer, _ in work.ablation.blocks)
    count = 1 + len(work.ablation.blocks)
    return count * (body + head) / (passes * body + count * head)


def trunk_row(pairs: int) -> Row:
    """The shared trunk against hooks, as a share of the ratio of their products."""
    work = work_of(embedded())
    found, parity = _measured(work, {"hooks": lambda: hooked(work)}, pairs)
    bound = flop_ratio(work)
    row = of_pairs("ablation-trunk", found["hooks"], 0.9, 1.0, parity["hooks"], UNIT, _settings(work))
    notes = {
        "flop_ratio": round(bound, 3),
        "speed_ratio": {"median": row.ratio, "low": row.low, "high": row.high},
        "baseline_is": "2 L + 1 passes of the whole decoder, a forward hook in each, the engine's head; seconds are "
        "divided by the FLOP ratio",
    }
    say(f"  speed {row.ratio} ({row.low} to {row.high}), FLOP ratio {bound:.3f}")
    scaled = {k: float(f"{getattr(row, k) / bound:.4g}") for k in ("baseline", "ratio", "low", "high")}
    return replace(row, **scaled, settings=row.settings | notes)


def peer_rows(pairs: int) -> list[Row]:
    """The shared trunk against nnsight, in the faster of two ways to use it; no row where it is not installed."""
    if importlib.util.find_spec(PEER) is None:
        say(f"  {PEER} is not installed, so that there is no peer; pip install nnsight==0.7.0")
        return []
    work = work_of(embedded())
    arms = {"a trace for each block": Peer(work, False).nats, "invokes of one trace": Peer(work, True).nats}
    found, parity = _measured(work, arms, pairs)
    name = min(arms, key=lambda arm: sorted(found[arm].baseline)[pairs // 2])
    both = {
        arm: {"ratio": round(p.median, 3), "low": round(p.low, 3), "high": round(p.high, 3)} for arm, p in found.items()
    }
    notes = {
        "baseline_is": f"{PEER} {version(PEER)}, {name}; losses from all logits",
        "both_ways": both,
        "flop_ratio": round(flop_ratio(work), 3),
        "aim_is": "out of reach where products dominate: nnsight computes 2 L + 1 whole passes, whose products are the "
        "FLOP ratio times ours; more can come only from what it does beside them",
    }
    return [of_pairs("ablation-peer", found[name], 1.5, 3.0, parity[name], UNIT, _settings(work) | notes)]


def _measured(
    work: Work, arms: dict[str, Callable[[], Array]], pairs: int
) -> tuple[dict[str, Pairs], dict[str, float]]:
    """Interleaved seconds of ours and every arm, and how far their losses are apart, relative.

    Raises:
        AssertionError: they are not the same.
    """
    every = {"ours": lambda: shared(work)} | arms
    seconds: dict[str, list[float]] = {name: [] for name in every}
    values: dict[str, Array] = {}
    for count in range(pairs + 1):  # the first round warms up
        for name, run in every.items():
            began = time.perf_counter()
            values[name] = run()
            if count:
                seconds[name].append(time.perf_counter() - began)
        if count:
            say("  " + ", ".join(f"{name} {taken[-1]:.2f} s" for name, taken in seconds.items()))
    parity = {name: float(np.abs(values["ours"] / values[name] - 1).max()) for name in arms}
    if max(parity.values()) > 1e-4:
        raise AssertionError(f"the arms do not compute the same losses: {parity}")
    spread = float(np.abs(values["ours"][1:] / values["ours"][:1] - 1).max())
    if spread < 1e-3:
        raise AssertionError("no block changes the loss")
    return {name: Pairs(tuple(seconds["ours"]), tuple(seconds[name])) for name in arms}, parity


def _settings(work: Work) -> dict[str, Any]:
    return {
        "model": work.grid.label,
        "blocks": len(work.ablation.blocks),
        "rows": f"{len(work.windows)} x {len(work.windows[0].tokens)} tokens, float32",
        "tokens_of_a_pass": "2,048 on every side",
        "threads": torch.get_num_threads(),
    }
