"""Adam where it knows directions from coordinates: in the eigenbasis of the gradients' second moments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from cde_nets.options import double


class EigenbasisAdam(torch.optim.Optimizer):
    """Adam in the eigenbasis of E[g g^T], kept for blocks of at most `block` numbers.

    Adam divides each coordinate of a step by that coordinate's root mean square gradient, which is the inverse root of
    E[g g^T] if the coordinates are uncorrelated. The controls of random fields are not: every field mixes the same few
    directions that matter. A network of a few hundred numbers can afford the whole matrix, so the gradients g are
    turned into its eigenbasis Q, Adam is done there, and the step is turned back. With one block the steps do not
    depend on which basis of their span the fields are, up to `eps`. That is the full-matrix case of SOAP (Vyas et al.,
    "SOAP: improving and stabilizing Shampoo using Adam", 2024), which keeps Kronecker factors where networks are large.

    The numbers of all parameters of a group stand in one vector, which is cut into blocks of equal size, the last one
    filled up with zeros. Q is E[g g^T]'s eigenbasis after the first `every` steps (until then the identity) and is
    brought up to date every `every` steps by one step of orthogonal iteration.

    Args:
        params: parameters or groups of them; a group may set any of the options for itself.
        lr: the rate.
        betas: decay of the means of g (not turned) and of the squares of Q^T g, as in Adam.
        eps: added to the root mean square.
        decay: of the mean of g g^T.
        every: steps between two bases.
        block: most numbers a block; 1 is Adam.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        *,
        betas: tuple[float, float] = (0.95, 0.99),
        eps: float = 1e-8,
        decay: float = 0.98,
        every: int = 50,
        block: int = 1024,
    ) -> None:
        if not (lr >= 0 and math.isfinite(double(lr)) and eps > 0):
            raise ValueError(f"lr must be finite and at least 0, eps positive; got lr={lr}, eps={eps}.")
        if not all(0 <= rate < 1 for rate in (*betas, decay)):
            raise ValueError(f"betas and decay must lie in [0, 1); got betas={betas}, decay={decay}.")
        if every < 1 or block < 1:
            raise ValueError(f"every and block must be at least 1; got every={every}, block={block}.")
        options = {"lr": lr, "betas": betas, "eps": eps, "decay": decay, "every": every, "block": block}
        super().__init__(params, options)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; a closure is called first, with gradients, and its value returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._move(params, group)
        return loss

    def _move(self, params: list[Tensor], group: dict[str, Any]) -> None:
        numbers = sum(p.numel() for p in params)
        blocks = -(-numbers // group["block"])
        # All states of a group stand with its first parameter, where state_dict looks for them.
        state = self.state[params[0]]
        if not state:
            state.update(_begin(params[0], blocks, -(-numbers // blocks)))
        size = state["mean"].shape[1]
        gradient = torch.cat([p.grad.flatten() for p in params if p.grad is not None])
        cut = torch.nn.functional.pad(gradient, (0, blocks * size - numbers)).view(blocks, size)
        step = self._step(state, cut, group).flatten()[:numbers]
        for p, moved in zip(params, step.split([p.numel() for p in params]), strict=True):
            p.sub_(moved.view_as(p), alpha=group["lr"])

    @staticmethod
    def _step(state: dict[str, Tensor], gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """What is subtracted, over the rate, shape (blocks, size)."""
        first, second = group["betas"]
        state["step"] += 1
        count = int(state["step"])
        state["mean"].lerp_(gradient, 1 - first)
        turning = gradient.shape[1] > 1
        if turning:
            # Without bias correction: only the eigenvectors are read.
            state["outer"].baddbmm_(
                gradient[:, :, None], gradient[:, None, :], beta=group["decay"], alpha=1 - group["decay"]
            )
            if count % group["every"] == 0:
                _turn(state, first=count == group["every"])
        turned = _into(state["basis"], gradient) if turning else gradient
        state["square"].mul_(second).addcmul_(turned, turned, value=1 - second)
        mean = _into(state["basis"], state["mean"]) if turning else state["mean"]
        size = (state["square"] / (1 - second**count)).sqrt_().add_(group["eps"])
        step = mean / size / (1 - first**count)
        return torch.bmm(state["basis"], step[:, :, None])[:, :, 0] if turning else step


def _begin(like: Tensor, blocks: int, size: int) -> dict[str, Tensor]:
    square = like.new_zeros(blocks, size, size) if size > 1 else like.new_zeros(blocks, 0, 0)
    return {
        "step": torch.zeros((), device="cpu"),
        "mean": like.new_zeros(blocks, size),
        "square": like.new_zeros(blocks, size),
        "outer": square,
        "basis": square + torch.eye(size, dtype=like.dtype, device=like.device) if size > 1 else square.clone(),
    }


def _turn(state: dict[str, Tensor], *, first: bool) -> None:
    """Bring the basis up to date, and the mean squares with it, as if those in the old one were uncorrelated."""
    before, outer = state["basis"], state["outer"]
    if not bool(torch.isfinite(outer).all()):
        # Whoever watches the loss is to say so, not the decomposition.
        return
    after = torch.linalg.eigh(outer)[1].flip(-1) if first else torch.linalg.qr(torch.bmm(outer, before))[0]
    shares = torch.bmm(before.mT, after).square_()
    state["square"] = torch.bmm(state["square"][:, None, :], shares)[:, 0]
    # Where rounding depends on the order in memory, a basis read back from a file must be as the one that was kept.
    state["basis"] = after.contiguous()


def _into(basis: Tensor, vectors: Tensor) -> Tensor:
    return torch.bmm(vectors[:, None, :], basis)[:, 0]
