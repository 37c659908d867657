"""Stretches of training in which only some weights move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from adm_core.card import Phase
from adm_core.taps import Network, unwrap


def let_train(phase: Phase | None, student: Network, trained: Mapping[str, Sequence[nn.Parameter]]) -> None:
    """Let only what trains in a phase have gradients.

    Args:
        phase: None: everything trains.
        student: whose classifier ``student.body`` leaves out.
        trained: what there is to train, by role.
    """
    head = student.head or student.taps.get("logits")
    apart = {id(p) for p in unwrap(student.module).get_submodule(head).parameters()} if head else set()
    for role, parameters in trained.items():
        for p in parameters:
            body = role == "student" and "student.body" in (phase.trains if phase else ()) and id(p) not in apart
            p.requires_grad_(phase is None or role in phase.trains or body)
