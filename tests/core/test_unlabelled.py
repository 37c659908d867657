"""Pictures without labels: what a method is shown of them, alone and in lockstep, and what it is not."""

from dataclasses import replace

import pytest
import torch

from adm_core import registry
from adm_core.card import MethodCard, Needs
from adm_core.errors import AdmError
from adm_core.lockstep import Lockstep
from adm_core.method import Losses, Method
from adm_core.recipe import Optimizer, Recipe
from adm_core.testing.checks import check_method
from adm_core.testing.promises import CHECKS
from adm_core.testing.setup import Setup
from tests.core.toy import ToyTask, trainer, weights

RECIPE = Recipe(epochs=2, batch_size=16, optimizer=Optimizer(name="sgd", lr=0.05))


class FollowUnlabelled(Method):
    """Squared distance of student and teacher on pictures without labels."""

    card = MethodCard("follow-unlabelled", "", "none", 2026, frozenset({"offline", "online", "peers"}), "logits")
    needs = Needs(unlabelled=True, peers=1)

    def losses(self, student, teacher, step):
        shown = {role: view.prediction for role, view in step.unlabelled.items()}
        other = shown["peer1" if teacher is None else "teacher"].detach()
        return Losses(student={"follow": (shown["student"] - other).pow(2).mean()})


class ReadsTheirLoss(FollowUnlabelled):
    """Reads what nobody knows."""

    card = replace(FollowUnlabelled.card, name="reads-their-loss")

    def losses(self, student, teacher, step):
        return Losses(student={"loss": step.unlabelled["student"].task_loss.mean()})


class AsksInVain(FollowUnlabelled):
    """Declares pictures without labels and does not look at them."""

    card = replace(FollowUnlabelled.card, name="asks-in-vain")

    def losses(self, student, teacher, step):
        return Losses(student={"none": student.prediction.pow(2).mean()})


@pytest.fixture(autouse=True)
def known(monkeypatch):
    for method in (FollowUnlabelled, ReadsTheirLoss, AsksInVain):
        monkeypatch.setitem(registry._known, method.card.name, method)


class UnlabelledTask(ToyTask):
    """The toy task with the images of another seed, darker, without their labels."""

    def batches(self, epoch, start):
        for step, batch in enumerate(super().batches(epoch, start), start):
            images, _ = self.images(self.batch, 10_000 + 100 * epoch + step)
            yield replace(batch, unlabelled_input=images - 1)


def test_networks_show_what_they_predict_on_the_pictures_without_labels():
    run = trainer(RECIPE, "follow-unlabelled", "online", UnlabelledTask())
    distiller, batch = run.distiller.eval(), next(run.task.batches(0, 0))
    step = distiller.step(batch, 0.0, torch.Generator().manual_seed(0), distiller.views(batch)[0])
    assert set(step.unlabelled) == {"student", "teacher"} and not step.extra
    for role, view in step.unlabelled.items():
        network = distiller.networks[role].module
        torch.testing.assert_close(view.prediction, network(batch.unlabelled_input), rtol=0, atol=0)
        assert view.prediction.requires_grad and view.prediction.shape == (16, 4)


def test_a_student_learns_from_them_what_its_teacher_says_there():
    distance = {}
    for method in ("none", "follow-unlabelled"):
        run = trainer(RECIPE, method, "offline", UnlabelledTask())
        run.run()
        images, student, teacher = run.task.images(100, 5)[0] - 1, *(run.distiller.networks[r].module.eval() for r in (
            "student", "teacher"))  # fmt: skip
        with torch.no_grad():
            distance[method] = float((student(images) - teacher(images)).pow(2).mean())
    assert distance["follow-unlabelled"] < 0.5 * distance["none"]


def test_who_trains_in_lockstep_sees_them_as_alone_to_the_bit():
    alone = {name: trainer(RECIPE, name, "offline", UnlabelledTask()) for name in ("follow-unlabelled", "kd")}
    for run in alone.values():
        run.run()
    task, failed = UnlabelledTask(), []
    together = {name: trainer(RECIPE, name, "offline", task) for name in alone}
    teacher = together["kd"].distiller.networks["teacher"]
    together["follow-unlabelled"].distiller.networks["teacher"] = teacher
    together["follow-unlabelled"].distiller.__dict__["teacher"] = together["kd"].distiller.teacher
    assert len(Lockstep(together, lambda name, error: failed.append(error)).run()) == 2 and not failed
    for name, run in alone.items():
        theirs = weights(together[name])
        assert all(torch.equal(value, theirs[key]) for key, value in weights(run).items())


@pytest.mark.parametrize("method", ["follow-unlabelled", "kd+follow-unlabelled"])
def test_the_contract_knows_them(method):
    found = list(check_method(method))
    assert [f"{check.form}: {check.name}: {check.detail}" for check in found if not check.passed] == []
    declined = {check.detail for check in found if check.form == "denoisers"}
    assert declined == {"there are no pictures without labels for denoisers, whose targets are no labels"}
    assert "unlabelled" in registry.create(method).capabilities("offline")


def test_to_ask_for_them_in_vain_breaks_the_contract():
    told = CHECKS["pictures without labels count where they are asked for"](Setup("asks-in-vain", "offline", {}))
    assert told == "needs.unlabelled is declared, and other pictures without labels give the same losses"


def test_their_task_loss_cannot_be_read():
    with pytest.raises(AdmError, match="was read, and these pictures have no labels"):
        trainer(RECIPE, "reads-their-loss", "offline", UnlabelledTask()).run()


def test_a_task_without_them_is_told_apart():
    with pytest.raises(AdmError, match="'follow-unlabelled' needs unlabelled pictures, which this task lacks"):
        trainer(RECIPE, "follow-unlabelled", "offline", ToyTask()).run()
