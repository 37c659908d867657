"""A linear layer whose matrix stays orthogonal while it is trained."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class OrthogonalLinear(nn.Module):
    """``x → P x``, P [outputs, inputs] with orthonormal columns, or orthonormal rows if there are fewer outputs.

    P is the product of reflections ``I - 2 v vᵀ / |v|²``, one for each column: v has a one at the column's own place,
    zeros above it, and what is trained below, so that P moves smoothly and is orthogonal whatever that is.
    ``torch.nn.utils.parametrizations.orthogonal`` would not do: of a matrix that is not square it keeps signs in the
    trained tensor, ±1 cut to whole numbers in each forward, and weight decay makes all of them zero in one step.

    Args:
        inputs: channels of x.
        outputs: channels of what is made.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.wide = inputs > outputs
        self.weight = nn.Parameter(torch.empty(max(inputs, outputs), min(inputs, outputs)))
        with torch.no_grad():
            self.weight.copy_(torch.geqrf(torch.randn(self.weight.shape))[0])

    def matrix(self) -> Tensor:
        """P."""
        below = self.weight.tril(-1)
        product: Tensor = torch.linalg.householder_product(below, 2 / (1 + below.square().sum(0)))
        return product.T if self.wide else product

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] → [..., outputs]."""
        return F.linear(x, self.matrix())
