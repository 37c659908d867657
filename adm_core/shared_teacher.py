"""One frozen teacher for several distillers: a single copy of it, run once per micro-batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

from adm_core.batch import Batch
from adm_core.compose import parts_of
from adm_core.distiller import Distiller
from adm_core.method import Method
from adm_core.seeds import sow
from adm_core.show import Showing, Shown
from adm_core.view import View


class SharedTeacher:
    """A frozen teacher that shows all that several distillers read.

    Args:
        distillers: whose copies of one teacher are folded alike; they all get the first one's.
    """

    def __init__(self, distillers: Sequence[Distiller]) -> None:
        first, each = distillers[0].showing, [distiller.showing for distiller in distillers if _reads(distiller)]
        self._network = distillers[0].networks["teacher"]
        for distiller in distillers:
            distiller.networks["teacher"] = self._network
        taps = tuple(dict.fromkeys(tap for showing in each for tap in showing.taps))
        self._showing = Showing(first.kind, first.task_loss, taps, any(showing.head for showing in each))
        self._showing.forward = first.forward
        self._extra = any(distiller.needs.extra_view for distiller in distillers)
        self._unlabelled = any(distiller.needs.unlabelled for distiller in distillers)

    def show(self, batch: Batch, seed: int) -> Shown:
        """What it shows on a micro-batch; ``seed`` is that part's, as in :meth:`Distiller.views`."""
        sow(batch.teacher_input.device, seed, "teacher")
        view, _ = self._showing.show(self._network, batch.teacher_input, batch, False, False)
        frozen, beside = {"teacher": (self._network, False)}, dict[str, View]()
        for wanted, name in ((self._extra, "extra"), (self._unlabelled, "unlabelled")):
            inputs = getattr(batch, f"{name}_input")
            if wanted and inputs is not None:
                beside[name] = self._showing.beside(name, inputs, batch, frozen, seed)["teacher"]
        return Shown(view, **beside)


def share_teachers(distillers: Sequence[Distiller]) -> list[SharedTeacher | None]:
    """Let distillers share their teachers as far as that moves no bit.

    A tap that one of them reads may keep a normalisation from being folded into the convolution before it, which
    another's copy has folded (:mod:`adm_core.frozen`): these two share no teacher.

    Args:
        distillers: of regime ``offline``; those made with one and the same teacher may share it.

    Returns:
        For each the teacher that it reads; None where it looks at none, or feeds it inputs of its own.
    """
    alike: dict[Hashable, list[Distiller]] = defaultdict(list)
    for distiller in distillers:
        alike[_form_of_teacher(distiller)].append(distiller)
    shared = {form: SharedTeacher(group) for form, group in alike.items()}
    return [shared[_form_of_teacher(each)] if _reads(each) else None for each in distillers]


def _form_of_teacher(distiller: Distiller) -> Hashable:
    """Which teacher it is, and which modules are left of it when it is folded."""
    modules = distiller.networks["teacher"].module.named_modules()
    return id(distiller.teacher), tuple((name, type(module)) for name, module in modules)


def _reads(distiller: Distiller) -> bool:
    """Whether it looks at the teacher on the batch as the task drew it."""
    return distiller.reads_teacher and all(type(part).inputs is Method.inputs for part in parts_of(distiller.method))
