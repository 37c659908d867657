"""The optimisers of a run, made from its recipe and from what its method asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler

from adm_core.card import DISTILLATION, TASK
from adm_core.distiller import Distiller
from adm_core.errors import AdmError, Unsupported
from adm_core.outcome import Outcome
from adm_core.recipe import Recipe


def make_optimizers(distiller: Distiller, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """One optimiser over all roles, a parameter group each, with the settings each network has in the recipe.

    Branches and the parts that a method trains follow the student's settings; those for which it declares an optimiser
    of their own (``Method.optimizers``) get one each, after the first.
    """
    apart = distiller.parts_trained_apart()
    groups = []
    for role, parameters in distiller.trained.items():
        network = distiller.networks.get(role, distiller.networks["student"])
        chosen = recipe.optimizer_of(network.name, role)
        groups.append({"params": parameters, "lr": chosen.lr, "weight_decay": chosen.weight_decay})
    base = recipe.optimizer
    first: torch.optim.Optimizer
    if distiller.active and distiller.needs.gradient_groups:
        first = _grouped(groups, distiller, recipe)
    elif base.name == "adamw":
        first = torch.optim.AdamW(groups, lr=base.lr, fused=True)
    else:
        first = torch.optim.SGD(groups, lr=base.lr, momentum=base.momentum, nesterov=base.nesterov, fused=True)
        if base.momentum:
            # Fused, it cannot start the momentum of some weights of a group later than that of others. From zeros the
            # first step is the same to the bit.
            for parameters in distiller.trained.values():
                first.state.update({p: {"momentum_buffer": torch.zeros_like(p)} for p in parameters})
    own = [torch.optim.Adam(part.parameters(), lr=adam.lr, betas=adam.betas) for part, adam in apart]
    return [first, *own]


def _grouped(groups: list[dict[str, Any]], distiller: Distiller, recipe: Recipe) -> GroupedSGD:
    name, base = distiller.method.card.name, recipe.optimizer
    if reason := recipe.why_ungrouped():
        raise Unsupported(f"'{name}' {reason}")
    changes = {TASK: 0.0, DISTILLATION: 0.0, **distiller.method.momentum()}
    momenta = {group: base.momentum + change for group, change in changes.items()}
    if not all(0 <= momentum < 1 for momentum in momenta.values()):
        raise AdmError(f"method '{name}': momenta {momenta} are not all in [0, 1)")
    return GroupedSGD(groups, base.lr, momenta)


def backward(outcome: Outcome, optimizer: torch.optim.Optimizer, chunks: int, scaler: GradScaler | None) -> None:
    """Add the gradients of one forward pass to those that there are.

    Args:
        outcome: of the forward pass.
        optimizer: the first of the run; where it keeps groups of gradients apart, so does this.
        chunks: micro-batches of a step; the loss is divided by their number.
        scaler: of fp16 losses.
    """
    if not isinstance(optimizer, GroupedSGD):
        total = outcome.total / chunks if chunks > 1 else outcome.total
        (scaler.scale(total) if scaler else total).backward()
        return
    groups = list(outcome.groups.items())
    for name, total in groups:
        (total / chunks).backward(retain_graph=name != groups[-1][0])
        optimizer.collect(name)


def update(
    optimizers: Sequence[torch.optim.Optimizer],
    roles: Iterable[Iterable[torch.nn.Parameter]],
    clip_norm: float | None,
    scaler: GradScaler | None,
) -> None:
    """One step of every optimiser on the gradients that there are, which are gone then.

    Args:
        optimizers: of a run.
        roles: the parameters of each role.
        clip_norm: largest norm of a role's gradients, to which larger ones are brought; None: any.
        scaler: of fp16 losses.
    """
    if clip_norm:
        for optimizer in optimizers if scaler else ():
            scaler.unscale_(optimizer)  # type: ignore[union-attr]
        for parameters in roles:
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    for optimizer in optimizers:
        if scaler is None:
            optimizer.step()
        elif any(p.grad is not None for group in optimizer.param_groups for p in group["params"]):
            scaler.step(optimizer)  # it refuses one without gradients
        optimizer.zero_grad()
    if scaler:
        scaler.update()


class GroupedSGD(torch.optim.Optimizer):
    """SGD with one momentum buffer per group of gradients: ``v_g ← m_g v_g + g_g``, ``θ ← θ - lr Σ_g v_g``.

    Weight decay joins the gradients of the task. A parameter that one group alone reaches has the mean of all momenta,
    and the decay joins that group, as in DOT's code (megvii-research/mdistiller at a08d46f). After the backward pass of
    a group's loss :meth:`collect` takes the gradients away from the parameters.

    Args:
        parameters: as for any optimiser.
        lr: learning rate.
        momenta: group of gradients to its momentum.
    """

    def __init__(self, parameters: Iterable[dict[str, Any]], lr: float, momenta: Mapping[str, float]) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": 0.0})
        self.momenta = dict(momenta)
        self._collected: dict[str, dict[Tensor, Tensor]] = {}

    @torch.no_grad()
    def collect(self, group: str) -> None:
        """Take the parameters' gradients as those of a group; several takes before a step add up."""
        taken = self._collected.setdefault(group, {})
        for p in self._parameters():
            if p.grad is not None:
                taken[p] = taken[p].add_(p.grad) if p in taken else p.grad
                p.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that got a gradient of any group."""
        for options in self.param_groups:
            for p in options["params"]:
                given = {g: taken[p] for g, taken in self._collected.items() if p in taken}
                if not given:
                    continue
                if options["weight_decay"]:
                    decayed = TASK if TASK in given else next(iter(given))
                    given[decayed] = given[decayed] + options["weight_decay"] * p
                momenta = self.momenta if len(given) > 1 else dict.fromkeys(given, fmean(self.momenta.values()))
                for group, gradient in given.items():
                    if group not in self.state[p]:
                        self.state[p][group] = torch.zeros_like(p)
                    buffer = self.state[p][group]
                    p.sub_(buffer.mul_(momenta[group]).add_(gradient), alpha=options["lr"])
        self._collected = {}

    def _parameters(self) -> Iterable[Tensor]:
        return (p for options in self.param_groups for p in options["params"])
