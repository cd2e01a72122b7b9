"""Peak memory of a model's banks as a sum of named terms, and from it how many runs a bank may hold. Pure arithmetic.

Each term is one function or one line here. Change this file when the engine changes what it keeps.
Measured against: benchmarks/true_shape.py (CPU), benchmarks/gpu_models.py (GPU); figures in docs/log.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ldc.models.shapes import ModelShape
from ldc.plan.arms import adapter_of, components_of
from ldc.plan.banks import BANK_TOKENS
from ldc.plan.measuring import gradient_bytes
from ldc.study.regimes import Regime
from ldc.study.schema import Study

PRECISIONS = ("float32", "bfloat16", "nf4")
BYTES = {"float32": 4.0, "bfloat16": 2.0, "nf4": 2.0}
"""Bytes of a number that is computed with."""
NF4_BYTES = 0.5 + 4 / 64
"""Bytes of a weight in NF4: four bits, and a float32 scale for each block of 64."""
BACKWARD_ROWS = 16
"""Fitted: on a CPU the backward thread's temporaries do not come from what the forward pass freed."""
HELD = 1.3
"""Fitted, the largest of five (1.11 to 1.31; SmolLM2-135M, banks of 6 to 30 runs): on a CPU glibc holds free memory
between blocks that are in use."""
LIBRARIES_BYTES = 530_000_000
"""Python, torch, transformers and the tables' libraries, resident before a model is loaded."""
CONTEXT_BYTES = 900_000_000
"""On a GPU: its context, the libraries' kernels and workspaces."""
PROBE_BYTES = 2**31
"""Sums of a probe that are held at a time; where all sites need more, the text is read once for each group of sites."""
SHARE_OF_MEMORY = 0.85
"""The share of memory that a bank may plan with."""
_FOUR_NORMS = ("gemma2", "gemma3")
_HEAD_NORMS = ("gemma3", "qwen3")


@dataclass(frozen=True, slots=True)
class Memory:
    """Peak bytes of one model on its device, by what they hold.

    `loading` is a peak of its own, before training; `measuring` (gradient saliency) another, after it, beside adapters;
    `full` a third, of full fine-tuning, which is done one run at a time; `legs` a fourth, of the sums of a probe.
    """

    precision: str
    bank_runs: int
    libraries_bytes: int
    weights_bytes: int
    loading_bytes: int
    adapters_bytes: int
    activations_bytes: int
    head_bytes: int
    measuring_bytes: int = 0
    full_bytes: int = 0
    legs_bytes: int = 0

    @property
    def bank_bytes(self) -> int:
        """Libraries and weights, with whichever is larger: loading, or training and scoring a bank, or measuring."""
        work = self.adapters_bytes + max(self.activations_bytes + self.head_bytes, self.measuring_bytes)
        return self.libraries_bytes + self.weights_bytes + max(self.loading_bytes, work)

    @property
    def total_bytes(self) -> int:
        """The peak: of the banks, or of full fine-tuning or a probe if that needs more."""
        work = max(self.full_bytes, self.legs_bytes)
        return max(self.bank_bytes, self.libraries_bytes + self.weights_bytes + work)


def memory_of(shape: ModelShape, study: Study, precision: str, on_gpu: bool, runs: int) -> Memory:
    """The memory of a bank of `runs` trained runs with the study's settings.

    Args:
        shape: the model's.
        precision: float32, bfloat16 or nf4.
        on_gpu: whether the memory is a GPU's; loading then maps no file into it.
        runs: trained runs in the bank.
    """
    training, evaluation = study.training, study.evaluation
    tokens = runs * training.batch * training.block_length
    scored = evaluation.batch_tokens
    trained = tokens * (activation_bytes(shape, study, precision) + backward_bytes(shape, precision))
    return Memory(
        precision=precision,
        bank_runs=runs,
        libraries_bytes=CONTEXT_BYTES if on_gpu else LIBRARIES_BYTES,
        weights_bytes=weights_bytes(shape, precision),
        loading_bytes=0 if on_gpu else shape.weight_bytes,
        adapters_bytes=round(runs * adapter_bytes(shape, study)),
        activations_bytes=round(max(trained * (1.0 if on_gpu else HELD), scored * passing_bytes(shape, precision))),
        head_bytes=round(
            min(max(tokens, scored), chunk_tokens(shape.vocabulary, on_gpu)) * head_bytes(shape, precision)
        ),
        measuring_bytes=measuring_bytes(shape, study, precision, on_gpu),
        full_bytes=full_bytes(shape, study, precision, on_gpu),
        legs_bytes=round(legs_bytes(shape, study) + scored * passing_bytes(shape, precision)),
    )


def legs_bytes(shape: ModelShape, study: Study) -> int:
    """A probe: second moments of every site and of pairs of sites in float64, in groups of sites that take at most
    PROBE_BYTES or one site's; and the weights that are kept while others are drawn at random."""
    if "representation" not in study.legs:
        return 0
    of_site = 8 * (2 * shape.hidden) ** 2 * 3  # of each fold, and of both together
    return max(of_site, min(PROBE_BYTES, 3 * shape.layers * of_site)) + 4 * shape.parameters


def full_bytes(shape: ModelShape, study: Study, precision: str, on_gpu: bool) -> int:
    """Full fine-tuning: of each weight its old value and its gradient in the base's precision; the master, its gradient
    and AdamW's two moments in float32; and one run's batch forward and backward."""
    regimes = [r for r in study.regimes.values() if r.full]
    if not regimes or precision == "nf4":
        return 0
    tuned = max(sum(c.d_in * c.d_out for c in components_of(r, "", "", shape.components)) for r in regimes)
    tokens = study.training.batch * study.training.block_length
    passing = tokens * (activation_bytes(shape, study, precision) + backward_bytes(shape, precision))
    head = min(tokens, chunk_tokens(shape.vocabulary, on_gpu)) * head_bytes(shape, precision)
    return round((2 * BYTES[precision] + 16) * tuned + passing + head)


def measuring_bytes(shape: ModelShape, study: Study, precision: str, on_gpu: bool) -> int:
    """Gradient saliency: the gradients of a group of weights, and one text's batch forward and backward."""
    if "saliency" not in study.selection.measures or precision == "nf4":
        return 0
    tokens = study.training.batch * study.training.block_length
    passing = tokens * (activation_bytes(shape, study, precision) + backward_bytes(shape, precision))
    head = min(tokens, chunk_tokens(shape.vocabulary, on_gpu)) * head_bytes(shape, precision)
    return round(gradient_bytes(shape, BYTES[precision]) + passing + head)


def weights_bytes(shape: ModelShape, precision: str) -> int:
    """The frozen base. In NF4 the projections take four bits; embeddings, norms and whatever else stay bfloat16."""
    if precision == "nf4":
        return round(NF4_BYTES * shape.linear_parameters + 2 * (shape.parameters - shape.linear_parameters))
    return round(BYTES[precision] * shape.parameters)


def adapter_bytes(shape: ModelShape, study: Study) -> float:
    """Of one run: factors, gradients and AdamW's two moments in float32. The mean over the study's fixed regimes of one
    rank, which share banks; of the rank that takes the most."""
    regimes = [r for r in study.regimes.values() if r.choice is None and not r.full] or [Regime(block="all")]
    counted: dict[int, list[int]] = {}
    for regime in regimes:
        widths = sum(c.d_in + c.d_out for c in components_of(regime, "", "", shape.components))
        counted.setdefault(adapter_of(study, regime, shape.components).rank, []).append(widths)
    return max(16.0 * rank * sum(widths) / len(widths) for rank, widths in counted.items())


def activation_bytes(shape: ModelShape, study: Study, precision: str) -> float:
    """What a training token leaves behind for the backward pass, in all layers.

    In each layer: the inputs of the norms, which these keep in float32; two normed states; queries; keys, values and
    the attention's output, widened to the number of queries; gate, activated gate, up, and their product; the inner
    states of the adapters; a row of the mask that keeps documents apart, in float32.
    """
    number, layer = BYTES[precision], [c for c in shape.components if c.layer == 0]
    queries = sum(c.d_in for c in layer if c.name.endswith(("o_proj", "out_proj"))) or shape.hidden
    keys = sum(c.d_out for c in layer if c.name.endswith("k_proj"))
    normed = (4 if shape.model_type.startswith(_FOUR_NORMS) else 2) * shape.hidden
    normed += queries + keys if shape.model_type.startswith(_HEAD_NORMS) else 0
    inner = study.adapter.rank * len(layer) + study.training.block_length
    wide = _widest(shape)
    return shape.layers * (4 * (normed + inner) + number * (2 * shape.hidden + 4 * queries + 4 * wide))


def backward_bytes(shape: ModelShape, precision: str) -> float:
    """What the backward pass holds of a token beside that, in one layer: BACKWARD_ROWS rows as wide as the MLP."""
    return BACKWARD_ROWS * BYTES[precision] * _widest(shape)


def passing_bytes(shape: ModelShape, precision: str) -> float:
    """What a scored token holds while it passes through a layer; nothing stays afterwards."""
    return BYTES[precision] * (3 * _widest(shape) + 6 * shape.hidden)


def _widest(shape: ModelShape) -> int:
    return max(c.d_in for c in shape.components if c.layer == 0 and c.block == "mlp")


def chunk_tokens(vocabulary: int, on_gpu: bool) -> int:
    """Tokens whose logits the head holds at a time.

    On a CPU few enough for its cache, and fewer where the vocabulary is large, but enough for a matrix product.
    """
    return 2_048 if on_gpu else max(256, min(512, 3 * 2**24 // vocabulary))


def head_bytes(shape: ModelShape, precision: str) -> float:
    """Of one token of a chunk: its logits, in float32; of a base in less, these and its own beside, and their slope."""
    return (4.0 if precision == "float32" else 8.0) * shape.vocabulary


def bank_size(
    shape: ModelShape, study: Study, available_bytes: int, precision: str = "float32", on_gpu: bool = False
) -> int:
    """How many trained runs share a bank: as many as fill it with BANK_TOKENS tokens, or fewer if memory is short.

    At least one: if a single run does not fit, the user has to lower the study's settings.
    """
    most = max(1, BANK_TOKENS // (study.training.batch * study.training.block_length))
    fitting = (
        n
        for n in range(most, 1, -1)
        if memory_of(shape, study, precision, on_gpu, n).bank_bytes <= SHARE_OF_MEMORY * available_bytes
    )
    return next(fitting, 1)


def stage_one_bank(study: Study, per_bank: int) -> int:
    """Trained runs in a bank of the first stage: the most runs of one model and rank in equal shares."""
    fixed = [r for r in study.regimes.values() if r.choice is None and not r.full]
    alike = Counter((r.rank, r.budget) for r in fixed)
    runs = max(1, len(study.domains) * len(study.seeds) * max(alike.values(), default=0))
    return -(-runs // -(-runs // per_bank))
