"""The ridge lens is least squares with a small ridge, and what the blocks take off the loss adds up to the model's."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

import engine_setup
from ldc.domains.windows import HeldOut, Window
from ldc.engine.bank import Bank
from ldc.engine.evaluate import PT, score
from ldc.engine.lens import RIDGE, AffineSums, fit_lenses, layers_at_once, lens_losses
from ldc.engine.sites import find_sites


def text(documents: int = 5, length: int = 24) -> HeldOut:
    """Random documents, the first of two windows, the last too short for a lens."""
    drawn = random.Random(4)
    windows = []
    for number in [0, *range(documents)]:
        size = 6 if number == documents - 1 else length - number
        tokens = (0, *(drawn.randrange(2, 300) for _ in range(size)))
        windows.append(Window(number, tokens, (False, *[True] * size)))
    tokens_of = [sum(len(w.tokens) - 1 for w in windows if w.document == d) for d in range(documents)]
    return HeldOut(tuple(map(str, range(documents))), tuple(windows), tuple(tokens_of), tuple(tokens_of))


def test_the_map_is_that_of_least_squares_with_a_ridge() -> None:
    generator = np.random.default_rng(0)
    h = generator.normal(size=(200, 6)) + 3
    y = h @ generator.normal(size=(6, 6)) + generator.normal(size=(200, 6)) - 2
    sums = AffineSums(6, torch.device("cpu"))
    for part in np.split(np.arange(200), [50, 51]):
        sums.add(torch.tensor(h[part]), torch.tensor(y[part]))
    a, b = sums.solve()
    hc, yc = h - h.mean(0), y - y.mean(0)
    ridge = RIDGE * np.trace(hc.T @ hc) / 6
    stacked = np.vstack([hc, np.sqrt(ridge) * np.eye(6)])
    expected = np.linalg.lstsq(stacked, np.vstack([yc, np.zeros((6, 6))]), rcond=None)[0]
    np.testing.assert_allclose(a.numpy(), expected, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(h.mean(0) @ a.numpy() + b.numpy(), y.mean(0), rtol=1e-9)


def test_nothing_to_fit_on_gives_the_mean() -> None:
    a, b = AffineSums(3, torch.device("cpu")).solve()
    assert not a.any()
    assert not b.any()


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt_neox", "opt"])
def test_the_last_stream_gives_the_models_own_loss_and_steps_add_up_to_it(family: str) -> None:
    setup = engine_setup.setup(family, torch.float32)
    sites, own = find_sites(setup.base), text()
    layers = len(setup.base.layers)
    rows = [w.tokens for w in own.windows]
    lenses = fit_lenses(sites, range(layers), rows, lambda _n: None)
    assert set(lenses) == {(name, layer) for name in ("before", "between") for layer in range(layers)}
    found = lens_losses(sites, lenses, own, 64, lambda _n: None)
    expected = score(Bank(setup.base, [], 1, 1.0), own.windows, [], 64, True)[PT]
    np.testing.assert_allclose(found["before", layers], expected, rtol=1e-5)
    steps = [found["before", n] - found["between", n] for n in range(layers)]
    steps += [found["between", n] - found["before", n + 1] for n in range(layers)]
    np.testing.assert_allclose(sum(steps), found["before", 0] - found["before", layers], rtol=1e-9, atol=1e-9)
    assert (np.abs(found["before", 0] - found["before", layers])[:4] > 1e-3).all()
    assert found["before", 0][4] == pytest.approx(found["before", layers][4])  # shorter than where a lens begins


def test_a_lens_on_one_site_is_what_numpy_makes_of_its_states() -> None:
    setup = engine_setup.setup("llama", torch.float64)
    sites, own = find_sites(setup.base), text()
    rows = [w.tokens for w in own.windows]
    a, b = fit_lenses(sites, range(1, 2), rows, lambda _n: None)["between", 1]
    h, y = [], []
    for row in rows:
        seen = {}
        sites.read(torch.tensor([row]), lambda block, layer, s, seen=seen: seen.update({(block, layer): s[0, 8:]}))
        h.append((seen["stream", 0] + seen["attn", 1]).numpy())
        y.append(seen["stream", len(setup.base.layers) - 1].numpy())
    hs, ys = np.concatenate(h), np.concatenate(y)
    hc, yc = hs - hs.mean(0), ys - ys.mean(0)
    gram = hc.T @ hc
    expected = np.linalg.solve(gram + RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram)), hc.T @ yc)
    np.testing.assert_allclose(a.numpy(), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(b.numpy(), ys.mean(0) - hs.mean(0) @ expected, rtol=1e-6, atol=1e-8)


def test_losses_do_not_depend_on_the_batch_nor_on_the_groups_of_layers() -> None:
    setup = engine_setup.setup("llama", torch.float64)
    sites, own = find_sites(setup.base), text()
    rows = [w.tokens for w in own.windows]
    whole = lens_losses(sites, fit_lenses(sites, range(4), rows, lambda _n: None), own, 1000, lambda _n: None)
    apart = {}
    for part in layers_at_once(4, engine_setup.HIDDEN, 2 * 32 * engine_setup.HIDDEN**2):
        assert len(part) == 2
        apart |= lens_losses(sites, fit_lenses(sites, part, rows, lambda _n: None), own, 1, lambda _n: None)
    assert whole.keys() == apart.keys()
    for site, nats in whole.items():
        np.testing.assert_allclose(nats, apart[site], rtol=1e-8)
