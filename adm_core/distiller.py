"""The distiller: networks and a method, turned into losses for a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from adm_core.batch import Batch
from adm_core.branches import Branch
from adm_core.card import MEAN
from adm_core.compose import parts_of
from adm_core.errors import AdmError, Unsupported
from adm_core.frozen import frozen_copy
from adm_core.layout import channels_last
from adm_core.losses.spatial import masked_mean
from adm_core.mean_network import MeanNetwork
from adm_core.method import Adam, Facts, Losses, Method, PredictionKind, Shapes, Step, View, ViewsOnDemand
from adm_core.network_copy import NetworkCopy, TrainedCopy, start_as
from adm_core.outcome import Outcome, collect
from adm_core.part_precision import PartPrecision
from adm_core.phases import let_train
from adm_core.seeds import derive, sow
from adm_core.show import Showing, Shown, TaskLoss, at_size_of, match_predictions
from adm_core.taps import Network, normalisations, probe, resolve, unwrap

Regime = Literal["alone", "offline", "online", "peers"]


class Distiller(nn.Module):
    """A student, perhaps a teacher or peers, and a method; its forward makes the losses of a batch.

    It is one module so that precision, gradient accumulation and DistributedDataParallel wrap everything at once.

    Args:
        networks: by role. ``student`` always; ``teacher`` frozen (offline) or co-trained (online); in regime ``peers``
            ``peer1``, ... of the student's architecture; ``branch2``, ... of the student's architecture where the
            method needs branches. A frozen teacher must have its weights: what runs is a faster copy that is made here
            (:mod:`adm_core.frozen`).
        method: how losses are formed.
        regime: ``alone``, ``offline``, ``online`` or ``peers``.
        task_loss: the task's loss per element.
        kind: what the networks predict.
        example: arguments of the networks' forward for a few examples [B, ...], on their device, to find shapes with.
        facts: what there is to train on.

    Raises:
        Unsupported: the method cannot run on this pair, or reads a tap that a network lacks; the message is the reason.
        AdmError: regime and networks contradict each other.
    """

    def __init__(
        self,
        networks: Mapping[str, Network],
        method: Method,
        regime: Regime,
        task_loss: TaskLoss,
        kind: PredictionKind,
        example: tuple[Tensor, ...],
        facts: Facts,
    ) -> None:
        super().__init__()
        # Read once: the needs of a composition are united anew at every look.
        needs = self.needs = method.needs
        cut = {role: n for role, n in networks.items() if role.startswith("branch")}
        self.networks = {role: network for role, network in networks.items() if role not in cut}
        self.method, self.regime, self.facts = method, regime, facts
        self._check_roles(cut)
        self.active = regime != "alone"
        self.reads_teacher = regime == "online" or (regime == "offline" and needs.teacher)
        self.student = networks["student"].module
        teacher = networks["teacher"].module if "teacher" in networks else None
        if regime == "offline":
            # No part of this module: it does not train, and checkpoints need not hold it.
            self.__dict__["teacher"] = teacher
        else:
            self.teacher = teacher
        self.peers = nn.ModuleDict({role: n.module for role, n in self.networks.items() if role.startswith("peer")})
        self.branches = nn.ModuleList()
        taps = self._readable_taps(kind) if self.active else ()
        self.showing = Showing(kind, task_loss, taps, needs.head, needs.branches)
        self.part_precision = PartPrecision()
        self.parts = nn.ModuleDict(self._build(example, cut)).to(example[0].device) if self.active else nn.ModuleDict()
        if not example[0].is_contiguous():  # then feature maps are channels last, and so are the weights they meet
            channels_last(self.parts, f"parts of method '{method.card.name}'")
        if regime == "offline" and self.teacher is not None:
            self.teacher.eval().requires_grad_(False)
            self.networks["teacher"] = frozen_copy(networks["teacher"], taps)
        self.trained, self.phase = self.parameter_groups(), ""
        self.train()

    def _check_roles(self, cut: Mapping[str, Network]) -> None:
        """Networks must be those that regime and method ask for."""
        needs, names = self.needs, {role: network.name for role, network in self.networks.items()}
        wanted = {"student"} | ({"teacher"} if self.regime in ("offline", "online") else set())
        if self.regime == "peers":
            wanted |= {f"peer{number}" for number in range(1, needs.peers + 1)}
        branches = needs.branches.count if needs.branches and self.regime != "alone" else 1
        if set(names) != wanted or set(cut) != {f"branch{number}" for number in range(2, branches + 1)}:
            raise AdmError(f"regime '{self.regime}' and networks {names | {r: n.name for r, n in cut.items()}} "
                           f"contradict each other: there must be {sorted(wanted)}, {branches} branches")  # fmt: skip

    def _readable_taps(self, kind: PredictionKind) -> tuple[str, ...]:
        """The method's taps, groups replaced by their members, all of which every network must have."""
        card, needs, taps = self.method.card, self.needs, self.needs.taps
        if self.regime not in card.regimes:
            raise Unsupported(f"'{card.name}' runs {' and '.join(sorted(card.regimes))}, not {self.regime}")
        if needs.prediction not in (None, kind):
            raise Unsupported(f"'{card.name}' reads {needs.prediction}, this task predicts {kind}")
        expanded = {network.name: network.expand(taps) for network in self.networks.values()}
        if len(set(expanded.values())) > 1:
            told = " and ".join(f"{len(own)} on '{name}'" for name, own in expanded.items())
            raise Unsupported(f"the taps {', '.join(taps)} are {told}")
        for network in self.networks.values():
            try:
                resolve(network, expanded[network.name])
            except AdmError as error:
                raise Unsupported(str(error)) from None
        have = [network.taps for network in self.networks.values()]
        optional = [tap for tap in needs.optional if all(tap in taps for taps in have)]
        return tuple(dict.fromkeys((*next(iter(expanded.values())), *optional)))

    def _build(self, example: tuple[Tensor, ...], cut: Mapping[str, Network]) -> dict[str, nn.Module]:
        needs = self.needs
        shapes = {role: probe(network, self.showing.taps, example) for role, network in self.networks.items()}
        pair: tuple[Shapes, Shapes] = (shapes["student"], shapes.get("teacher", shapes["student"]))
        reason = self.method.supports(*pair, self.regime)
        if reason:
            raise Unsupported(reason)
        if needs.starts_as_teacher:
            start_as(self.networks["teacher"], self.networks["student"], self.method.card.name)
        if needs.branches:
            self.branches.extend(Branch(network, needs.branches.after, example) for network in cut.values())
        normalised = normalisations(self.networks["teacher"], self.showing.taps) if "teacher" in self.networks else {}
        self.facts = replace(self.facts, normalisation=normalised, roles=tuple(self.networks))
        followed, whole = dict(self.peers.items()), [network.module for network in self.networks.values()]
        apart = needs.training_copies
        built = self.method.build(*pair, self.facts) | {
            name: MeanNetwork(whole)
            if role == MEAN
            else NetworkCopy(self.networks[role].module, followed.get(role, self.student), name in apart)
            for name, role in needs.copies.items()
        }
        built |= {name: TrainedCopy(self.networks[role]) for name, role in needs.trained_copies.items()}
        dotted = next((name for name in built if "." in name), None)
        if dotted:
            raise AdmError(
                f"method '{self.method.card.name}': build() names a module '{dotted}', and torch allows no dot there; "
                "keep the modules of several taps in an nn.ModuleList under one name"
            )
        self.method.take(built)
        self.part_precision.serve(built)
        return built

    def prepare(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        """What the method makes of the frozen teacher's views of training batches (``needs.teacher_pass``)."""
        teacher = self.networks["teacher"]
        shown = ((self.showing.show(teacher, b.teacher_input, b, False, False)[0], b) for b in batches)
        with torch.no_grad():
            return self.method.prepare(shown, self.facts)

    def deployed(self, networks: Mapping[str, Network]) -> dict[str, Network]:
        """The networks with the student replaced by what the method deploys in its place, sampled as it says."""
        if not self.active:
            return dict(networks)
        student, module = networks["student"], self.method.deployed(networks)
        own = replace(student, module=module)
        if module is not student.module and module.state_dict().keys() != unwrap(student.module).state_dict().keys():
            own = Network(student.name, module)  # its places are no longer where the student has them
        return {**networks, "student": replace(own, sampler=self.needs.sampler)}

    def parts_trained_apart(self) -> list[tuple[nn.Module, Adam]]:
        """The method's parts that have an optimiser of their own, each with it."""
        own = self.method.optimizers() if self.active else {}
        for name in own:
            if name not in self.parts:
                raise AdmError(f"method '{self.method.card.name}' declares an optimiser for '{name}', never built")
        return [(self.parts[name], adam) for name, adam in own.items()]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What the first optimiser trains, by role: networks, ``branches`` and the method's parts as ``method``."""
        roles: dict[str, nn.Module | None] = {
            "student": self.student, "teacher": self.teacher, **dict(self.peers.items()),
            "branches": self.branches, "method": self.parts,
        }  # fmt: skip
        apart = {id(p) for part, _ in self.parts_trained_apart() for p in part.parameters()}
        groups = {
            role: [p for p in module.parameters() if p.requires_grad and id(p) not in apart]
            for role, module in roles.items()
            if module
        }
        return {role: group for role, group in groups.items() if group}

    def forward(
        self, batch: Batch, progress: float, generator: torch.Generator, part: int = 0, shown: Shown | None = None
    ) -> Outcome:
        """The losses of one batch.

        What draws from torch's global generators, such as dropout, draws from a stream of its own for every network
        and for the method, so that none depends on which others there are.

        Args:
            batch: inputs and target.
            progress: share of training done, in [0, 1].
            generator: randomness for the method; the seed that it began with is the step's, and all streams' origin.
            part: which micro-batch of the step this is.
            shown: what the frozen teacher shows on it, further taps included; None: it is run here.
        """
        device, seed = batch.student_input.device, derive(generator.initial_seed(), part)
        if self.active:
            sow(device, seed, "inputs")
            batch = self.method.inputs(batch, progress, generator)
        views, auxiliary = self.views(batch, seed, shown)
        losses = Losses()
        if self.active:
            step = self.step(batch, progress, generator, views, seed, shown)
            sow(device, seed, "method")
            with self.part_precision.losses_in_fp32(device.type):
                losses = self.method.losses(views["student"], views.get("teacher"), step)  # type: ignore[arg-type]
        tasks = {role: masked_mean(v.task_loss, batch.mask) for role, v in views.items() if self._trains(role)}
        apart = self.method.momentum() if self.needs.gradient_groups else {}
        return collect(self.method.card.name, losses, tasks, auxiliary, apart)

    def step(
        self,
        batch: Batch,
        progress: float,
        generator: torch.Generator,
        views: Mapping[str, View],
        seed: int = 0,
        shown: Shown | None = None,
    ) -> Step:
        """What a method is told of a batch beside the two views; ``seed`` and ``shown`` as in :meth:`views`."""
        needs, beside = self.needs, dict[str, dict[str, View]]()
        networks = {role: (network, self._trains(role)) for role, network in self.networks.items() if role in views}
        asked = {"extra": (needs.extra_view, "a strong view"), "unlabelled": (needs.unlabelled, "unlabelled pictures")}
        for name, what in ((name, what) for name, (wanted, what) in asked.items() if wanted):
            inputs = getattr(batch, f"{name}_input")
            if inputs is None:
                raise Unsupported(f"'{self.method.card.name}' needs {what}, which this task lacks")
            beside[name] = self.showing.beside(name, inputs, batch, networks, seed, getattr(shown, name, None))
        copies = ViewsOnDemand({name: lambda name=name: self._copy(name, batch, views) for name in needs.copies})  # type: ignore[misc]
        phase = needs.phase_at(progress)
        return Step(batch, progress, generator, views, copies=copies, phase=phase.name if phase else "", **beside)

    def views(
        self, batch: Batch, seed: int = 0, shown: Shown | None = None
    ) -> tuple[dict[str, View], dict[str, Tensor]]:
        """What each network shows on a batch, and the weighted loss of its auxiliary predictions, by role.

        Args:
            batch: inputs and target.
            seed: of the step, from which each network's stream is derived.
            shown: what the frozen teacher shows on the batch; None: it is run.
        """
        views, auxiliary = {}, {}
        for role, network in self.networks.items():
            if role == "teacher" and not self.reads_teacher:
                continue
            if role == "teacher" and shown:
                views[role] = self.showing.part_of(shown.view)
                continue
            inputs, trains = batch.input_of(role), self._trains(role)
            branches: list[Branch] = list(self.branches) if role == "student" else []  # type: ignore[arg-type]
            counts = self.training and trains
            sow(inputs.device, seed, role)
            views[role], further = self.showing.show(network, inputs, batch, trains, counts, branches)
            if further is not None:
                auxiliary[role] = further
        return match_predictions(views), auxiliary

    def _copy(self, name: str, batch: Batch, views: Mapping[str, View]) -> View:
        """What a copy shows; it stands in a teacher's place, so where views are own it sees the teacher's."""
        role, part = self.needs.copies[name], self.parts[name]
        mean = role == MEAN
        module, alike = (part, "student") if mean else (part.network, role)
        network = replace(self.networks[alike], module=module)  # type: ignore[arg-type]
        return at_size_of(views["student"], self.showing.show(network, batch.teacher_input, batch, mean, False)[0])

    def _trains(self, role: str) -> bool:
        return role != "teacher" or self.regime == "online"

    def enter_phase(self, progress: float) -> None:
        """Let only what trains in the phase at ``progress`` have gradients; nothing where the method has no phases."""
        phase = self.needs.phase_at(progress) if self.active else None
        if (phase.name if phase else "") == self.phase:
            return
        self.phase = phase.name if phase else ""
        let_train(phase, self.networks["student"], self.trained)

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the method update what it keeps between steps; the first optimiser's state follows weights that moved."""
        for method in parts_of(self.method):
            method.after_step()
        for part in self.parts.values():
            if isinstance(part, NetworkCopy):
                part.exchange_state(optimizer)
