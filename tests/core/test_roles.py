"""Networks by role: who there must be, what each is shown and taught; and a batch that is cut into parts."""

from dataclasses import fields, replace

import pytest
import torch

from adm_core import registry
from adm_core.batch import Batch
from adm_core.distiller import Distiller
from adm_core.errors import AdmError, Unsupported
from adm_core.method import Losses, Method, MethodCard, Needs
from adm_core.noising import Noising
from adm_core.testing.networks import task_loss, tiny_batch, tiny_facts, tiny_network
from adm_core.testing.setup import Setup


def distiller(method, regime, roles, settings=None):
    networks = {role: tiny_network(8, seed) for seed, role in enumerate(roles)}
    made, example = registry.create(method, settings), (tiny_batch().student_input[:2],)
    return Distiller(networks, made, regime, task_loss, "class_logits", example, tiny_facts())


@pytest.mark.parametrize(
    ("method", "regime", "roles", "wanted"),
    [
        ("kd", "offline", ["student"], r"\['student', 'teacher'\], 1 branches"),
        ("none", "alone", ["student", "teacher"], r"\['student'\], 1 branches"),
        ("dml", "peers", ["student"], r"\['peer1', 'student'\], 1 branches"),
        ("dml", "peers", ["student", "peer1", "peer2"], r"\['peer1', 'student'\], 1 branches"),
        ("dml", "peers", ["student", "teacher"], r"\['peer1', 'student'\], 1 branches"),
        ("one", "peers", ["student", "branch2"], r"\['student'\], 3 branches"),
        ("none", "peers", ["student", "branch2"], r"\['student'\], 1 branches"),
    ],
)
def test_the_networks_are_those_that_regime_and_method_ask_for(method, regime, roles, wanted):
    with pytest.raises(AdmError, match=f"regime '{regime}' and networks .* there must be {wanted}"):
        distiller(method, regime, roles)


def test_a_method_that_is_not_for_peers_is_skipped_with_a_reason():
    with pytest.raises(Unsupported, match="'kd' runs offline, not peers"):
        distiller("kd", "peers", ["student"])


class Told(Method):
    """Pulls every network to the mean prediction, and keeps the step."""

    card = MethodCard("told", "Told", "", 2026, frozenset({"offline", "online", "peers"}), "baseline")
    needs = Needs(peers=2)
    step = None
    terms = ("student", "peer1", "peer2")

    def losses(self, student, teacher, step):
        self.step, self.teacher = step, teacher
        return Losses.of_roles({role: {"size": step.views["student"].prediction.sum()} for role in self.terms})


@pytest.fixture
def told(monkeypatch):
    monkeypatch.setitem(registry._known, "told", Told)


def test_every_view_stands_under_its_role_and_is_its_networks_own(told):
    setup = Setup("told", "peers", {})
    batch = setup.batch(0)
    setup.distiller(batch, 0.25, torch.Generator())
    step = setup.method.step
    assert list(step.views) == ["student", "peer1", "peer2"] and setup.method.teacher is None
    assert (step.progress, step.phase, step.batch) == (0.25, "", batch)
    for role, view in step.views.items():
        assert torch.equal(view.prediction, setup.distiller.networks[role].module(batch.student_input))
    assert len({float(view.prediction.sum().detach()) for view in step.views.values()}) == 3


@pytest.mark.parametrize(("regime", "roles"), [("offline", ["student"]), ("online", ["student", "teacher"])])
def test_a_pair_stands_under_its_roles_as_well(told, regime, roles):
    setup = Setup("told", regime, {})
    setup.method.terms = roles
    setup.distiller(setup.batch(0), 0.5, torch.Generator())
    step = setup.method.step
    assert list(step.views) == ["student", "teacher"] and step.views["teacher"] is setup.method.teacher


def test_terms_by_role_are_named_and_summed_by_role(told):
    setup = Setup("told", "peers", {})
    outcome = setup.outcome(0)
    roles = ("student", "peer1", "peer2")
    assert list(outcome.terms) == [f"{role}.{name}" for role in roles for name in ("task", "size")]
    torch.testing.assert_close(outcome.total.detach(), sum(outcome.terms.values()))


def test_a_term_for_a_role_that_does_not_train_is_an_error(told):
    setup = Setup("told", "peers", {})
    setup.method.terms = ("student", "peer7")
    with pytest.raises(AdmError, match=r"method 'told': terms for 'peer7' \(size\), which does not train here"):
        setup.outcome(0)


def test_of_roles_tells_student_teacher_and_peers_apart():
    terms = {role: {"x": torch.ones(())} for role in ("student", "teacher", "peer1", "peer2")}
    found = Losses.of_roles(terms)
    assert (found.student, found.teacher) == (terms["student"], terms["teacher"])
    assert found.peers == {role: terms[role] for role in ("peer1", "peer2")}


class Flat(Method):
    """Asks no teacher: pulls the student's own prediction to zero."""

    card = MethodCard("flat", "Flat", "", 2026, frozenset({"offline"}), "baseline")
    needs = Needs(teacher=False)

    def losses(self, student, teacher, step):
        assert teacher is None
        return Losses(student={"size": student.prediction.square().mean()})


def test_a_method_that_asks_no_teacher_is_trained_by_its_term(monkeypatch):
    monkeypatch.setitem(registry._known, "flat", Flat)
    alone, together = distiller("flat", "offline", ["student", "teacher"]), Setup("flat", "offline", {})
    outcome = alone(tiny_batch(), 0.5, torch.Generator())
    expected = alone.student(tiny_batch().student_input).square().mean() + outcome.terms["student.task"]
    assert float(outcome.total.detach()) == pytest.approx(float(expected.detach())) and "student.size" in outcome.terms
    assert together.losses().student.keys() == {"size"}


def test_peers_have_parameter_groups_and_weights_of_their_own():
    setup = Setup("dml", "peers", {"dml": {"networks": 3}})
    groups = setup.distiller.parameter_groups()
    assert list(groups) == ["student", "peer1", "peer2"]
    first = [max(group, key=torch.numel) for group in groups.values()]
    assert not any(torch.equal(a, b) for a in first for b in first if a is not b)
    assert len(setup.optimizers[0].param_groups) == 3


# --- a batch in parts ---


def full_batch(own_views):
    """Six examples with something in every field that a batch has."""
    noising = tiny_batch(form="denoisers").noising
    six = Noising(noising.process, noising.clean[:6], noising.noise[:6], noising.timestep[:6], classifier=None)
    images = [torch.arange(6 * 12).view(6, 3, 2, 2) + 1000.0 * k for k in range(4)]
    return Batch(
        images[0], images[1] if own_views else images[0], torch.arange(6) + 10, torch.arange(6) + 20,
        torch.arange(24).view(6, 2, 2) % 3 > 0, (torch.arange(6) + 30, torch.arange(6) + 40), six, images[2], images[3],
    )  # fmt: skip


def joined(values):
    """Parts of a field together again."""
    first = values[0]
    if isinstance(first, tuple):
        return tuple(map(joined, zip(*values, strict=True)))
    if isinstance(first, Noising):
        names = ("clean", "noise", "timestep")
        return replace(first, **{name: torch.cat([getattr(v, name) for v in values]) for name in names})
    return torch.cat(values)


def assert_same(found, expected):
    if isinstance(expected, tuple):
        for a, b in zip(found, expected, strict=True):
            assert_same(a, b)
    elif isinstance(expected, Noising):
        for name in ("clean", "noise", "timestep"):
            assert_same(getattr(found, name), getattr(expected, name))
    else:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("own_views", [False, True])
@pytest.mark.parametrize("count", [2, 3])
def test_parts_of_a_batch_hold_every_field_of_their_examples(own_views, count):
    batch = full_batch(own_views)
    parts = list(batch.chunks(count))
    assert [len(part.index) for part in parts] == [6 // count] * count
    for field in fields(Batch):
        whole = getattr(batch, field.name)
        assert whole is not None, f"the test knows no value for {field.name}"
        assert_same(joined([getattr(part, field.name) for part in parts]), whole)
    assert all((part.teacher_input is part.student_input) == (not own_views) for part in parts)


def test_a_batch_in_one_part_is_itself_and_what_is_missing_stays_missing():
    batch = full_batch(False)
    assert list(batch.chunks(1)) == [batch]
    bare = replace(batch, mask=None, noising=None, extra_input=None, unlabelled_input=None, conditions=())
    for part in bare.chunks(2):
        assert (part.mask, part.noising, part.extra_input, part.unlabelled_input, part.conditions) == (*[None] * 4, ())
