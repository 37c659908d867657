"""ADM, Asymmetric Decision-Making (Chen et al., arXiv:2503.06685, ICML 2025): a reconstruction.

No code of the authors is public and their equations were not at hand, so what follows is rebuilt from public
descriptions of the method: a map S of feature similarity, *consensus learning* of the student where S is high and
*divergence learning* of the teacher where S is low. Four forms of the two losses are offered; see the class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, cast

from pydantic import Field

from adm_core import losses
from adm_core.card import members
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn


SHARES = {"student": "consensus", "teacher": "divergence"}
"""The setting that weights each role's loss."""


class Maps(NamedTuple):
    """What ADM sees of two networks on one batch, at the resolution of its first tap's smaller map.

    Attributes:
        similarity: S, [B, H, W].
        consensus: w, the weights of the student's loss, [B, H, W], of mean one.
        divergence: v, the weights of the teacher's loss, [B, H, W], of mean one.
    """

    similarity: Tensor
    consensus: Tensor
    divergence: Tensor


@register
class ADM(Method):
    """Consensus learning for the student, divergence learning for a co-trained teacher (reconstruction).

    At each tap S_p is the similarity of both networks' features at position p. With temperature τ the weights are
    ``w = |Ω| softmax(S / τ)`` (consensus) and ``v = |Ω| softmax(-S / τ)`` (divergence), mean one. The losses:

    - form ``H`` (head): ``L_co = CE(h_s(mean_p w_p F_s), y)``, ``L_di = CE(h_t(mean_p v_p F_t), y)``: each
      network's own classifier must be right from the weighted positions alone;
    - form ``W`` (weight): ``L_co = mean_p w_p · KL(p_t(p) || p_s(p))``, ``L_di = mean_p v_p · L_task(p_t(p))`` on
      dense predictions; an image classifier's are its class responses at every position, and for noise
      predictions both are squared errors;
    - form ``M`` (match): ``L_co = mean_p w_p (1 - S_p)`` through the student, ``L_di = mean_p v_p max(0, S_p - m)``
      through the teacher;
    - form ``F`` (forward): form H in place of the networks' losses on labels, with weights ``1 + c (w - 1)`` and
      ``1 + d (v - 1)``: features are modulated in the forward pass of training, by strengths c and d.

    A frozen teacher (offline) keeps L_co alone. Among K equal networks (regime ``peers``; this extension is **ours**)
    each is the student and each other one its teacher in turn: every network takes the mean over the others of L_co
    with them as teachers, and that of L_di with them as students, each with the S of the two. Nothing is trained beside
    the networks except a projector, when one is asked for.
    """

    card = MethodCard(
        name="adm",
        title="Asymmetric Decision-Making (reconstruction)",
        paper="arXiv:2503.06685",
        year=2025,
        regimes=frozenset({"offline", "online", "peers"}),
        family="spatial",
    )
    only_in: ClassVar[Mapping[str, str]] = {"networks": "peers"}

    @dataclass(frozen=True)
    class Settings:
        """``auto`` is form H for image labels and W for dense predictions, identity width where widths agree.

        The paper's weights are not known to us; 0.3 was the best of 0.1, 0.3 and 1 on digit-scenes' validation split
        (docs/quick-settings.md).

        Attributes:
            form: ``auto``, ``H``, ``M``, ``W`` or ``F``.
            weighting: ``similarity``; ``annealed``, by a temperature that falls from 10 τ to τ along training;
                ``ranking``, by the order of S in each image; or the controls ``uniform`` (w = v = 1) and ``swapped``
                (student v, teacher w).
            taps: places where S is computed; ``last`` is the last stage. Forms H and F need the last alone.
            width: how maps of different width are compared: ``identity``, ``pool`` (channels averaged), ``class``
                (class responses), ``attention`` (energy maps), ``projector`` (trained by L_co of form M);
                ``auto`` is identity, or else class responses, or else pool.
            temperature: τ of the weights.
            consensus: weight of L_co, or c.
            divergence: weight of L_di, or d.
            consensus_target: form H: what L_co asks for, the ``label`` or the ``teacher``'s prediction.
            ramp: share of training over which both weights rise linearly from zero.
            margin: m of form M.
            stop_gradient: whether no gradient flows through the weights.
            networks: K, among peers.
        """

        form: Literal["auto", "H", "M", "W", "F"] = "auto"
        weighting: Literal["similarity", "annealed", "ranking", "uniform", "swapped"] = "similarity"
        taps: Annotated[tuple[str, ...], Field(min_length=1)] = ("last",)
        width: Literal["auto", "identity", "pool", "class", "attention", "projector"] = "auto"
        temperature: Annotated[float, Field(gt=0)] = 0.5
        consensus: Annotated[float, Field(ge=0)] = searched(0.3, 0.03, 3.0)
        divergence: Annotated[float, Field(ge=0)] = searched(0.3, 0.03, 3.0, acts=lambda _, regime: regime != "offline")
        consensus_target: Literal["label", "teacher"] = "label"
        ramp: Annotated[float, Field(ge=0, le=1)] = 0.1
        margin: Annotated[float, Field(ge=-1, le=1)] = 0.0
        stop_gradient: bool = True
        networks: Annotated[int, Field(ge=2)] = 2

    _taps: tuple[str, ...] = ()
    _widths: tuple[str, ...] = ()
    _form: str = ""

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Feature maps at corresponding positions, classifiers where form or width applies them; K networks."""
        s = self.settings
        trains = frozenset({"trainable-parts"} if s.width == "projector" else ())
        return Needs(taps=tuple(s.taps), views="shared", head=True, capabilities=trains, peers=s.networks - 1)

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Every tap must be a map of more than one position, and the form must suit the prediction."""
        from adm_core import align

        s, form = self.settings, self._form_for(student)
        flat = align.why_not_maps(s.taps, student, teacher)
        if flat:
            return flat
        for tap in members(s.taps, student):
            if student[tap][2] * student[tap][3] < 2 or teacher[tap][2] * teacher[tap][3] < 2:
                return f"tap {tap} has a single position: there is nothing to select"
            if s.width == "identity" and student[tap][1] != teacher[tap][1]:
                return f"width 'identity' needs equal widths at {tap}, not {student[tap][1]} and {teacher[tap][1]}"
        classified = tuple(s.taps) == ("last",) and "head" in student and "head" in teacher
        if not classified and (form in ("H", "F") or (form == "W" and len(student["prediction"]) == 2)):
            return f"form {form} applies linear classifiers to the last stage: it needs taps ['last'] and such networks"
        if not classified and s.width == "class":
            return "class responses need taps ['last'] and networks with a linear classifier"
        if form == "F" and regime == "peers":
            return "form F stands in place of the loss on labels, which an equal of several would have by each of them"
        if s.width == "projector" and form != "M":
            return "a projector is trained by form M only; the other forms would leave it as it was initialised"
        return None

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """A projector per tap, if asked for."""
        from torch import nn

        from adm_core import align

        self._form = self._form_for(student)
        self._taps = members(self.settings.taps, student)
        self._widths = tuple(self._width_for(tap, student, teacher) for tap in self._taps)
        if self.settings.width != "projector":
            return {}
        each = (align.make_projector(student[tap][1], teacher[tap][1]) for tap in self._taps)
        return {"projectors": nn.ModuleList(each)}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``consensus`` and ``divergence``; logs S, its spread and the entropy of both weight maps."""
        if teacher is not None:
            return self._of_pair(student, teacher, step)
        both = permutations(step.views, 2)
        return Losses.of_pairs({two: self._of_pair(*(step.views[role] for role in two), step) for two in both})

    def _of_pair(self, student: View, teacher: View, step: Step) -> Losses:
        """Consensus of the one with the other, divergence of the other from the one."""
        s = self.settings
        fixed = self._similarity(student.detached(), teacher.detached(), fixed=True)
        if s.stop_gradient:
            for_student = for_teacher = fixed
        else:
            for_student = self._similarity(student, teacher.detached())
            for_teacher = self._similarity(student.detached(), teacher, fixed=True)
        terms: dict[str, dict[str, Tensor]] = {"student": {}, "teacher": {}}
        if s.consensus:
            weights = self._weights(for_student, 1.0, step)
            terms["student"]["consensus"] = self._term("student", student, teacher.detached(), weights, step)
        if s.divergence and self._online(teacher):
            weights = self._weights(for_teacher, -1.0, step)
            terms["teacher"]["divergence"] = self._term("teacher", teacher, student.detached(), weights, step)
        own, theirs = (0.0 if self._form == "F" and terms[role] else 1.0 for role in ("student", "teacher"))
        log = self._log(fixed, step)
        return Losses(terms["student"], terms["teacher"], student_task=own, teacher_task=theirs, log=log)

    @property
    def places(self) -> str:
        """Where S is read and how widths are matched there, once built: ``last (identity)``."""
        return ", ".join(f"{tap} ({width})" for tap, width in zip(self._taps, self._widths, strict=True))

    def maps(self, student: View, teacher: View, step: Step) -> Maps:
        """S and both weight maps as :meth:`losses` has them, without gradients; :meth:`build` must have been called."""
        similarity = self._similarity(student.detached(), teacher.detached()).detach()
        return Maps(similarity, self._weights(similarity, 1.0, step), self._weights(similarity, -1.0, step))

    def _form_for(self, student: Shapes) -> str:
        if self.settings.form != "auto":
            return str(self.settings.form)
        return "H" if len(student["prediction"]) == 2 else "W"

    def _width_for(self, tap: str, student: Shapes, teacher: Shapes) -> str:
        if self.settings.width != "auto":
            return str(self.settings.width)
        if student[tap][1] == teacher[tap][1]:
            return "identity"
        has_heads = tap == "last" and "head" in student and "head" in teacher
        return "class" if has_heads and len(student["prediction"]) == 2 else "pool"

    @staticmethod
    def _online(teacher: View) -> bool:
        """A frozen teacher's tensors carry no graph, so divergence learning has nothing to act on."""
        return teacher.prediction.requires_grad

    def _similarity(self, student: View, teacher: View, fixed: bool = False) -> Tensor:
        """S, [B, H, W], the taps' mean at the resolution of the first; ``fixed`` projectors do not learn from it."""
        from adm_core import align
        from adm_core.view import constant

        maps: list[Tensor] = []
        projectors = cast("Iterable[nn.Module | None]", self.parts.get("projectors", [None] * len(self._taps)))
        for tap, width, projector in zip(self._taps, self._widths, projectors, strict=True):
            a, b = align.match_size(student.features[tap], teacher.features[tap])
            made = constant(projector) if fixed and projector is not None else projector
            if width == "attention":
                maps.append(losses.spatial.attention_similarity(a, b))
            else:
                a, b = align.match_width(a, b, width, (student.head, teacher.head), made)
                maps.append(losses.spatial.cosine_map(a, b))
        return losses.spatial.mean_map(maps)

    def _weights(self, similarity: Tensor, sign: float, step: Step) -> Tensor:
        """Weights [B, H, W] of mean one: consensus for sign +1, divergence for -1, or what a control puts there."""
        if self.settings.weighting == "uniform":
            return similarity.new_ones(similarity.shape)
        if self.settings.weighting == "swapped":
            sign = -sign
        return self._selection(sign * similarity, step)

    def _selection(self, values: Tensor, step: Step) -> Tensor:
        """Weights [B, H, W] of mean one that are high where the values are."""
        s = self.settings
        if s.weighting == "ranking":
            return losses.spatial.rank_weights(values, step.mask)
        temperature = s.temperature * (10 ** (1 - step.progress) if s.weighting == "annealed" else 1)
        return losses.spatial.softmax_weights(values, temperature, step.mask)

    def _term(self, role: str, own: View, other: View, weights: Tensor, step: Step) -> Tensor:
        """The form's loss of one network, weighted."""
        share = step.ramp(self.settings.ramp) * getattr(self.settings, SHARES[role])
        if self._form == "F":
            return self._head(role, own, other, 1 + share * (weights - 1), step)
        form = {"H": self._head, "M": self._match, "W": self._weight}[self._form]
        return cast("Tensor", share * form(role, own, other, weights, step))

    def _head(self, role: str, own: View, other: View, weights: Tensor, step: Step) -> Tensor:
        """Forms H and F: the network's classifier on its re-weighted pooled features."""
        features = own.features["last"]
        pooled = losses.spatial.weighted_pool(features, losses.spatial.resize(weights, features.shape[2:]))
        logits = own.head(pooled)  # type: ignore[misc]
        if role == "student" and self._form == "H" and self.settings.consensus_target == "teacher":
            loss: Tensor = losses.logits.kl_divergence(logits, other.prediction)
        else:
            loss = losses.logits.cross_entropy(logits, step.target)
        return loss

    def _match(self, role: str, own: View, other: View, weights: Tensor, step: Step) -> Tensor:
        """Form M: pull the student's features to the teacher's, push the teacher's away beyond the margin."""
        pair = (own, other) if role == "student" else (other, own)
        similarity = self._similarity(*pair, fixed=role == "teacher")
        distance = 1 - similarity if role == "student" else (similarity - self.settings.margin).clamp_min(0)
        loss: Tensor = losses.spatial.masked_mean(weights * distance, step.mask)
        return loss

    def _weight(self, role: str, own: View, other: View, weights: Tensor, step: Step) -> Tensor:
        """Form W: distillation (student) or the task's loss (teacher) re-weighted over positions."""
        from adm_core import loss_maps

        values = loss_maps.distillation(own, other) if role == "student" else loss_maps.task(own, step.target)
        weights = losses.spatial.resize(weights, values.shape[1:])
        loss: Tensor = losses.spatial.masked_mean(weights * values, step.mask)
        return loss

    def _log(self, similarity: Tensor, step: Step) -> dict[str, Tensor]:
        similarity, entropy = similarity.detach(), losses.spatial.relative_entropy
        return {
            "similarity_mean": similarity.mean(),
            "similarity_spread": similarity.flatten(1).std(1).mean(),
            "consensus_entropy": entropy(self._selection(similarity, step)),
            "divergence_entropy": entropy(self._selection(-similarity, step)),
        }
