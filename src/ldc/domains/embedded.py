"""The six domains that come with the package: two of installed code, four of synthetic text with computed answers."""

from __future__ import annotations

from functools import cache

from ldc.domains.code import cpp_documents, python_documents
from ldc.domains.document import Document, DomainText, Split
from ldc.domains.splits import assemble, drop_shared_lines, split_by_source, text_digest

EMBEDDED_DOMAINS = ("cpp", "python", "math", "science", "finance", "medical")
SYNTHETIC_DOMAINS = ("math", "science", "finance", "medical")
SYNTHETIC_SEED = 20261122
SYNTHETIC_DOCUMENTS = 6_000
SYNTHETIC_CHARACTERS = {"math": 2_730_693, "science": 3_006_897, "finance": 3_243_047, "medical": 3_048_993}
"""Characters of the training split of each, so that a study can be planned without making them."""


@cache
def embedded_domain(name: str) -> DomainText:
    """The embedded domain of that name, with a tenth of its sources for validation and a tenth for the test split.

    Leaves out validation and test documents of synthetic domains that share a line with a training document.
    """
    if name in SYNTHETIC_DOMAINS:
        from ldc.domains.synthetic import GENERATORS

        texts = GENERATORS[name](SYNTHETIC_SEED, SYNTHETIC_DOCUMENTS)
        documents = [Document(source=f"synthetic-{name}:{i}", text=text) for i, text in enumerate(texts)]
        splits = drop_shared_lines(split_by_source(documents, validation=0.1, test=0.1))
        return assemble(name, splits, synthetic=True)
    documents = list({"python": python_documents, "cpp": cpp_documents}[name]())
    return assemble(name, _without_repeats(split_by_source(documents, validation=0.1, test=0.1)))


def _without_repeats(splits: dict[Split, list[Document]]) -> dict[Split, list[Document]]:
    """Drop pieces of a later split whose text, blanks aside, is in an earlier one (licence blocks, vendored copies)."""
    seen: set[bytes] = set()
    out: dict[Split, list[Document]] = {}
    for name, documents in splits.items():
        before = set(seen)
        digests = [text_digest(d.text) for d in documents]
        out[name] = [d for d, digest in zip(documents, digests) if digest not in before]
        seen.update(digests)
    return out
