"""The proxies of TE-NAS (Chen et al., ICLR 2021), whose ranking adds the ranks of both."""

from __future__ import annotations

import torch
from torch import Tensor

from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.samples import agreements, per_sample_gradients
from vkdnw_pl.proxies.graph import check_parameters, gradient_leaves


class LinearRegions(GraphProxy):
    """Number of different on-off patterns of the ReLUs of feature maps among the images, at most B. Higher is better."""

    info = ProxyInfo(
        name="linear_regions",
        title="Linear regions",
        input="images",
        needs_images=True,
        batchnorm="batch",
        least_samples=2,
        source="Chen et al., ICLR 2021 (TE-NAS); github.com/ondratybl/VKDNW, compute_te_nas_score.py",
        init="pytorch",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        kernel, units = borrowed.derived(
            self.batchnorm, "map agreement", lambda graph: agreements([r for r in graph.relus if r.dim() == 4])
        )
        same = kernel == units
        # Images of one pattern share one region: each of m such counts 1 / m.
        return {"linear_regions": float((1.0 / same.sum(1)).sum().round())}


class NTKCondition(GraphProxy):
    """``-λmax / λmin`` of the matrix of inner products of the gradients of ``Σ logits`` of the images. Higher is better:
    the sign makes it so.

    Gradients are taken with respect to the weights of convolution, linear and normalisation layers. No score where the
    matrix is singular to working precision (the official code returns what round-off makes of it, which may be negative
    or infinite).

    With ``batch`` an image's logits depend on the whole batch, so every image costs a backward pass over all images;
    with ``sample`` or ``running`` all gradients come from one vectorised pass.
    """

    info = ProxyInfo(
        name="ntk_condition",
        title="NTK condition",
        input="data",
        batchnorm="batch",
        least_samples=2,
        source="Chen et al., ICLR 2021 (TE-NAS); github.com/ondratybl/VKDNW, compute_te_nas_score.py",
        init="pytorch",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        named = gradient_leaves(borrowed.network)
        names = [name for name in named if name.rpartition(".")[2].endswith("weight")]
        if not names:
            raise UndefinedScore("the network has no weights")
        coupled = self.batchnorm == "batch" or borrowed.trace(self.batchnorm).coupled
        gradients = self._one_by_one(borrowed, names) if coupled else self._at_once(borrowed, names)
        return {"ntk_condition": -condition(gradients)}

    def _one_by_one(self, borrowed: Borrowed, names: list[str]) -> Tensor:
        graph = borrowed.graph(self.batchnorm)
        check_parameters(graph)
        weights = [graph.parameters[name] for name in names]
        rows = []
        for logits in graph.logits:
            grads = torch.autograd.grad(logits.sum(), weights, retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([g.flatten() for g in grads]))
        return torch.stack(rows)

    def _at_once(self, borrowed: Borrowed, names: list[str]) -> Tensor:
        plan = borrowed.trace(self.batchnorm)
        parts = per_sample_gradients(
            borrowed.network, names, borrowed.inputs, torch.sum, plan, batchnorm=self.batchnorm
        )
        return torch.cat([torch.cat([part[name].flatten(1) for name in names], 1) for part in parts])


def condition(grad_BP: Tensor) -> float:
    """λmax / λmin of ``G Gᵀ``, G the gradients (B, P); UndefinedScore where it is singular to their precision."""
    if not torch.isfinite(grad_BP).all():
        raise FloatingPointError("a gradient is not finite")
    kernel = torch.zeros(len(grad_BP), len(grad_BP), dtype=torch.float64, device=grad_BP.device)
    for part in grad_BP.split(65_536, dim=1):  # in parts, so that float64 costs little memory
        kernel += part.double() @ part.double().T
    eigenvalues = torch.linalg.eigvalsh(kernel)
    smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
    # Rounding changes the gradients by some ten units of their precision (equal images of NAS-Bench-201 networks were
    # 20 apart), so singular values of G below that are noise; an eigenvalue is the square of one.
    noise = max((64 * torch.finfo(grad_BP.dtype).eps) ** 2, torch.finfo(torch.float64).eps * len(grad_BP))
    if smallest <= largest * noise:
        raise UndefinedScore("the neural tangent kernel is singular to working precision")
    return largest / smallest
