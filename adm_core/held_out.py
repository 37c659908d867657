"""A share of the training images that networks are judged on and not trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HeldOut(nn.Module):
    """Which training examples are held out, and a running mean of the covariance of networks' errors on them.

    The choice draws from torch's global generator; it and the mean travel in checkpoints.

    Args:
        examples: size of the training set, N.
        share: of it that is held out, in (0, 1); one example at least.
        networks: n; the covariance begins as the identity, that of networks that err alike and apart.
        decay: of the running mean, in [0, 1).
    """

    chosen: Tensor
    covariance: Tensor

    def __init__(self, examples: int, share: float, networks: int, decay: float) -> None:
        super().__init__()
        chosen = torch.zeros(examples, dtype=torch.bool)
        chosen[torch.randperm(examples)[: max(round(share * examples), 1)]] = True
        self.register_buffer("chosen", chosen)
        self.register_buffer("covariance", torch.eye(networks))
        self.decay = decay

    def holds(self, index: Tensor) -> Tensor:
        """Whether examples at positions [B] of the training set are held out: bool [B]."""
        return self.chosen[index]

    @torch.no_grad()
    def take_in(self, covariance: Tensor, held: Tensor) -> None:
        """Move the mean towards a batch's covariance, unless none of the batch is held out.

        Args:
            covariance: [n, n], of the held-out examples of the batch.
            held: bool [B].
        """
        share = (1 - self.decay) * held.any()
        self.covariance.lerp_(covariance.to(self.covariance.dtype), share.to(self.covariance.dtype))
