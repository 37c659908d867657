"""Promises about what a method is fed beside whole labelled images: pictures without labels, and void pixels."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import torch
from torch import Tensor

from adm_core.batch import Batch
from adm_core.losses.spatial import at_size
from adm_core.method import Losses, View
from adm_core.testing.networks import CLASSES
from adm_core.testing.setup import Setup, by_role


def unlabelled_are_read(setup: Setup) -> str:
    """Whether what is asked for counts, as it costs every network a further pass; empty, or what is wrong."""
    if not setup.method.needs.unlabelled:
        return ""
    batch, differs = setup.batch(0), False
    assert batch.unlabelled_input is not None
    other = replace(batch, unlabelled_input=batch.unlabelled_input.flip(2).mul(2))
    for progress in setup.moments():
        totals = []
        for fed in (batch, other):
            state = copy.deepcopy(setup.distiller.state_dict())
            total = _total(setup.losses_of(setup.distiller.views(fed)[0], fed, progress))
            setup.distiller.load_state_dict(state)  # statistics and memories move on with every pass
            totals.append(None if total is None else float(total.detach()))
        differs |= totals[0] != totals[1]
    return "" if differs else "needs.unlabelled is declared, and other pictures without labels give the same losses"


def void_is_ignored(setup: Setup) -> str:
    """Whether void positions get no gradient and their classes change no loss; empty, or what is wrong."""
    batch = setup.batch(0)
    return next(filter(None, (_void_matters(setup, batch, progress) for progress in setup.moments())), "")


def _void_matters(setup: Setup, batch: Batch, progress: float) -> str:
    """What void positions change at a moment of training; nothing where the method has no term then."""
    assert batch.mask is not None
    views = {role: _with_leaf(view) for role, view in setup.distiller.views(batch)[0].items()}
    state = copy.deepcopy(setup.distiller.state_dict())
    first = _total(setup.losses_of(views, batch, progress))
    if first is None:
        return ""
    shown = itertools.chain.from_iterable((view, *view.branches) for view in views.values())
    leaves = [view.prediction for view in shown if view.prediction.requires_grad]
    gradients = torch.autograd.grad(first, leaves, allow_unused=True)
    void = ~at_size(batch.mask, leaves[0].shape[2:])[:, None]
    if any(g is not None and bool((g * void).abs().sum() > 0) for g in gradients):
        return "predictions at void positions get a gradient"
    setup.distiller.load_state_dict(state)  # so that both calls start from the same memory
    other = replace(batch, target=torch.where(batch.mask, batch.target, (batch.target + 3) % CLASSES))
    second = _total(setup.losses_of(views, other, progress))
    assert second is not None
    before, after = float(first.detach()), float(second.detach())
    if before != after:
        return f"other classes at void positions turn the loss {before} into {after}"
    return ""


def _with_leaf(view: View) -> View:
    """The view with predictions of the same values at which gradients end."""
    leaf = view.prediction.detach().requires_grad_(view.prediction.requires_grad)
    return replace(view, prediction=leaf, branches=tuple(map(_with_leaf, view.branches)))


def _total(losses: Losses) -> Tensor | None:
    terms = [term for _, terms in by_role(losses) for term in terms.values()]
    return sum(terms[1:], terms[0]) if terms else None
