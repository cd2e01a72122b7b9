"""Debiased CKA: 1 for the same states, about 0 for independent ones in many dimensions, blind to rotation and scale."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine_setup import RANK, SCALING, setup
from ldc.domains.windows import Window
from ldc.engine.drift import FIRST, LAST, batches_of, cka, debiased_hsic, drifts, hsic_terms, moved
from ldc.engine.gates import Update
from ldc.engine.sites import Sites, find_sites

UNITS = 40


def states(wide: int = 600, seed: int = 0) -> Tensor:
    return torch.randn(UNITS, wide, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value(x: Tensor, y: Tensor) -> float:
    return cka(np.array([hsic_terms(x, y)]))[0]


def test_hsic_is_the_sum_over_four_different_units() -> None:
    """The definition: a mean over all ordered quadruples of different units (Song et al. 2012, eq. 4)."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 7, 3))
    k, m = x @ x.T, y @ y.T
    n, total = len(k), []
    for i in range(n):
        for j in range(n):
            for q in range(n):
                for r in range(n):
                    if len({i, j, q, r}) == 4:
                        total.append(k[i, j] * (m[i, j] + m[q, r] - 2.0 * m[i, q]))
    found = debiased_hsic(torch.from_numpy(k), torch.from_numpy(m))
    assert found == pytest.approx(float(np.mean(total)), rel=1e-10)


def test_the_terms_are_those_of_numpy() -> None:
    x, y = states(30).numpy(), states(20, 1).numpy() + states(20, 0).numpy()

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        n = len(k)
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        one = np.ones(n)
        both = np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return (both - 2.0 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))

    k, m = x @ x.T, y @ y.T
    expected = (hsic(k, m), hsic(k, k), hsic(m, m))
    assert hsic_terms(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(expected, rel=1e-9)


def test_the_same_states_have_one_whatever_their_rotation_and_scale() -> None:
    x = states(50)
    rotation = torch.linalg.qr(torch.randn(50, 50, generator=torch.Generator().manual_seed(2), dtype=torch.float64))[0]
    assert value(x, x) == pytest.approx(1.0, abs=1e-12)
    assert value(x, 7.0 * x @ rotation) == pytest.approx(1.0, abs=1e-10)
    assert value(x, x + 3.0) == pytest.approx(1.0, abs=1e-10)  # a common offset is no difference


def test_independent_states_have_about_none_though_units_are_fewer_than_dimensions() -> None:
    parts = [hsic_terms(states(2_000, 2 * i), states(2_000, 2 * i + 1)) for i in range(40)]
    found, error = cka(np.array(parts))
    assert abs(found) < 4 * error
    assert error < 0.05
    x, y = states(2_000, 0), states(2_000, 1)
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    biased = float((x @ x.T * (y @ y.T)).sum() / torch.linalg.norm(x @ x.T) / torch.linalg.norm(y @ y.T))
    assert biased > 0.9  # what the estimate without debiasing says


def test_terms_are_averaged_before_they_are_divided() -> None:
    terms = np.array([[1.0, 4.0, 1.0], [3.0, 12.0, 3.0]])
    assert cka(terms)[0] == pytest.approx(2.0 / math.sqrt(8.0 * 2.0))
    assert moved(np.array([[1.0, 10.0], [3.0, 10.0]]))[0] == pytest.approx(0.2)
    assert math.isnan(moved(np.array([[1.0, 10.0]]))[1])


def test_too_few_units_have_no_value() -> None:
    x = states()[:3]
    assert math.isnan(value(x, x))


def window(length: int, document: int = 0) -> Window:
    ids = torch.randint(2, 300, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    return Window(document, tuple(ids), (False, *[True] * (length - 1)))


def test_short_windows_are_read_together_and_too_short_ones_not_at_all() -> None:
    sizes = [[len(w.tokens) for w in batch] for batch in batches_of([window(n) for n in (100, 20, 8, 20, 25, 50, 12)])]
    assert sizes == [[100], [20, 20, 25], [50, 12]]
    assert [[len(w.tokens) for w in batch] for batch in batches_of([window(9)])] == [[9]]
    assert batches_of([window(8)]) == []


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt_neox", "opt"])
def test_the_states_are_those_of_the_merged_model(family: str) -> None:
    given = setup(family)
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    for c in given.layout.components:
        if c.layer >= 1:
            generator = torch.Generator().manual_seed(len(factors))
            a = torch.randn(RANK, c.d_in, generator=generator, dtype=torch.float64)
            b = 0.05 * torch.randn(c.d_out, RANK, generator=generator, dtype=torch.float64)
            factors[c.path] = a, b
    components = tuple(c for c in given.layout.components if c.path in factors)
    update = Update(given.base, components, factors, RANK, SCALING)
    sites = find_sites(given.base)
    text = [window(60), window(30, 1), window(50, 2)]
    found = drifts(sites, update, (text[:1], text[1:]))
    assert set(found) == {(block, layer) for layer in range(4) for block in ("attn", "mlp", "stream")}
    before = [read(sites, w) for w in text]
    weights: Any = {c.path: given.base.root.get_submodule(c.path).weight for c in components}
    kept = {path: weight.detach().clone() for path, weight in weights.items()}
    try:
        for path, (a, b) in factors.items():
            weights[path].add_(SCALING * (b @ a).view_as(weights[path]))
        after = [read(sites, w) for w in text]
    finally:
        for path, weight in weights.items():
            weight.copy_(kept[path])
    for site, (drift, far) in found.items():
        x = [torch.cat([w[site] for w in half]) for half in (before[:1], before[1:])]
        y = [torch.cat([w[site] for w in half]) for half in (after[:1], after[1:])]
        alike = cka(np.array([hsic_terms(*pair) for pair in zip(x, y, strict=True)]))[0]
        assert drift.value == pytest.approx(1.0 - alike, abs=1e-9)
        both = torch.cat(x), torch.cat(y)
        assert far.value == pytest.approx(
            float((both[1] - both[0]).square().sum() / both[0].square().sum()), rel=1e-9, abs=1e-12
        )
        assert (far.value > 1e-6) == (site[1] >= 1)


def read(sites: Sites, chosen: Window) -> dict[tuple[str, int], Tensor]:
    """The last units of a window at every site, read alone."""
    seen: dict[tuple[str, int], Tensor] = {}
    count = min(LAST, len(chosen.tokens) - FIRST)
    tokens = torch.tensor([chosen.tokens])
    sites.read(tokens, lambda block, layer, x: seen.__setitem__((block, layer), x[0, -count:].clone()))
    return seen
