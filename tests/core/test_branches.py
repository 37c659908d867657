"""Branches: copies of a network's end on its shared beginning, which runs, and is trained, once."""

import pytest
import torch
from torch import nn

from adm_core.branches import Branch
from adm_core.errors import AdmError, Unsupported
from adm_core.recipe import Recipe
from adm_core.taps import Network
from adm_core.testing.networks import tiny_network
from adm_core.testing.setup import Setup

EXAMPLE = (torch.zeros(2, 3, 16, 16),)


def one(after="stage2", form="images"):
    return Setup("one", "peers", {"one": {"after": after}}, form=form)


def with_equal_weights(setup):
    """The setup with branches that have the weights of the student's own end."""
    state = setup.distiller.student.state_dict()
    for branch in setup.distiller.branches:
        missing = branch.module.load_state_dict(state, strict=False).missing_keys
        assert missing == []
    return setup


@pytest.mark.parametrize("form", ["images", "pixels"])
@pytest.mark.parametrize("after", ["stage1", "stage2", "stage3"])
def test_branches_of_equal_weights_predict_alike(after, form):
    setup = with_equal_weights(one(after, form))
    first, *others = setup.distiller.views(setup.batch(0))[0]["student"].branches
    assert len(others) == 2
    for other in others:
        assert torch.equal(first.prediction, other.prediction)
        assert torch.equal(first.task_loss, other.task_loss)


def test_branches_of_other_weights_predict_otherwise_and_see_the_shared_maps():
    setup = one()
    first, second, _ = setup.distiller.views(setup.batch(0))[0]["student"].branches
    assert not torch.equal(first.prediction, second.prediction)
    assert first.features["stage2"] is second.features["stage2"]


def test_a_branch_shows_its_own_map_under_every_name_of_it():
    setup = one()
    setup.distiller.showing.taps = ("stage2", "stage3", "last", "all-stages.3")
    first, second, _ = setup.distiller.views(setup.batch(0))[0]["student"].branches
    assert not torch.equal(first.features["stage3"], second.features["stage3"])
    for view in (first, second):
        assert torch.equal(view.features["last"], view.features["stage3"])
        assert torch.equal(view.features["all-stages.3"], view.features["stage3"])


def test_the_beginning_runs_once_and_its_statistics_move_once():
    setup, runs = one(), []
    student = setup.distiller.student
    for name, module in [("beginning", student.stages[1]), ("end", student.stages[2])]:
        module.register_forward_hook(lambda *_, name=name: runs.append(name))
    for number, branch in enumerate(setup.distiller.branches, start=2):
        branch.module.stages[2].register_forward_hook(lambda *_, number=number: runs.append(f"end {number}"))
    setup.step(0)
    assert runs == ["beginning", "end", "end 2", "end 3"]
    assert int(student.stages[0][2].num_batches_tracked) == int(student.stages[2][1].num_batches_tracked) == 1
    assert [int(branch.module.stages[2][1].num_batches_tracked) for branch in setup.distiller.branches] == [1, 1]


def test_every_branch_trains_the_shared_beginning_and_its_own_end():
    setup = one()
    student, branches = setup.distiller.student, setup.distiller.branches
    shown = setup.distiller.views(setup.batch(0))[0]["student"].branches
    ends = [student.stages[2], *(branch.module.stages[2] for branch in branches)]
    for number, view in enumerate(shown):
        weights = [student.stages[0][1].weight, *(end[0].weight for end in ends)]
        grads = torch.autograd.grad(view.task_loss.mean(), weights, retain_graph=True, allow_unused=True)
        assert float(grads[0].abs().sum()) > 0
        assert [grad is not None for grad in grads[1:]] == [other == number for other in range(3)]


@pytest.mark.parametrize("form", ["images", "pixels"])
def test_a_branch_with_its_beginning_is_a_network_that_predicts_what_the_branch_does(form):
    setup = one(form=form)
    setup.step(0)
    wholes = [branch.whole(setup.distiller.networks["student"]) for branch in setup.distiller.branches]
    setup.distiller.eval()
    inputs = setup.batch(1).student_input
    shown = setup.distiller.views(setup.batch(1))[0]["student"].branches
    for network, view in zip(wholes, shown[1:], strict=True):
        assert torch.equal(network.module.eval()(inputs), view.prediction)
        assert not torch.equal(view.prediction, shown[0].prediction)
        assert network.module.state_dict().keys() == setup.distiller.student.state_dict().keys()


def test_loading_weights_into_a_branch_with_its_beginning_changes_both():
    """So that the weights of the best epoch can be brought back by what was evaluated."""
    setup = one()
    before = {name: value.clone() for name, value in setup.distiller.state_dict().items()}
    kept = [b.whole(setup.distiller.networks["student"]).module.state_dict() for b in setup.distiller.branches]
    kept = [{name: value.clone() for name, value in state.items()} for state in kept]
    setup.step(0)
    moved = setup.distiller.state_dict()
    assert not torch.equal(moved["student.stages.0.1.weight"], before["student.stages.0.1.weight"])
    for branch, state in zip(setup.distiller.branches, kept, strict=True):
        branch.whole(setup.distiller.networks["student"]).module.load_state_dict(state)
    now = setup.distiller.state_dict()
    back = [name for name in now if name.startswith(("student.stages.0", "student.stages.1", "branches"))]
    assert back and all(torch.equal(now[name], before[name]) for name in back)


def test_what_is_cut_off_is_neither_trained_nor_counted():
    setup = one()
    student = setup.distiller.student
    end = sum(p.numel() for module in (student.stages[2], student.head) for p in module.parameters())
    groups = setup.distiller.parameter_groups()
    assert sum(p.numel() for p in groups["branches"]) == 2 * end
    assert set(groups) == {"student", "branches", "method"}
    in_all = [p for group in setup.optimizers[0].param_groups for p in group["params"]]
    assert len(in_all) == len({id(p) for p in in_all}) == sum(map(len, groups.values()))


def test_auxiliary_predictions_of_the_student_count_as_ever_and_branches_have_none():
    setup = one(form="pixels")
    assert "student.auxiliary" in setup.outcome(0).terms
    runs = []
    setup.distiller.student.auxiliary.register_forward_hook(lambda *_: runs.append("student"))
    setup.step(0)
    assert runs == ["student"]
    assert not [name for name, _ in setup.distiller.branches.named_parameters() if "auxiliary" in name]


def test_branches_follow_the_students_settings_of_the_optimiser():
    from adm_core.optimizer import make_optimizers

    changed = {"networks": {"tiny8": {"lr": 0.01, "weight_decay": 0.1}}, "optimizer": {"name": "sgd", "lr": 0.05}}
    recipe = Recipe.model_validate({"epochs": 1, "batch_size": 12} | changed)
    groups = make_optimizers(one().distiller, recipe)[0].param_groups
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.01, 0.1)] * 3


class Skipping(nn.Module):
    """A network whose end also reads what its first layer gave, as a U-Net's does."""

    def __init__(self, skips):
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 3, 3, 2, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 1)
        self.skips = skips

    def forward(self, x):
        early = self.first(x)
        late = self.second(early)
        return self.last(late + early if self.skips else late).mean((2, 3))


class Twice(Skipping):
    """One whose first layer runs again at the end."""

    def forward(self, x):
        return self.last(self.second(self.first(self.first(self.second(x))))).mean((2, 3))


def branch(module, after="second"):
    torch.manual_seed(1)
    return Branch(Network("mine", module, {after: after, "first": "first"}), after, EXAMPLE)


def test_an_end_that_reads_more_of_the_beginning_is_refused():
    kept = branch(Skipping(False)).module
    assert [name for name, _ in kept.named_parameters()] == ["last.weight", "last.bias"]
    with pytest.raises(Unsupported, match="network 'mine' cannot branch after 'second': the rest needs"):
        branch(Skipping(True))


def test_an_end_without_weights_is_refused():
    with pytest.raises(Unsupported, match="network 'mine' cannot branch after 'last': nothing with weights follows"):
        branch(Skipping(False), "last")


def test_a_beginning_that_runs_again_is_refused():
    with pytest.raises(Unsupported, match="network 'mine' runs 'second' more than once"):
        branch(Twice(False))
    with pytest.raises(Unsupported, match="network 'mine' runs 'first' more than once"):
        branch(Twice(False), "first")


def test_a_place_that_is_not_there_is_named():
    with pytest.raises(AdmError, match="stage7"):
        Branch(tiny_network(8), "stage7", EXAMPLE)


def test_the_mode_of_the_network_is_left_as_it_was():
    for mode in (True, False):
        network = tiny_network(8)
        network.module.train(mode)
        assert Branch(network, "stage1", EXAMPLE).module.training is mode
