"""What a forward pass of the distiller gives: the scalar to differentiate, and what it is made of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from adm_core.card import DISTILLATION, TASK
from adm_core.errors import AdmError
from adm_core.method import Losses


@dataclass(frozen=True)
class Outcome:
    """What one forward pass gave.

    Attributes:
        total: the scalar to differentiate.
        terms: every weighted term, detached, by ``role.name``; the task loss is ``role.task`` (unweighted), that of
            auxiliary predictions ``role.auxiliary`` (weighted as the network says); the method's own ``parts.name``.
            A term called ``task`` stands for a task loss of weight 0.
        log: what the method logs, detached.
        groups: the total split into the networks' own losses (``task``), terms that are groups of their own, and the
            method's other terms (``distillation``); empty unless the method asks for it.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    log: Mapping[str, Tensor]
    groups: Mapping[str, Tensor] = field(default_factory=dict)


def collect(
    method: str,
    losses: Losses,
    tasks: Mapping[str, Tensor],
    auxiliary: Mapping[str, Tensor],
    apart: Collection[str] = (),
) -> Outcome:
    """Sum up the losses of a batch.

    A loss of weight 0 is told among the terms and is no part of the total: what depends on it alone gets no gradient,
    not one of zeros, by which weight decay and momentum would move it all the same.

    Args:
        method: its name, for messages.
        losses: what it asks for.
        tasks: the task loss of each network that trains, by role; scalars.
        auxiliary: the weighted loss of auxiliary predictions, by role.
        apart: groups of gradients, terms that are their own among them; empty: the total is not split.

    Raises:
        AdmError: the method gives something else than losses; a term or a value to log is no scalar tensor, or such a
            value is not where the losses are; a term trains nothing, or is for a network that there is none of; or
            there is nothing to train on.
    """
    if not isinstance(losses, Losses):
        raise AdmError(f"method '{method}': losses() must return Losses, not {type(losses).__name__}")
    terms: dict[str, Tensor] = {}
    parts: list[Tensor] = []
    groups: dict[str, Tensor] = {}
    for name, weight, term, group in _weighted(method, losses, tasks, auxiliary):
        terms[name] = term.detach()
        if weight == 0:
            continue
        part = term if weight in (None, 1) else weight * term
        parts.append(part)
        if apart:
            own = group if group == TASK or group in apart else DISTILLATION
            groups[own] = groups[own] + part if own in groups else part
    total = sum(parts[1:], parts[0]) if parts else tasks["student"].new_zeros(())
    if torch.is_grad_enabled() and not total.requires_grad:
        raise AdmError(
            f"method '{method}': nothing to train on in this step: all task losses have weight 0, without a term"
        )
    for name, value in losses.log.items():
        _check_scalar(f"method '{method}': log value '{name}'", value)
        if value.device != total.device:
            raise AdmError(f"method '{method}': log value '{name}' must be on {total.device}, not {value.device}")
    return Outcome(total, terms, {name: value.detach() for name, value in losses.log.items()}, groups)


def _weighted(
    method: str, losses: Losses, tasks: Mapping[str, Tensor], auxiliary: Mapping[str, Tensor]
) -> Iterator[tuple[str, float | None, Tensor, str]]:
    """Name, weight where it is not yet in the term, term and what group it may be, role by role."""
    own = {"student": losses.student, "teacher": losses.teacher, **losses.peers}
    for role, extra in own.items():
        if role not in tasks and extra:
            raise AdmError(f"method '{method}': terms for '{role}' ({', '.join(extra)}), which does not train here")
    for role, task in tasks.items():
        if role == "teacher" and losses.teacher_paused:
            continue
        weight = losses.teacher_task if role == "teacher" else losses.student_task
        taken = {"task": weight}
        yield f"{role}.task", weight, task, TASK
        if role in auxiliary:
            apart = None if role == "teacher" else losses.student_auxiliary
            taken["auxiliary"] = weight if apart is None else apart
            yield f"{role}.auxiliary", taken["auxiliary"], auxiliary[role], TASK
        for name, term in own.get(role, {}).items():
            if taken.get(name):  # one of weight 0 may have its place taken
                told = f"a term of its own is called '{name}', as the {role}'s is"
                raise AdmError(f"method '{method}': {told}; rename it")
            _check_term(method, role, name, term)
            yield f"{role}.{name}", None, term, name
    for name, term in losses.parts.items():
        _check_term(method, "parts", name, term)
        yield f"parts.{name}", None, term, name


def _check_term(method: str, role: str, name: str, term: Tensor) -> None:
    where = f"method '{method}': {role} term '{name}'"
    _check_scalar(where, term)
    if torch.is_grad_enabled() and not term.requires_grad:
        raise AdmError(f"{where} does not depend on any trainable weight, so it would train nothing")


def _check_scalar(where: str, value: Tensor) -> None:
    if not isinstance(value, Tensor) or value.dim() != 0:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise AdmError(f"{where} must be a scalar tensor, not {shape}")
