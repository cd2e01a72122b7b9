"""Linear discriminants in closed form from sums: how many bits a state tells about the class of its text.

Shapes: U units (a position of a document), D dimensions, K classes, X discriminants that read the same units. All
float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ldc.engine.units import balanced

NEGLIGIBLE = 1e-12
"""A dimension whose variance within classes is at most this share of its mean square is constant but for rounding."""
STEPS = 60
LARGEST = 10.0
"""Steps of bisection for the inverse temperature, and the largest one: a few units without an error must not make a
probe certain of everything."""


@dataclass(frozen=True)
class Discriminant:
    """The linear discriminant of classes that are equally likely: the scores of x are `weight_KD x + bias_K`.

    Attributes:
        weight_KD, bias_K: before a temperature.
        kept: the weight of the sample in the shrunk covariance; 1 would be no shrinkage.
    """

    weight_KD: Tensor
    bias_K: Tensor
    kept: float

    def scores(self, x_UD: Tensor) -> Tensor:
        """Scores [U, K]."""
        return x_UD @ self.weight_KD.T + self.bias_K


@dataclass(frozen=True)
class ClassSums:
    """What a discriminant is made of.

    Attributes:
        n_K: units of each class.
        sum_KD: the sum of the states of each class.
        moment_DD: the sum of x x' over all units.
    """

    n_K: Tensor
    sum_KD: Tensor
    moment_DD: Tensor

    @property
    def usable(self) -> bool:
        """Whether every class has a unit, and there are more units than classes."""
        return bool((self.n_K > 0).all()) and float(self.n_K.sum()) > len(self.n_K)

    @cached_property
    def means_KD(self) -> Tensor:
        """The mean state of each class."""
        return self.sum_KD / self.n_K[:, None]

    @cached_property
    def within_DD(self) -> Tensor:
        """The pooled covariance within classes, over n - K degrees of freedom."""
        scatter_DD = self.moment_DD - self.sum_KD.T @ self.means_KD
        return scatter_DD / (self.n_K.sum() - len(self.n_K))

    @cached_property
    def inverse_sd_D(self) -> Tensor:
        """One over the standard deviation within classes; 0 where a dimension is constant."""
        variance_D = self.within_DD.diagonal()
        square_D = self.moment_DD.diagonal() / self.n_K.sum()
        return torch.where(variance_D > NEGLIGIBLE * square_D, variance_D.clamp(min=0).rsqrt(), 0.0)

    @cached_property
    def correlation_DD(self) -> Tensor:
        """The covariance within classes of standardised dimensions."""
        return self.within_DD * self.inverse_sd_D * self.inverse_sd_D[:, None]

    @cached_property
    def kept(self) -> float:
        """The weight of the sample in the shrunk covariance, of `shrinkage`."""
        return shrinkage(self.correlation_DD, float(self.n_K.sum()))

    @cached_property
    def solved_DK(self) -> Tensor:
        """S*^-1 mu of the classes, both standardised."""
        size = len(self.correlation_DD)
        shrunk_DD = self.kept * self.correlation_DD
        spread = float(self.correlation_DD.diagonal().sum()) / size
        shrunk_DD.diagonal().add_((1 - self.kept) * spread if spread > 0 else 1.0)
        return torch.cholesky_solve((self.means_KD * self.inverse_sd_D).T, torch.linalg.cholesky(shrunk_DD))


def shrinkage(s_DD: Tensor, n: float) -> float:
    """The weight of a sample covariance against (tr S / D) I, in [0, 1].

    Source: Bodnar, Gupta and Parolya 2014, optimal linear shrinkage with the target (tr S / D) I.

    Args:
        n: the size of the sample.
    """
    trace = float(s_DD.diagonal().sum())
    target = trace**2 / len(s_DD)
    apart = float((s_DD**2).sum()) * target - target**2
    if apart <= NEGLIGIBLE * target**2:
        return 0.0  # the sample is the target
    return min(1.0, max(0.0, 1.0 - trace**2 * target / n / apart))


def discriminant(sums: ClassSums) -> Discriminant | None:
    """The discriminant with equal priors on standardised dimensions and the shrunk covariance; None if not usable.

    score_c(x) = mu_c' S*^-1 x - mu_c' S*^-1 mu_c / 2
    """
    if not sums.usable:
        return None
    weight_KD = sums.solved_DK.T * sums.inverse_sd_D
    return Discriminant(weight_KD, -0.5 * (weight_KD * sums.means_KD).sum(1), sums.kept)


def separability(sums: ClassSums) -> Tensor:
    """[K] tr(S*^-1 S_B) of each class against all others; NaN if not usable.

    S_B = p (1 - p) d d', with p the share of the class and d its mean less that of the others, standardised; S* is the
    pooled covariance of all K classes within them, standardised and shrunk.
    """
    if not sums.usable:
        return torch.full_like(sums.n_K, math.nan)
    against_KK = _one_against_rest(sums.n_K)
    products_KK = (sums.means_KD * sums.inverse_sd_D) @ sums.solved_DK
    return _spread(sums.n_K) * torch.einsum("ck,kj,cj->c", against_KK, products_KK, against_KK)


def trace_ratio(sums: ClassSums) -> Tensor:
    """[K] tr S_B / tr S_W of each class against all others, in the state's own units; NaN if not usable."""
    total = sums.within_DD.diagonal().sum()
    if not sums.usable or not total > 0:
        return torch.full_like(sums.n_K, math.nan)
    apart_KD = _one_against_rest(sums.n_K) @ sums.means_KD
    return _spread(sums.n_K) * (apart_KD**2).sum(1) / total


def inverse_temperatures(scores_XUK: Tensor, labels_XU: Tensor, weight_U: Tensor) -> Tensor:
    """[X] for each discriminant the b in [0, LARGEST] that makes softmax(b score) fit its labels best.

    The weighted cross-entropy is convex in b, so its slope is bisected. b = 0, which says nothing, is taken where no
    positive b is better; 1 where there are no units.
    """
    if not len(weight_U):
        return scores_XUK.new_ones(len(scores_XUK))
    own_XU = scores_XUK.gather(2, labels_XU[..., None])[..., 0]

    def slope(b_X: Tensor) -> Tensor:
        p_XUK = (b_X[:, None, None] * scores_XUK).softmax(dim=2)
        return (((p_XUK * scores_XUK).sum(2) - own_XU) * weight_U).sum(1)

    low_X = scores_XUK.new_zeros(len(scores_XUK))
    high_X = torch.full_like(low_X, LARGEST)
    useless_X = slope(low_X) >= 0
    for _ in range(STEPS):
        middle_X = torch.where(low_X > 0, (low_X * high_X).sqrt(), high_X / 10)
        rising_X = slope(middle_X) > 0
        low_X, high_X = torch.where(rising_X, low_X, middle_X), torch.where(rising_X, middle_X, high_X)
    return torch.where(useless_X, 0.0, low_X)


def bits(scores_XUK: Tensor, labels_XU: Tensor, b_X: Tensor) -> Tensor:
    """[X, U] -log2 p of each unit's label under softmax(b score)."""
    log_p_XUK = (b_X[:, None, None] * scores_XUK).log_softmax(dim=2)
    return -log_p_XUK.gather(2, labels_XU[..., None])[..., 0] / math.log(2)


def crossed_bits(scores_XUK: Tensor, labels_XU: Tensor, class_U: Tensor, document_U: Tensor) -> Tensor:
    """[X, U] -log2 p of each unit's label, under the temperature that fits the other half of the documents best.

    Documents are halved by pairs of neighbours in the order of their numbers. With nothing in the other half the scores
    say nothing: every class is as likely.

    Args:
        class_U: by which the units that fit a temperature are weighted, every class alike.
        document_U: the number of each unit's document.
    """
    _, rank_U = torch.unique(document_U, return_inverse=True)
    half_U = rank_U // 2 % 2
    loss_XU = torch.zeros(labels_XU.shape, dtype=scores_XUK.dtype, device=scores_XUK.device)
    for half in (0, 1):
        own_U, other_U = half_U == half, half_U != half
        if other_U.any():
            weight_U = balanced(class_U[other_U], document_U[other_U])
            b_X = inverse_temperatures(scores_XUK[:, other_U], labels_XU[:, other_U], weight_U)
        else:
            b_X = scores_XUK.new_zeros(len(scores_XUK))
        loss_XU[:, own_U] = bits(scores_XUK[:, own_U], labels_XU[:, own_U], b_X)
    return loss_XU


def _one_against_rest(n_K: Tensor) -> Tensor:
    """[K, K]: row c times the class means is the mean of c less that of all other units."""
    rest_K1 = (n_K.sum() - n_K)[:, None]
    weights_KK = -n_K.expand(len(n_K), -1) / rest_K1
    return weights_KK.clone().fill_diagonal_(1.0)


def _spread(n_K: Tensor) -> Tensor:
    share_K = n_K / n_K.sum()
    return share_K * (1 - share_K)
