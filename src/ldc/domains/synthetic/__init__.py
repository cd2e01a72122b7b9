"""Seeded generators of synthetic domain text: `GENERATORS[domain](seed, count)` yields documents."""

from collections.abc import Callable, Iterator

from ldc.domains.synthetic import finance, math, medical, science

GENERATORS: dict[str, Callable[[int, int], Iterator[str]]] = {
    "math": math.documents,
    "science": science.documents,
    "finance": finance.documents,
    "medical": medical.documents,
}
