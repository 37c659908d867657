"""What a method says about itself before it runs: its card, and what it needs. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from adm_core.errors import AdmError

PredictionKind = Literal["class_logits", "denoiser"]
"""What networks predict: logits of classes, or what denoises an input (the noise, the velocity or the clean example).
"""
Sampler = Literal["ddim", "multistep"]
"""How images are made of a denoiser: deterministic DDIM (arXiv:2010.02502), or multistep sampling of consistency models
(arXiv:2303.01469, algorithm 1), which predicts the clean example, noises that anew to the next level, and so on."""
HINT, ALL_STAGES, PREACTS = "hint", "all-stages", "all-stages.preact"
"""Names of groups of taps, which each network resolves as the literature does."""
MEAN = "mean"
"""The role in ``needs.copies`` of the network whose weights are the means of all networks' weights."""
AUXILIARY = "auxiliary1"
"""The tap of a network's first auxiliary prediction."""
TASK, DISTILLATION = "task", "distillation"
"""Groups of gradients that an optimiser may treat apart: of the networks' own losses, and of the method's terms."""
SEVERAL = (ALL_STAGES, PREACTS)
"""The groups of more than one map."""
REGIMES = ("offline", "online", "peers")
"""A frozen teacher; a teacher that trains along; several equal networks without a teacher."""


def members(taps: Iterable[str], there: Iterable[str]) -> tuple[str, ...]:
    """Taps with each group of several replaced by those of its members that are there, in order.

    Args:
        taps: names of taps and groups, as settings have them.
        there: keys of a view's features or of shapes; groups are members there, ``all-stages.1`` and so on.
    """
    names = list(there)
    each = ([n for n in names if n.rpartition(".")[0] == tap] if tap in SEVERAL else [tap] for tap in taps)
    return tuple(name for group in each for name in group)


@dataclass(frozen=True)
class MethodCard:
    """Who a method is.

    Attributes:
        name: the word used in suites and tables; composition joins such words by ``+``.
        title: the published name.
        paper: identifier of the paper, e.g. ``"arXiv:2203.08679"``.
        year: of publication.
        regimes: subset of ``{"offline", "online", "peers"}`` in which it can run.
        family: ``logits`` (predictions of any kind), ``features``, ``relations``, ``spatial``, ``steps`` (fewer steps
            of sampling), ``optimisation`` or ``baseline``.
        version: raised whenever the numbers it gives are meant to move; part of a cell's identity.
        detached: whether every target is detached, so that no student term reaches the teacher nor the reverse;
            checked by the contract tests.
        deployed: what is scored, counted and saved as the student, in words; see ``Method.deployed``.
    """

    name: str
    title: str
    paper: str
    year: int
    regimes: frozenset[str]
    family: str
    version: int = 1
    detached: bool = True
    deployed: str = "student"


@dataclass(frozen=True)
class Branches:
    """Copies of what follows a place of the student, which share all that comes before it.

    Attributes:
        count: branches in all, the student's own end included.
        after: tap whose output all of them start from.
        mean_gradient: whether what they share is trained by the mean of their gradients, not by the sum.
    """

    count: int
    after: str
    mean_gradient: bool = False


@dataclass(frozen=True)
class Phase:
    """A stretch of training in which only some weights move.

    Attributes:
        name: found in ``step.phase``.
        share: of all steps; what the phases of a method leave is its last, nameless phase, in which everything trains.
        trains: ``student``, ``teacher``, ``method`` (the method's parts), or ``student.body``, the student without its
            classifier. The rest gets no gradient, weight decay or momentum.
    """

    name: str
    share: float
    trains: tuple[str, ...]


@dataclass(frozen=True)
class Needs:
    """What a method reads; decides on which tasks and pairs it can run.

    Attributes:
        prediction: the kind of prediction it understands; None: any.
        taps: feature maps it reads, the same names on both networks; ``hint``, ``all-stages`` and
            ``all-stages.preact`` (before a stage's last activation) mean what each network has for them
            (``all-stages`` is read as ``all-stages.1``, ``all-stages.2``, ...).
        optional: further taps, which it reads where every network has them; elsewhere features and shapes lack them.
        head: whether it applies the networks' own classifiers, where they have one.
        views: ``"own"``: each network gets its own augmentation of an example (where predictions are dense, of its
            colours alone, as pixels must correspond), and copies yet another; ``"shared"``: positions must correspond,
            so all get the same; ``"any"``. Composition: shared wins over own, own over any.
        capabilities: what goes beyond the rule, shown as a column; see :data:`CAPABILITIES`. Those that follow from
            the attributes below are added by themselves.
        teacher: whether it looks at the teacher at all; if not, a frozen teacher's forward pass is left out.
        copies: frozen copies of networks that it keeps, name to the role of what is copied at the start; found in
            ``self.parts`` as :class:`adm_core.network_copy.NetworkCopy`, and what they show on a batch in
            ``step.copies``. A peer's copy may follow that peer, any other the student. The role ``mean`` is that of no
            copy: it is the network of all networks' mean weights, by which gradients reach them all; see
            :class:`adm_core.mean_network.MeanNetwork`.
        training_copies: names of the copies that run in training mode, with normalisation statistics of their own; the
            others run in evaluation mode, with those of the network that they follow.
        trained_copies: copies of networks that it trains, name to role; in ``self.parts`` as
            :class:`adm_core.network_copy.TrainedCopy`.
        starts_as_teacher: whether the student begins with the teacher's weights, which must be of its architecture.
        peers: regime ``peers``: further networks beside the student, ``peer1``, ``peer2``, ...; in ``step.views``.
        branches: copies of the student's end; what they show is in the student's ``view.branches``.
        extra_view: ``"strong"``: networks also see a second, stronger augmentation of the batch, in ``step.extra``.
        unlabelled: whether networks also see pictures without labels, in ``step.unlabelled``; the task has some under a
            shift alone: training pictures as they look where networks are scored.
        per_class: examples of each class in a batch, for class-balanced batches; 0: batches as the task draws them.
        phases: stretches of training in which only some weights move, in order.
        teacher_pass: whether ``prepare`` wants the frozen teacher's views of the training set before training.
        gradient_groups: whether groups of gradients are kept apart, as ``Method.momentum`` names them.
        sampler: how images are made of the student, where it is a denoiser.
        timesteps: how many the noise schedule must have at least, as the method's sampling takes so many steps.
        clean_example: whether denoisers are asked for the clean example at every timestep; where a schedule ends in
            noise alone, a prediction of the noise says nothing of it.
    """

    prediction: PredictionKind | None = None
    taps: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    head: bool = False
    views: Literal["any", "own", "shared"] = "any"
    capabilities: frozenset[str] = frozenset()
    teacher: bool = True
    copies: Mapping[str, str] = field(default_factory=dict)
    training_copies: frozenset[str] = frozenset()
    trained_copies: Mapping[str, str] = field(default_factory=dict)
    starts_as_teacher: bool = False
    peers: int = 0
    branches: Branches | None = None
    extra_view: Literal["strong"] | None = None
    unlabelled: bool = False
    per_class: int = 0
    phases: tuple[Phase, ...] = ()
    teacher_pass: bool = False
    gradient_groups: bool = False
    sampler: Sampler = "ddim"
    timesteps: int = 0
    clean_example: bool = False

    def __post_init__(self) -> None:
        given: str | None = self.prediction
        if given not in (None, "class_logits", "denoiser"):
            renamed = "; 'noise' is called 'denoiser' now" if given == "noise" else ""
            raise AdmError(f"needs.prediction '{given}': class_logits, denoiser or None{renamed}")
        implied = {
            "network-copies": self.copies or self.trained_copies,
            "starts-as-teacher": self.starts_as_teacher,
            "peers": self.peers,
            "branches": self.branches,
            "extra-view": self.extra_view,
            "unlabelled": self.unlabelled,
            "balanced-batches": self.per_class,
            "phases": self.phases,
            "teacher-pass": self.teacher_pass,
            "gradient-groups": self.gradient_groups,
            "own-sampler": self.sampler != "ddim",
        }
        united = self.capabilities | {name for name, there in implied.items() if there}
        object.__setattr__(self, "capabilities", frozenset(united))

    @property
    def augmentations(self) -> int:
        """Views of each example in a batch: with views of their own one for every network, and one for copies.

        The first is the student's, the second the teacher's or the copies', the others the peers'.
        """
        return 2 + self.peers if self.views == "own" else 1

    def within(self, regime: str) -> Needs:
        """What of it counts in a regime: further networks are trained among peers alone."""
        return self if regime == "peers" else replace(self, peers=0, capabilities=self.capabilities - {"peers"})

    def capabilities_in(self, regime: str) -> frozenset[str]:
        """The capabilities that show in a regime."""
        return self.within(regime).capabilities

    def phase_at(self, progress: float) -> Phase | None:
        """The phase at a share of training in [0, 1]; None in the last one, in which everything trains."""
        end = 0.0
        for phase in self.phases:
            end += phase.share
            if progress < end:
                return phase
        return None


CAPABILITIES: Mapping[str, str] = {
    "trainable-parts": "trains modules of its own beside the networks",
    "own-views": "gives each network its own augmentation of an example",
    "pauses-teacher": "leaves the teacher out of some steps",
    "own-optimiser": "trains some of its parts by an optimiser of their own",
    "memory": "keeps a memory of earlier batches",
    "network-copies": "keeps copies of a network, and runs them",
    "starts-as-teacher": "starts the student from the teacher's weights",
    "peers": "trains further networks beside the student",
    "branches": "trains copies of the student's end on its shared beginning",
    "extra-view": "shows the networks a second, stronger augmentation of each example",
    "unlabelled": "shows the networks pictures without labels, as they look where networks are scored",
    "balanced-batches": "draws batches with the same number of examples of each of their classes",
    "phases": "trains only some weights in some stretches of training",
    "teacher-pass": "looks at the frozen teacher's views of the training set before training",
    "held-out": "trains on a part of the training images alone, and looks at its errors on the rest",
    "gradient-groups": "treats the gradients of task and distillation apart",
    "own-sampler": "is sampled by noising predicted images anew, where others are by DDIM",
    "deploys-another": "is scored, counted and saved as another module than the student it trains",
    "null-class": "asks denoisers what they predict when they are told no class",
    "host-synchronisation": "waits for the device in every step",
}
"""What a method may need beyond the rule, by name."""
