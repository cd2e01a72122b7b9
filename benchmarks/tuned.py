"""T, the tuned sequential loop: runs one after another in one process, each as fast as we could make it.

transformers' own decoder layers with the linear layers that a run adapts replaced by one that adds its product in place
and has a hand-written backward pass; no checkpointing; no padding; masks and position embeddings computed once; layers
below the lowest adapter without autograd; cross-entropy in chunks without a gradient of the head; fused AdamW;
torch.compile of each decoder layer as an option.

Shapes: N tokens, I and O input and output dimension, R rank, D hidden size, V vocabulary.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.grid import Grid, Run
from benchmarks.machine import now
from benchmarks.ours import Factors, start_of

CHUNK_TOKENS = 2_048


class _AddProduct(torch.autograd.Function):
    """y = x W' + s x A' B', in place; no gradient of W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_OI: Tensor, a_RI: Tensor, b_OR: Tensor, scaling: float) -> Tensor:
        x_NI = x.reshape(-1, x.shape[-1])
        y_NO = x_NI @ weight_OI.t()
        u_NR = x_NI @ a_RI.t().to(x.dtype)
        y_NO = y_NO.addmm_(u_NR, b_OR.t().to(x.dtype), alpha=scaling)
        ctx.save_for_backward(x_NI, weight_OI, a_RI, b_OR, u_NR)
        ctx.scaling = scaling
        return y_NO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_NI, weight_OI, a_RI, b_OR, u_NR = ctx.saved_tensors
        dy = grads[0]
        dy_NO = dy.reshape(-1, dy.shape[-1])
        du_NR = (dy_NO @ b_OR.to(dy.dtype)).mul_(ctx.scaling)
        db_OR = (dy_NO.t() @ u_NR).mul_(ctx.scaling).to(b_OR.dtype)
        da_RI = (du_NR.t() @ x_NI).to(a_RI.dtype)
        dx = None
        if ctx.needs_input_grad[0]:
            dx_NI = (dy_NO @ weight_OI).addmm_(du_NR, a_RI.to(dy.dtype))
            dx = dx_NI.view(*dy.shape[:-1], -1)
        return dx, None, da_RI, db_OR, None


class TunedLinear(nn.Module):
    """A frozen linear layer whose adapter can be exchanged: `a` and `b` are plain tensors or None."""

    def __init__(self, base: nn.Linear, scaling: float) -> None:
        super().__init__()
        assert base.bias is None, "the benchmark's models have no biases"
        self.weight = base.weight
        self.scaling = scaling
        self.a: Tensor | None = None
        self.b: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.a is None or self.b is None:
            return nn.functional.linear(x, self.weight)
        return _AddProduct.apply(x, self.weight, self.a, self.b, self.scaling)


class _CrossEntropy(torch.autograd.Function):
    """Mean NLL in chunks, and the gradient of the hidden states in the same pass."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, head_VD: Tensor, labels_N: Tensor) -> Tensor:
        grad_ND = torch.empty_like(hidden_ND)
        total = hidden_ND.new_zeros((), dtype=torch.float32 if hidden_ND.dtype == torch.bfloat16 else hidden_ND.dtype)
        count = labels_N.shape[0]
        for at in range(0, count, CHUNK_TOKENS):
            part = slice(at, at + CHUNK_TOKENS)
            logits = (hidden_ND[part] @ head_VD.t()).to(total.dtype)
            labels = labels_N[part, None]
            picked = logits.gather(1, labels)
            top = logits.amax(dim=1, keepdim=True)
            logits.sub_(top).exp_()
            mass = logits.sum(dim=1, keepdim=True)
            total += (mass.log() + top - picked).sum()
            logits.mul_(1.0 / (mass * count)).scatter_add_(1, labels, torch.full_like(mass, -1.0 / count))
            torch.mm(logits.to(head_VD.dtype), head_VD, out=grad_ND[part])
        ctx.save_for_backward(grad_ND)
        return total / count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_ND,) = ctx.saved_tensors
        return grad_ND.mul_(grads[0].to(grad_ND.dtype)), None, None


class _Recorded(Exception):
    """The arguments of the last layer are known; nothing more needs to be computed."""


class _State:
    """One run's adapters and optimiser."""

    def __init__(self, grid: Grid, run: Run, device: torch.device) -> None:
        given = grid.training
        dtype = torch.float64 if grid.model.dtype == torch.float64 else torch.float32
        self.run, self.taken = run, 0
        self.factors: Factors = {}
        for c in run.components:
            a = start_of(c, given.rank, dtype).to(device)
            b = torch.zeros(c.d_out, given.rank, dtype=dtype, device=device)
            self.factors[c.path] = (a.requires_grad_(), b.requires_grad_())
        self.parameters = [t for pair in self.factors.values() for t in pair]
        self.adamw = torch.optim.AdamW(
            self.parameters,
            lr=given.learning_rate,
            betas=(given.beta1, given.beta2),
            eps=given.epsilon,
            weight_decay=given.weight_decay,
            fused=True,
        )


class Tuned:
    """All runs of a grid, trained one after another; their states are kept so that blocks of steps can be timed.

    The grid's model is copied: the arms of a comparison share no module.
    """

    def __init__(self, grid: Grid, model: nn.Module, compiled: bool) -> None:
        self.grid, self.model = grid, model
        device = next(model.parameters()).device
        self.linears: dict[str, TunedLinear] = {}
        for c in grid.layout.components:
            parent, _, name = c.path.rpartition(".")
            self.linears[c.path] = TunedLinear(model.get_submodule(c.path), grid.training.scaling)
            setattr(model.get_submodule(parent), name, self.linears[c.path])
        self.decoder: Any = model.get_submodule(grid.layout.decoder)
        self.layers: list[Any] = [model.get_submodule(path) for path in grid.layout.layers]
        self.arguments = self._record(device)
        self.norm: Any = model.get_submodule(grid.layout.final_norm)
        self.head_VD: Tensor = model.get_submodule(grid.layout.head).weight
        self.device = device
        if compiled:
            torch._dynamo.config.recompile_limit = 128
            self.layers = [torch.compile(layer, dynamic=False) for layer in self.layers]
        self.states = {run.name: _State(grid, run, device) for run in grid.runs}

    @torch.no_grad()
    def _record(self, device: torch.device) -> list[dict[str, Any]]:
        """What the model hands to each layer beside the hidden states, for rows of one document; computed once."""
        kept: list[dict[str, Any]] = []

        def recorder(hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            assert not args
            kept.append({k: v for k, v in kwargs.items() if v is not None})
            if len(kept) == len(self.layers):
                raise _Recorded
            return hidden

        for layer in self.layers:
            layer.forward = recorder
        with suppress(_Recorded):
            self.decoder(input_ids=self.grid.tokens("0", 0).to(device), use_cache=False)
        for layer in self.layers:
            del layer.forward
        return kept

    def _install(self, run: Run) -> None:
        factors = self.states[run.name].factors
        for path, linear in self.linears.items():
            linear.a, linear.b = factors.get(path, (None, None))

    def _step(self, state: _State) -> None:
        tokens = self.grid.tokens(state.run.text, state.taken).to(self.device)
        hidden = self.hidden(tokens, state.run.lowest)
        loss = _CrossEntropy.apply(
            hidden[:, :-1].reshape(-1, hidden.shape[-1]), self.head_VD, tokens[:, 1:].reshape(-1)
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(state.parameters, self.grid.training.clip)
        state.adamw.step()
        state.adamw.zero_grad(set_to_none=True)
        state.taken += 1

    def hidden(self, tokens: Tensor, lowest: int) -> Tensor:
        """[rows, T, D] after the final norm, with the adapters now installed."""
        with torch.no_grad():
            hidden = self.decoder.embed_tokens(tokens)
            for layer, kwargs in zip(self.layers[:lowest], self.arguments):
                hidden = layer(hidden, **kwargs)
        for layer, kwargs in zip(self.layers[lowest:], self.arguments[lowest:]):
            hidden = layer(hidden, **kwargs)
        return self.norm(hidden)

    def advance(self, steps: int) -> float:
        """Take the next steps of every run, run after run; returns the seconds."""
        began = now()
        for state in self.states.values():
            self._install(state.run)
            for _ in range(steps):
                self._step(state)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return now() - began

    def factors(self) -> dict[str, Factors]:
        """Every run's factors as they are, by the run's name."""
        return {
            name: {path: (a.detach(), b.detach()) for path, (a, b) in state.factors.items()}
            for name, state in self.states.items()
        }
