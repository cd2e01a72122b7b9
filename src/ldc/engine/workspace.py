"""A loaded model with all that its runs need: the frozen base, text in its tokens, what is known of its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from ldc.domains.document import DomainText
from ldc.engine.bank import Base
from ldc.engine.checkpoint import Checkpoint, Unkept
from ldc.engine.damage import damaged
from ldc.engine.feed import Feed
from ldc.engine.importance import signal_to_noise_ratios
from ldc.engine.samples import Samples
from ldc.engine.sites import Sites, find_sites
from ldc.engine.typical_words import counts
from ldc.models.load import LoadedModel
from ldc.models.quantised import plain_weight
from ldc.models.roles import Component
from ldc.plan.texts import Text
from ldc.plan.variants import Variant
from ldc.progress import Progress
from ldc.study.schema import Study


class Workspace:
    """What the kinds of run work with.

    Attributes:
        loaded: the model with its tokenizer.
        base: its parts.
        study: settings.
        feed: text as batches and windows.
        components: all of the model's.
        weight_norms: Frobenius norm of each component's weight as it is now, by path.
        checkpoint: keeps the state of the bank that is being computed.
    """

    def __init__(self, loaded: LoadedModel, base: Base, study: Study, domains: Mapping[str, DomainText]) -> None:
        self.loaded, self.base, self.study = loaded, base, study
        self.feed = Feed(study, domains, loaded.tokenizer, base.device)
        self.samples = Samples(loaded, base, study, self.feed.lessons)
        self.feed.writer = self.samples
        self.components = loaded.layout.components
        self.weight_norms: dict[str, float] = weight_norms(base, self.components)
        self.checkpoint: Checkpoint = Unkept()
        self._snr: dict[str, float] = {}
        self._counts: dict[str, NDArray[np.int64]] = {}

    @cached_property
    def sites(self) -> Sites:
        """Where the halves of every layer write to the stream.

        Raises:
            ModelError: they do not add up to what the layers do.
        """
        return find_sites(self.base)

    def token_counts(self, domain: str) -> NDArray[np.int64]:
        """How often each token occurs in the training text of a domain [V]; counted once."""
        if domain not in self._counts:
            vocabulary = self.base.head.weight_VD.shape[0]
            self._counts[domain] = counts(self.feed.domains[domain].train, self.feed.encoders[domain], vocabulary)
        return self._counts[domain]

    @property
    def knows_signal_to_noise(self) -> bool:
        """Whether the SNR of every weight is measured already."""
        return all(component.path in self._snr for component in self.components)

    def signal_to_noise(self, progress: Progress | None = None) -> Mapping[str, float]:
        """Spectrum's SNR of each component's weight as it is now, by path; measured once: minutes at 1 B parameters."""
        missing = [c.path for c in self.components if c.path not in self._snr]
        if progress is not None and missing:
            progress.stage(f"SNR of {self.loaded.name}'s weights", len(missing))
        for path in missing:
            self._snr[path] = float(signal_to_noise_ratios(self.base, [path])[0])
            if progress is not None:
                progress.advance(1)
        return self._snr

    @contextmanager
    def variant(self, variant: Variant | None, texts: Sequence[Text] = ()) -> Iterator[None]:
        """The model as this damaged variant, and its own again afterwards, to the bit.

        Args:
            variant: None leaves the model as it is.
            texts: what will be read: samples of the undamaged model are drawn before.
        """
        for text in texts:
            if text.source == "samples":
                self.samples.rows(text)
        if variant is None:
            yield
            return
        changed = variant.components(self.components)
        norms, snr = dict(self.weight_norms), dict(self._snr)
        with damaged(self.base, changed, variant.strength):
            self.weight_norms |= weight_norms(self.base, changed)
            for component in changed:
                self._snr.pop(component.path, None)
            try:
                yield
            finally:
                self.weight_norms, self._snr = norms, snr


def weight_norms(base: Base, components: Sequence[Component]) -> dict[str, float]:
    """Frobenius norm of each component's base weight, summed in float64; of an NF4 base, of the dequantised weight."""
    out = {}
    for component in components:
        weight = plain_weight(base.root.get_submodule(component.path))
        out[component.path] = float(torch.linalg.vector_norm(weight, dtype=torch.float64))
    return out
