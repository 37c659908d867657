"""The distiller: two networks and a method, turned into losses for a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from adm_core import align
from adm_core.batch import Batch
from adm_core.compose import parts_of
from adm_core.errors import AdmError, Unsupported
from adm_core.frozen import frozen_copy
from adm_core.losses.spatial import masked_mean
from adm_core.method import Adam, Losses, Method, PredictionKind, Step, View
from adm_core.network_copy import NetworkCopy
from adm_core.taps import Network, check_fired, probe, record, resolve

Regime = Literal["alone", "offline", "online"]
TaskLoss = Callable[[Tensor, Batch], Tensor]
"""(prediction, batch) → loss per example [B] or per position of the target [B, H, W], not reduced."""


@dataclass(frozen=True)
class Outcome:
    """What one forward pass gave.

    Attributes:
        total: the scalar to differentiate.
        terms: every weighted term, detached, by ``role.name``; the task loss is ``role.task`` (unweighted), that of
            auxiliary predictions ``role.auxiliary`` (weighted as the network says); the method's own ``parts.name``.
        log: what the method logs, detached.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    log: Mapping[str, Tensor]


class Distiller(nn.Module):
    """A student, perhaps a teacher, and a method; its forward makes the losses of a batch.

    It is one module so that precision, gradient accumulation and DistributedDataParallel wrap everything at once.

    Args:
        student: the network to train.
        teacher: the frozen (offline) or co-trained (online) teacher; None when the student trains alone. A frozen one
            must have its weights: what runs is a faster copy that is made here (:mod:`adm_core.frozen`).
        method: how losses are formed.
        regime: ``alone``, ``offline`` or ``online``.
        task_loss: the task's loss per element.
        kind: what the networks predict.
        example: arguments of the networks' forward for a few examples [B, ...], on their device, to find shapes with.

    Raises:
        Unsupported: the method cannot run on this pair, or reads a tap that a network lacks; the message is the reason.
        AdmError: regime and networks contradict each other.
    """

    def __init__(
        self,
        student: Network,
        teacher: Network | None,
        method: Method,
        regime: Regime,
        task_loss: TaskLoss,
        kind: PredictionKind,
        example: tuple[Tensor, ...],
    ) -> None:
        super().__init__()
        if (teacher is None) != (regime == "alone"):
            raise AdmError(f"regime '{regime}' and teacher {teacher.name if teacher else None} contradict each other")
        self.networks = {"student": student} | ({"teacher": teacher} if teacher else {})
        self.method, self.regime, self.task_loss, self.kind = method, regime, task_loss, kind
        self.taps = method.needs.taps if teacher else ()
        self.reads_teacher = regime == "online" or (regime == "offline" and method.needs.teacher)
        self.student = student.module
        self.teacher = teacher.module if teacher else None
        self.parts = nn.ModuleDict(self._build(example)).to(example[0].device) if teacher else nn.ModuleDict()
        if regime == "offline" and teacher is not None:
            teacher.module.requires_grad_(False)
            self.networks["teacher"] = frozen_copy(teacher, self.taps)
        self.train()

    def _build(self, example: tuple[Tensor, ...]) -> dict[str, nn.Module]:
        needs, card = self.method.needs, self.method.card
        if self.regime not in card.regimes:
            raise Unsupported(f"'{card.name}' runs {' and '.join(sorted(card.regimes))}, not {self.regime}")
        if needs.prediction not in (None, self.kind):
            raise Unsupported(f"'{card.name}' reads {needs.prediction}, this task predicts {self.kind}")
        for network in self.networks.values():
            try:
                resolve(network, self.taps)
            except AdmError as error:
                raise Unsupported(str(error)) from None
        shapes = {role: probe(network, self.taps, example) for role, network in self.networks.items()}
        reason = self.method.supports(shapes["student"], shapes["teacher"], self.regime)
        if reason:
            raise Unsupported(reason)
        if needs.starts_as_teacher:
            self._start_as_teacher()
        built = self.method.build(shapes["student"], shapes["teacher"]) | {
            name: NetworkCopy(self.networks[role].module, self.student) for name, role in needs.copies.items()
        }
        self.method.take(built)
        return built

    def _start_as_teacher(self) -> None:
        student, teacher = self.networks["student"], self.networks["teacher"]
        try:
            student.module.load_state_dict(teacher.module.state_dict())
        except RuntimeError:
            raise Unsupported(
                f"'{self.method.card.name}' starts the student from the teacher's weights, so both must be one "
                f"architecture, not '{teacher.name}' and '{student.name}'"
            ) from None

    def train(self, mode: bool = True) -> Distiller:
        """Training mode for all but a frozen teacher, whose normalisation statistics must not move."""
        super().train(mode)
        if self.regime == "offline" and self.teacher is not None:
            self.teacher.eval()
        return self

    def parts_trained_apart(self) -> list[tuple[nn.Module, Adam]]:
        """The method's parts that have an optimiser of their own, each with it."""
        if self.teacher is None:
            return []
        own = self.method.optimizers()
        for name in own:
            if name not in self.parts:
                raise AdmError(
                    f"method '{self.method.card.name}' declares an optimiser for '{name}', which it never built"
                )
        return [(self.parts[name], adam) for name, adam in own.items()]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What the first optimiser trains, by role: ``student``, ``teacher`` (online only) and ``method``."""
        roles: dict[str, nn.Module | None] = {"student": self.student, "teacher": self.teacher, "method": self.parts}
        apart = {id(p) for part, _ in self.parts_trained_apart() for p in part.parameters()}
        groups = {
            role: [p for p in module.parameters() if p.requires_grad and id(p) not in apart]
            for role, module in roles.items()
            if module
        }
        return {role: group for role, group in groups.items() if group}

    def forward(self, batch: Batch, progress: float, generator: torch.Generator) -> Outcome:
        """The losses of one batch.

        Args:
            batch: inputs and target.
            progress: share of training done, in [0, 1].
            generator: randomness for the method.
        """
        if self.teacher is not None:
            batch = self.method.inputs(batch, progress, generator)
        views, auxiliary = self.views(batch)
        losses = Losses()
        if self.teacher is not None and (self.reads_teacher or self.method.needs.copies):
            step = Step(batch.target, progress, generator, batch.mask, batch.noising)
            with torch.autocast(batch.student_input.device.type, enabled=False):
                losses = self.method.losses(views["student"], views.get("teacher"), step)  # type: ignore[arg-type]
        tasks = {role: masked_mean(view.task_loss, batch.mask) for role, view in views.items()}
        return self._collect(losses, tasks, auxiliary)

    def views(self, batch: Batch) -> tuple[dict[str, View], dict[str, Tensor]]:
        """What each network shows on a batch, and the weighted loss of its auxiliary predictions, by role."""
        views, auxiliary = {}, {}
        roles = ("student", "teacher") if self.reads_teacher else ("student",)
        for role in roles:
            inputs = batch.student_input if role == "student" else batch.teacher_input
            views[role], further = self._run(role, inputs, batch)
            if further is not None:
                auxiliary[role] = further
        if len(views) == 2:
            shown = align.match_predictions(views["student"].prediction, views["teacher"].prediction)
            views = {role: replace(views[role], prediction=p) for role, p in zip(roles, shown, strict=True)}
        return views, auxiliary

    def _run(self, role: str, inputs: Tensor, batch: Batch) -> tuple[View, Tensor | None]:
        network = self.networks[role]
        frozen = role == "teacher" and self.regime == "offline"
        further = dict(network.auxiliary) if self.training and not frozen else {}
        taps = (*self.taps, *(tap for tap in further if tap not in self.taps))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen), record(network, taps) as seen:
            prediction = network.module(inputs, *batch.conditions).float()
        check_fired(network, taps, seen)
        features = {tap: seen[tap].float() for tap in self.taps}
        head = network.classifier() if self.method.needs.head else None
        view = View(prediction, self.kind, features, self.task_loss(prediction, batch), head)
        weighted = [
            weight * masked_mean(self.task_loss(seen[tap].float(), batch), batch.mask)
            for tap, weight in further.items()
        ]
        return view, sum(weighted[1:], weighted[0]) if weighted else None

    def _collect(self, losses: Losses, tasks: Mapping[str, Tensor], auxiliary: Mapping[str, Tensor]) -> Outcome:
        chosen = {"student": (losses.student, losses.student_task)}
        if self.regime == "online" and not losses.teacher_paused:
            chosen["teacher"] = (losses.teacher, losses.teacher_task)
        total, terms = tasks["student"].new_zeros(()), {}
        for role, (extra, task_weight) in chosen.items():
            own = {"task": tasks[role]} | ({"auxiliary": auxiliary[role]} if role in auxiliary else {})
            for name, term in own.items():
                total = total + task_weight * term
                terms[f"{role}.{name}"] = term.detach()
            for name, term in extra.items():
                self._check_term(role, name, term)
                total = total + term
                terms[f"{role}.{name}"] = term.detach()
        for name, term in losses.parts.items():
            self._check_term("parts", name, term)
            total = total + term
            terms[f"parts.{name}"] = term.detach()
        return Outcome(total, terms, {name: value.detach() for name, value in losses.log.items()})

    def _check_term(self, role: str, name: str, term: Tensor) -> None:
        where = f"method '{self.method.card.name}': {role} term '{name}'"
        if not isinstance(term, Tensor) or term.dim() != 0:
            shape = tuple(term.shape) if isinstance(term, Tensor) else type(term).__name__
            raise AdmError(f"{where} must be a scalar tensor, not {shape}")
        if torch.is_grad_enabled() and not term.requires_grad:
            raise AdmError(f"{where} does not depend on any trainable weight, so it would train nothing")

    def after_step(self) -> None:
        """Let the method update what it keeps between steps."""
        for part in parts_of(self.method):
            part.after_step()
