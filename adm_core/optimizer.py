"""The optimisers of a run, made from its recipe and from what its method asks for."""

from __future__ import annotations

import torch

from adm_core.distiller import Distiller
from adm_core.recipe import Recipe


def make_optimizers(distiller: Distiller, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """One optimiser over all roles, a parameter group each, with the settings each network has in the recipe.

    The parts that a method trains follow the student's settings; those for which it declares an optimiser of their
    own (``Method.optimizers``) get one each, after the first.
    """
    apart = distiller.parts_trained_apart()
    groups = []
    for role, parameters in distiller.parameter_groups().items():
        network = distiller.networks["teacher" if role == "teacher" else "student"]
        chosen = recipe.optimizer_of(network.name, role)
        groups.append({"params": parameters, "lr": chosen.lr, "weight_decay": chosen.weight_decay})
    base = recipe.optimizer
    first: torch.optim.Optimizer
    if base.name == "adamw":
        first = torch.optim.AdamW(groups, lr=base.lr, fused=True)
    else:
        first = torch.optim.SGD(groups, lr=base.lr, momentum=base.momentum, nesterov=base.nesterov, fused=True)
    own = [torch.optim.Adam(part.parameters(), lr=adam.lr, betas=adam.betas) for part, adam in apart]
    return [first, *own]
