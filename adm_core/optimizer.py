"""The optimiser of a run, made from its recipe."""

from __future__ import annotations

import torch

from adm_core.distiller import Distiller
from adm_core.recipe import Recipe


def make_optimizer(distiller: Distiller, recipe: Recipe) -> torch.optim.Optimizer:
    """One optimiser over all roles, a parameter group each, with the settings each network has in the recipe.

    The parts that a method trains follow the student's settings.
    """
    groups = []
    for role, parameters in distiller.parameter_groups().items():
        network = distiller.networks["teacher" if role == "teacher" else "student"]
        chosen = recipe.optimizer_of(network.name, role)
        groups.append({"params": parameters, "lr": chosen.lr, "weight_decay": chosen.weight_decay})
    base = recipe.optimizer
    if base.name == "adamw":
        return torch.optim.AdamW(groups, lr=base.lr, fused=True)
    return torch.optim.SGD(groups, lr=base.lr, momentum=base.momentum, nesterov=base.nesterov, fused=True)
