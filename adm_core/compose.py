"""``a+b``: several methods at once. Needs are united, terms are added, each part keeps its own settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from adm_core.errors import AdmError
from adm_core.method import Adam, Losses, Method, MethodCard, Needs, Scalar, Shapes, Step, View

if TYPE_CHECKING:
    from torch import Generator, nn

    from adm_core.batch import Batch

_VIEWS = ("any", "own", "shared")


class Composition(Method):
    """Methods that act together; made by ``registry.create("a+b")``.

    The weights on the task loss are those of the only part that changes them (``kd+adm``: KD's); two parts that
    both change them must agree. At most one part may choose the inputs. The teacher is paused when one part pauses it.
    """

    def __init__(self, methods: list[Method]) -> None:
        regimes = frozenset.intersection(*(m.card.regimes for m in methods))
        name = "+".join(m.card.name for m in methods)
        if not regimes:
            each = "; ".join(f"'{m.card.name}' runs {' and '.join(sorted(m.card.regimes))}" for m in methods)
            raise AdmError(f"method '{name}' has no regime in common: {each}")
        choosing = [f"'{m.card.name}'" for m in methods if type(m).inputs is not Method.inputs]
        if len(choosing) > 1:
            raise AdmError(f"method '{name}': {' and '.join(choosing)} each choose the inputs; only one part can")
        self.methods = methods
        self.parts = {}
        self.card = MethodCard(  # type: ignore[misc]
            name=name,
            title=" + ".join(m.card.title for m in methods),
            paper=", ".join(m.card.paper for m in methods),
            year=max(m.card.year for m in methods),
            regimes=regimes,
            family="+".join(dict.fromkeys(m.card.family for m in methods)),
            version=max(m.card.version for m in methods),
            detached=all(m.card.detached for m in methods),
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
            head=any(n.head for n in needs),
            views=views,
            capabilities=united if views == "own" else united - {"own-views"},
            teacher=any(n.teacher for n in needs),
            copies={f"{m.card.name}_{key}": role for m in self.methods for key, role in m.needs.copies.items()},
            starts_as_teacher=any(n.starts_as_teacher for n in needs),
        )

    def resolved(self) -> dict[str, Scalar]:
        """Settings of all parts, keys prefixed by the part's name."""
        return {f"{m.card.name}.{key}": value for m in self.methods for key, value in m.resolved().items()}

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """The first part's reason for not running, or None."""
        reasons = (m.supports(student, teacher, regime) for m in self.methods)
        return next((reason for reason in reasons if reason), None)

    def build(self, student: Shapes, teacher: Shapes) -> dict[str, nn.Module]:
        """Every part's modules, prefixed by the part's name."""
        modules: dict[str, nn.Module] = {}
        for method in self.methods:
            built = method.build(student, teacher)
            modules |= {f"{method.card.name}_{key}": module for key, module in built.items()}
        return modules

    def take(self, parts: Mapping[str, nn.Module]) -> None:
        """Give every part its own modules."""
        self.parts = parts
        for method in self.methods:
            prefix = f"{method.card.name}_"
            own = {key.removeprefix(prefix): module for key, module in parts.items() if key.startswith(prefix)}
            method.take(own)

    def inputs(self, batch: Batch, progress: float, generator: Generator) -> Batch:
        """Those of the one part that chooses them, if there is one."""
        for method in self.methods:
            batch = method.inputs(batch, progress, generator)
        return batch

    def optimizers(self) -> Mapping[str, Adam]:
        """Every part's own optimisers, names prefixed as its modules are."""
        each = ((m.card.name, m.optimizers()) for m in self.methods)
        return {f"{name}_{key}": own for name, optimizers in each for key, own in optimizers.items()}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """The parts' terms together, each named ``part.term``."""
        each = [(m.card.name, m.losses(student, teacher, step)) for m in self.methods]
        return Losses(
            student={f"{name}.{key}": term for name, part in each for key, term in part.student.items()},
            teacher={f"{name}.{key}": term for name, part in each for key, term in part.teacher.items()},
            parts={f"{name}.{key}": term for name, part in each for key, term in part.parts.items()},
            student_task=self._task_weight([part.student_task for _, part in each]),
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


def parts_of(method: Method) -> list[Method]:
    """The single methods that a method is made of, in order."""
    return method.methods if isinstance(method, Composition) else [method]
