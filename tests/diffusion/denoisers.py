"""Denoisers whose images are known: they tell the clean image they stand for, in any space of prediction."""

import torch
from torch import Tensor, nn

from tasks.diffusion.sampling import Schedule


class Remembering(nn.Module):
    """Knows a function from the noisy image to the clean one, and predicts what follows from it."""

    def __init__(self, schedule: Schedule, clean=torch.tanh) -> None:
        super().__init__()
        self.process, self.clean, self.labels = schedule.process(), clean, []

    def forward(self, noisy: Tensor, timestep: Tensor, label: Tensor | None = None) -> Tensor:
        self.labels.append(label)
        clean = self.clean(noisy)
        alpha, sigma = self.process.levels(timestep)
        return self.process.target(clean, (noisy - alpha * clean) / sigma, timestep)


class Broken(nn.Module):
    """Predicts NaN for the third image of a batch."""

    def forward(self, noisy: Tensor, timestep: Tensor, label: Tensor | None = None) -> Tensor:
        found = noisy.clone()
        found[2, 0, 0, 0] = torch.nan
        return found
