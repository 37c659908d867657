"""Each promise of the contract as a function that returns an empty string, or what is wrong."""

from __future__ import annotations

import copy
import io
import itertools
import json
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from adm_core import registry
from adm_core.compose import parts_of
from adm_core.method import CAPABILITIES
from adm_core.settings import searches
from adm_core.testing.fake_gpu import step_on_gpu
from adm_core.testing.inputs import unlabelled_are_read, void_is_ignored
from adm_core.testing.setup import Setup, by_role


def _settings_round_trip(setup: Setup) -> str:
    each = {m.card.name: json.loads(json.dumps(m.resolved())) for m in parts_of(setup.method)}
    again = registry.create(setup.spec, each)
    for part in parts_of(setup.method):
        for key, search in searches(type(part).Settings).items():
            for end in (search.low, search.high):
                registry.create(part.card.name, {part.card.name: {key: end}})  # a range of values that are refused
    return "" if again.resolved() == setup.method.resolved() else f"{again.resolved()} != {setup.method.resolved()}"


def _finite_terms(setup: Setup) -> str:
    each = [setup.losses(progress=progress) for progress in setup.moments()]
    for role, terms in itertools.chain.from_iterable(map(by_role, each)):
        for name, term in terms.items():
            if not isinstance(term, Tensor) or term.dim() != 0:
                return f"{role} term '{name}' is not a scalar tensor"
            if not bool(term.isfinite()):
                return f"{role} term '{name}' is {term.item()}"
    taught = [name for losses in each for name in losses.teacher]
    if setup.regime == "offline" and taught:
        return f"a frozen teacher got terms: {', '.join(taught)}"
    silent = setup.spec == "none" or setup.method.needs.gradient_groups  # these only change how others are followed
    return "" if silent or any(any(terms for _, terms in by_role(losses)) for losses in each) else "no term at all"


def _reaches(term: Tensor, module: nn.Module) -> bool:
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters or not term.requires_grad:
        return False
    grads = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return any(g is not None and bool(g.abs().sum() > 0) for g in grads)


def _gradients(setup: Setup) -> str:
    setup.step(0)  # a student that starts as its teacher has nothing to follow before
    setup.make_teacher_sure()
    crossed = []
    for progress in setup.moments():
        setup.distiller.enter_phase(progress)
        wrong, others = _misdirected(setup, progress)
        if wrong:
            return wrong
        crossed += others
    if setup.method.card.detached and crossed:
        how = "detach the other network's view, use method.constant for a critic, or declare card.detached=False"
        return f"{', '.join(crossed)} reaches what it should not train; {how}"
    if not setup.method.card.detached and setup.regime != "offline" and not crossed:
        return "card.detached=False is declared, but no gradient crosses"
    return ""


def _misdirected(setup: Setup, progress: float) -> tuple[str, list[str]]:
    """What is wrong with a term's gradients, and the terms that reach what they should not train."""
    losses, d = setup.losses(progress=progress), setup.distiller
    apart = nn.ModuleList(part for part, _ in d.parts_trained_apart())
    own: dict[str, nn.Module | None] = {
        "student": nn.ModuleList([d.student, d.branches]), "teacher": d.teacher, **dict(d.peers.items()),
    }  # fmt: skip
    crossed = []
    for role, terms in by_role(losses):
        reached = d.parts if role == "parts" else own[role]
        others = [module for name, module in own.items() if name != role]
        for name, term in terms.items():
            if reached is None or not _reaches(term, reached):
                return f"{role} term '{name}' gives the {role} no gradient", []
            if any(
                other is not None and _reaches(term, other) for other in (*others, apart if role != "parts" else None)
            ):
                crossed.append(f"{role} term '{name}'")
    return "", crossed


def _frozen_teacher(setup: Setup) -> str:
    if setup.regime != "offline" or setup.distiller.teacher is None:
        return ""
    # The copy that is run may have its normalisation folded away; the tiny networks keep one that cannot be.
    watched = (setup.distiller.teacher, setup.distiller.networks["teacher"].module)
    before = [copy.deepcopy(module.state_dict()) for module in watched]
    setup.step(0)
    for module, state in zip(watched, before, strict=True):
        moved = [key for key, value in module.state_dict().items() if not torch.equal(value, state[key])]
        if moved:
            return f"the frozen teacher's {', '.join(moved)} changed in a step"
    return ""


def _changes_nothing_shown(setup: Setup) -> str:
    """Batches and teachers' views are shared by all that train in lockstep."""
    for progress in setup.moments():
        drawn = setup.batch(0)
        tensors = {f"batch.{name}": value for name, value in vars(drawn).items() if isinstance(value, Tensor)}
        fed = setup.method.inputs(drawn, progress, torch.Generator().manual_seed(0))
        views = setup.distiller.views(fed)[0]
        if setup.regime == "offline" and "teacher" in views:
            tensors |= {"the teacher's prediction": views["teacher"].prediction}
            tensors |= {f"the teacher's {tap}": value for tap, value in views["teacher"].features.items()}
        before = {name: tensor._version for name, tensor in tensors.items()}
        setup.losses_of(views, fed, progress)
        changed = [name for name, tensor in tensors.items() if tensor._version != before[name]]
        if changed:
            return f"{', '.join(changed)} changed in place: others that train on it would see that; work on a copy"
    return ""


def _trainables_move(setup: Setup) -> str:
    known = {id(p) for o in setup.optimizers for group in o.param_groups for p in group["params"]}
    trained = [(name, p) for name, p in setup.distiller.parts.named_parameters() if p.requires_grad]
    parts = {name: p.detach().clone() for name, p in trained}
    for seed, progress in enumerate(setup.moments() * 3):
        setup.step(seed, progress)
    for name, p in trained:
        if id(p) not in known:
            return f"part {name} never reached the optimiser"
        if torch.equal(parts[name], p):
            return f"part {name} did not move in three steps of each phase"
    capabilities, apart = setup.method.needs.capabilities, list(setup.method.optimizers())
    declared = {"trainable-parts": sorted(parts), "own-optimiser": apart}
    if setup.widths[0] == setup.widths[1] and not parts:
        del declared["trainable-parts"]  # adapters are for unequal widths
    for capability, there in declared.items():
        if (capability in capabilities) != bool(there):
            return f"capability {capability} declared: {capability in capabilities}, but there are: {there or 'none'}"
    unknown = capabilities - set(CAPABILITIES)
    return f"unknown capabilities {sorted(unknown)}" if unknown else ""


def _taps_fire_when_wrapped(setup: Setup) -> str:
    class Wrapped(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, *inputs: Tensor) -> Tensor:
            out: Tensor = self.module(*inputs)
            return out

    d = setup.distiller
    state = copy.deepcopy(d.state_dict())
    plain = float(setup.loss(0).detach())
    d.load_state_dict(state)  # a memory may have moved on
    d.networks = {role: replace(n, module=Wrapped(n.module).train(n.module.training)) for role, n in d.networks.items()}
    wrapped = float(setup.loss(0).detach())
    return "" if plain == wrapped else f"loss {plain} became {wrapped} under a DDP-like wrapper"


def _deterministic(setup: Setup) -> str:
    ours, theirs = ([b.step(seed) for seed in range(3)] for b in (setup, setup.twin()))
    return "" if ours == theirs else f"two runs of one seed gave {ours} and {theirs}"


def _bf16(setup: Setup) -> str:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = setup.loss(0)
    loss.backward()
    grads = [p.grad for p in setup.distiller.parameters() if p.grad is not None]
    return "" if all(bool(x.isfinite().all()) for x in (loss, *grads)) else "loss or gradient is not finite in bf16"


def _checkpoint(setup: Setup) -> str:
    for seed in range(2):
        setup.step(seed)
    file = io.BytesIO()
    optimizers = [optimizer.state_dict() for optimizer in setup.optimizers]
    torch.save({"distiller": setup.distiller.state_dict(), "optimizers": optimizers}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    twin = setup.twin()
    twin.distiller.load_state_dict(state["distiller"])
    for optimizer, own in zip(twin.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(own)
    ours, theirs = ([b.step(seed) for seed in (7, 8)] for b in (setup, twin))
    return "" if ours == theirs else f"after a checkpoint the next losses are {theirs}, not {ours}"


def _deployed(setup: Setup) -> str:
    networks, card = setup.distiller.networks, setup.method.card
    for network in networks.values():
        network.module.eval()
    found = setup.distiller.deployed(networks)["student"].module.eval()
    other = found is not networks["student"].module
    if other != (card.deployed != "student"):
        return f"card.deployed says '{card.deployed}', but deployed() gives {'another module' if other else 'it'}"
    batch = setup.batch(0)
    with torch.no_grad():
        given, own = (m(batch.student_input, *batch.conditions) for m in (found, networks["student"].module))
    return "" if given.shape == own.shape else f"what is deployed predicts {tuple(given.shape)}, not {tuple(own.shape)}"


def _on_a_gpu(setup: Setup) -> str:
    keeping = {"memory", "network-copies", "host-synchronisation"}  # what may show in a second step alone
    rounds = 2 if setup.method.needs.capabilities & keeping else 1
    step_on_gpu(setup, setup.moments() * rounds)
    return ""


def _extremes(setup: Setup) -> str:
    for progress in (0.0, 1.0):
        if not bool(setup.loss(0, progress).isfinite()):
            return f"loss is not finite at progress {progress}"
    with torch.no_grad():
        setup.distiller.student.head.weight *= 1e3  # type: ignore[union-attr, operator]
    loss = setup.loss(0)
    loss.backward()
    bad = [name for name, p in setup.distiller.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    return f"very confident logits give gradients that are not finite: {bad[0]}" if bad or not loss.isfinite() else ""


CHECKS: dict[str, Callable[[Setup], str]] = {
    "settings survive a JSON round trip": _settings_round_trip,
    "terms are finite named scalars": _finite_terms,
    "gradients reach what they should and nothing else": _gradients,
    "a frozen teacher keeps weights and statistics": _frozen_teacher,
    "what a method is shown stays as it was": _changes_nothing_shown,
    "pictures without labels count where they are asked for": unlabelled_are_read,
    "trainable parts reach the optimiser and move": _trainables_move,
    "taps fire under a DDP-like wrapper": _taps_fire_when_wrapped,
    "one seed gives one result": _deterministic,
    "bf16 stays finite": _bf16,
    "a checkpoint gives the identical next loss": _checkpoint,
    "what is deployed predicts as the student does": _deployed,
    "start, end and confident logits stay finite": _extremes,
    "a step on a GPU stays there and waits for nothing": _on_a_gpu,
}
"""Each promise and the function that returns an empty string, or what is wrong."""
PIXEL_CHECKS = {"void positions count for nothing": void_is_ignored}
"""Promises about dense predictions."""
