"""``a+b``: several methods at once. Needs are united, terms are added, each part keeps its own settings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adm_core.card import DISTILLATION, TASK
from adm_core.errors import AdmError
from adm_core.method import Adam, Facts, Losses, Method, MethodCard, Needs, Scalar, Shapes, Step, View

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from adm_core.batch import Batch
    from adm_core.taps import Network

_VIEWS = ("any", "own", "shared")


class Composition(Method):
    """Methods that act together; made by ``registry.create("a+b")``.

    The weights on the task loss are those of the only part that changes them (``kd+adm``: KD's); two parts that
    both change them must agree. The teacher is paused when one part pauses it. At most one part may choose the inputs,
    deploy something else than the student, have phases, or treat gradients apart; parts that count networks or examples
    of a class must count alike; one that holds images out has none beside it, as they would train on those. In the
    phases of a part that has some it acts alone; in the last, nameless one all do.
    """

    def __init__(self, methods: list[Method]) -> None:
        regimes = frozenset.intersection(*(m.card.regimes for m in methods))
        name = "+".join(m.card.name for m in methods)
        if not regimes:
            each = "; ".join(f"'{m.card.name}' runs {' and '.join(sorted(m.card.regimes))}" for m in methods)
            raise AdmError(f"method '{name}' has no regime in common: {each}")
        _at_most_one(name, "each choose the inputs", [m for m in methods if type(m).inputs is not Method.inputs])
        _at_most_one(name, "each deploy something", [m for m in methods if type(m).deployed is not Method.deployed])
        _at_most_one(name, "each have phases", [m for m in methods if m.needs.phases])
        _at_most_one(name, "each have branches", [m for m in methods if m.needs.branches])
        branched, several = next((m for m in methods if m.needs.branches), None), [m for m in methods if m.needs.peers]
        if branched and several:
            each = f"'{branched.card.name}' trains branches of one network, '{several[0].card.name}' several networks"
            raise AdmError(f"method '{name}': {each}; compose parts that train the same")
        _at_most_one(name, "each treat gradients apart", [m for m in methods if m.needs.gradient_groups])
        _one_view(name, methods)
        _whole_data(name, methods)
        _paused_alone(name, methods)
        _agree(name, "numbers of networks", {m.card.name: m.needs.peers + 1 for m in methods if m.needs.peers})
        _agree(name, "examples of a class", {m.card.name: m.needs.per_class for m in methods if m.needs.per_class})
        self.methods = methods
        self.parts, self.statistics = {}, {}
        self.card = MethodCard(  # type: ignore[misc]
            name=name,
            title=" + ".join(m.card.title for m in methods),
            paper=", ".join(m.card.paper for m in methods),
            year=max(m.card.year for m in methods),
            regimes=regimes,
            family="+".join(dict.fromkeys(m.card.family for m in methods)),
            version=max(m.card.version for m in methods),
            detached=all(m.card.detached for m in methods),
            deployed=next((m.card.deployed for m in methods if m.card.deployed != "student"), "student"),
        )

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """The union of what the parts read."""
        needs = [m.needs for m in self.methods]
        kinds = {n.prediction for n in needs} - {None}
        if len(kinds) > 1:
            raise AdmError(f"method '{self.card.name}': its parts read different predictions: {kinds}")
        views = max((n.views for n in needs), key=_VIEWS.index)
        united = frozenset().union(*(n.capabilities for n in needs))
        return Needs(
            prediction=next(iter(kinds), None),
            taps=tuple(dict.fromkeys(tap for n in needs for tap in n.taps)),
            optional=tuple(dict.fromkeys(tap for n in needs for tap in n.optional)),
            head=any(n.head for n in needs),
            views=views,
            capabilities=united if views == "own" else united - {"own-views"},
            teacher=any(n.teacher for n in needs),
            copies={f"{m.card.name}_{key}": role for m in self.methods for key, role in m.needs.copies.items()},
            training_copies=frozenset(f"{m.card.name}_{key}" for m in self.methods for key in m.needs.training_copies),
            trained_copies={
                f"{m.card.name}_{key}": role for m in self.methods for key, role in m.needs.trained_copies.items()
            },
            starts_as_teacher=any(n.starts_as_teacher for n in needs),
            peers=max(n.peers for n in needs),
            branches=next((n.branches for n in needs if n.branches), None),
            extra_view=next((n.extra_view for n in needs if n.extra_view), None),
            unlabelled=any(n.unlabelled for n in needs),
            per_class=max(n.per_class for n in needs),
            phases=next((n.phases for n in needs if n.phases), ()),
            teacher_pass=any(n.teacher_pass for n in needs),
            gradient_groups=any(n.gradient_groups for n in needs),
            sampler=next((n.sampler for n in needs if n.sampler != "ddim"), "ddim"),
            timesteps=max(n.timesteps for n in needs),
            clean_example=any(n.clean_example for n in needs),
        )

    def resolved(self, regime: str | None = None) -> dict[str, Scalar]:
        """Settings of all parts, keys prefixed by the part's name."""
        return {f"{m.card.name}.{key}": value for m in self.methods for key, value in m.resolved(regime).items()}

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """The first part's reason for not running, or None."""
        reasons = (m.supports(student, teacher, regime) for m in self.methods)
        return next((reason for reason in reasons if reason), None)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """Every part's modules, prefixed by the part's name."""
        modules: dict[str, nn.Module] = {}
        for method in self.methods:
            built = method.build(student, teacher, facts)
            modules |= {f"{method.card.name}_{key}": module for key, module in built.items()}
        return modules

    def take(self, parts: Mapping[str, nn.Module]) -> None:
        """Give every part its own modules."""
        self.parts = parts
        for method in self.methods:
            method.take(_own(parts, method))

    def inputs(self, batch: Batch, progress: float, generator: Generator) -> Batch:
        """Those of the one part that chooses them, if there is one."""
        for method in self.methods:
            batch = method.inputs(batch, progress, generator)
        return batch

    def optimizers(self) -> Mapping[str, Adam]:
        """Every part's own optimisers, names prefixed as its modules are."""
        each = ((m.card.name, m.optimizers()) for m in self.methods)
        return {f"{name}_{key}": own for name, optimizers in each for key, own in optimizers.items()}

    def momentum(self) -> Mapping[str, float]:
        """That of the one part that treats gradients apart, if there is one; its terms as they are named here."""
        each = ((m.card.name, m.momentum()) for m in self.methods if m.needs.gradient_groups)
        name, changes = next(each, ("", {}))
        return {key if key in (TASK, DISTILLATION) else f"{name}.{key}": change for key, change in changes.items()}

    def prepare(self, shown: Iterator[tuple[View, Batch]], facts: Facts) -> dict[str, Tensor]:
        """What every part makes of the teacher's views, prefixed by the part's name."""
        wanting = [m for m in self.methods if m.needs.teacher_pass]
        passes = zip(wanting, itertools.tee(shown, len(wanting)), strict=True)
        each = ((m.card.name, m.prepare(own, facts)) for m, own in passes)
        return {f"{name}_{key}": value for name, made in each for key, value in made.items()}

    def know(self, statistics: Mapping[str, Tensor]) -> None:
        """Give every part what it prepared."""
        self.statistics = statistics
        for method in self.methods:
            method.know(_own(statistics, method))

    def deployed(self, networks: Mapping[str, Network]) -> nn.Module:
        """What the one part that deploys something else deploys; the student where there is none."""
        parts = (m for m in self.methods if type(m).deployed is not Method.deployed)
        return next(parts, self.methods[0]).deployed(networks)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """The parts' terms together, each named ``part.term``."""
        acting = [m for m in self.methods if m.needs.phases or not step.phase]
        each = [(m.card.name, m.losses(student, teacher, _as_seen_by(m, step))) for m in acting]
        roles = {role for _, part in each for role in part.peers}
        return Losses(
            student={f"{name}.{key}": term for name, part in each for key, term in part.student.items()},
            teacher={f"{name}.{key}": term for name, part in each for key, term in part.teacher.items()},
            peers={
                role: {f"{name}.{key}": term for name, part in each for key, term in part.peers.get(role, {}).items()}
                for role in sorted(roles)
            },
            parts={f"{name}.{key}": term for name, part in each for key, term in part.parts.items()},
            student_task=self._task_weight([part.student_task for _, part in each]),
            student_auxiliary=next((w for _, part in each if (w := part.student_auxiliary) is not None), None),
            teacher_task=self._task_weight([part.teacher_task for _, part in each]),
            teacher_paused=any(part.teacher_paused for _, part in each),
            log={f"{name}.{key}": value for name, part in each for key, value in part.log.items()},
        )

    def after_step(self) -> None:
        """Every part's own hook."""
        for method in self.methods:
            method.after_step()

    def _task_weight(self, weights: list[float]) -> float:
        changed = {w for w in weights if w != 1.0}
        if len(changed) > 1:
            raise AdmError(f"method '{self.card.name}': its parts set different task weights {sorted(changed)}")
        return changed.pop() if changed else 1.0


def _one_view(name: str, methods: list[Method]) -> None:
    """Where a setting gives each network a view of its own, no part may need one that all share."""
    own = next((m for m in methods if getattr(m.settings, "views", None) == "own"), None)
    shared = next((m for m in methods if m.needs.views == "shared"), None)
    if own and shared:
        raise AdmError(
            f"method '{name}': '{own.card.name}' gives each network an augmentation of its own, and "
            f"'{shared.card.name}' needs one that all share; set {own.card.name}: {{views: shared}}"
        )


def _whole_data(name: str, methods: list[Method]) -> None:
    """Images that one part holds out would train the networks by the others' terms."""
    held = next((m for m in methods if "held-out" in m.needs.capabilities), None)
    if held:
        raise AdmError(
            f"method '{name}': '{held.card.name}' holds training images out, on which other parts would train"
        )


def _paused_alone(name: str, methods: list[Method]) -> None:
    """A paused teacher must not be trained by terms of others that reach it."""
    pausing = next((m for m in methods if "pauses-teacher" in m.needs.capabilities), None)
    reaching = next((m for m in methods if not m.card.detached), None)
    if pausing and reaching:
        told = f"'{pausing.card.name}' leaves the teacher out of some steps"
        raise AdmError(f"method '{name}': {told}, in which '{reaching.card.name}' would train it")


def parts_of(method: Method) -> list[Method]:
    """The single methods that a method is made of, in order."""
    return method.methods if isinstance(method, Composition) else [method]


def _own(named: Mapping[str, Any], method: Method) -> dict[str, Any]:
    """What of a composition's is one part's, by the part's own names."""
    prefix = f"{method.card.name}_"
    return {key.removeprefix(prefix): value for key, value in named.items() if key.startswith(prefix)}


def _as_seen_by(method: Method, step: Step) -> Step:
    """The step with the part's own copies of networks under their own names."""
    return replace(step, copies=step.copies.under(f"{method.card.name}_")) if method.needs.copies else step


def _at_most_one(name: str, what: str, methods: list[Method]) -> None:
    if len(methods) > 1:
        each = " and ".join(f"'{m.card.name}'" for m in methods)
        raise AdmError(f"method '{name}': {each} {what}; only one part can")


def _agree(name: str, what: str, counts: Mapping[str, int]) -> None:
    if len(set(counts.values())) > 1:
        each = " and ".join(f"'{part}' {count}" for part, count in counts.items())
        raise AdmError(f"method '{name}': its parts want different {what}: {each}; set them alike")
