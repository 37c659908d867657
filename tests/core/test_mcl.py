"""MCL against literal loops and the published joint loss, and cohorts of networks through the trainer."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from adm_core import registry
from adm_core.batch import Batch
from adm_core.distiller import Distiller
from adm_core.losses.contrast import supervised_contrast
from adm_core.method import Facts
from adm_core.recipe import Optimizer, Recipe
from adm_core.seeds import derive
from adm_core.testing.networks import tiny_network
from adm_core.train import Trainer
from tests.core.literal import dot, kl, numbers, softmax, view
from tests.core.toy import CLASSES, ToyTask, make_step, trainer, weights

B, K = 6, 5
RECIPE = Recipe(epochs=3, batch_size=16, optimizer=Optimizer(name="sgd", lr=0.05))


def mcl(features, target, **settings):
    """The method and its losses on what the classifiers of networks read, roles to [B, C]."""
    method = registry.create("mcl", {"mcl": {"width": 4} | settings})
    shapes = {"penultimate": tuple(next(iter(features.values())).shape)}
    torch.manual_seed(0)
    facts = Facts(B, K, target, 1, B, roles=tuple(features))
    method.take({name: part.double() for name, part in method.build(shapes, shapes, facts).items()})
    views = {role: view(numbers(9, B, K), target, penultimate=own) for role, own in features.items()}
    step = replace(make_step(target, 0.5, torch.Generator()), views=views)
    return method, method.losses(views["student"], None, step)


def by_role(found):
    return {"student": found.student, "teacher": found.teacher, **found.peers}


PAIRS = torch.tensor([3, 3, 0, 0, 4, 4])


@pytest.fixture
def cohort():
    return {role: numbers(seed, B, 7) for seed, role in enumerate(("student", "peer1", "peer2"))}


def embeddings(method, features):
    made = {role: method.parts[f"embedding_{role}"](own) for role, own in features.items()}
    return {role: own / own.norm(dim=1, keepdim=True) for role, own in made.items()}


def contrast_by_hand(a, b, target, tau):
    """Supervised contrast of every row of a with the rows of b."""
    total = 0.0
    for i in range(len(a)):
        others = [j for j in range(len(b)) if j != i]
        positives = [j for j in others if target[j] == target[i]]
        partition = sum(math.exp(dot(a[i], b[j]) / tau) for j in others)
        total -= sum(dot(a[i], b[j]) / tau - math.log(partition) for j in positives) / len(positives)
    return total / len(a)


def divergence_by_hand(own, target, temperature):
    """T² KL of rows of softmaxes of two matrices given as lists, the target first."""
    pairs = zip(target, own, strict=True)
    rows = [kl(softmax(q, temperature), softmax(p, temperature)) for q, p in pairs]
    return temperature**2 * sum(rows) / len(rows)


def matrix(a, b, tau):
    return [[dot(x, y) / tau for y in b] for x in a]


def test_mcl_is_the_literal_sum_for_three_networks(cohort):
    method, found = mcl(cohort, PAIRS, networks=3)
    made = {role: own.tolist() for role, own in embeddings(method, cohort).items()}
    labels, tau, t = PAIRS.tolist(), 0.1, 3.0
    assert by_role(found).keys() == {"student", "teacher", "peer1", "peer2"} and not found.teacher
    for role, own in made.items():
        expected = {"vcl": contrast_by_hand(own, own, labels, tau), "icl": 0.0, "soft_vcl": 0.0, "soft_icl": 0.0}
        for other in (e for name, e in made.items() if name != role):
            across, back = matrix(own, other, tau), matrix(other, own, tau)
            expected["icl"] += contrast_by_hand(own, other, labels, tau) + contrast_by_hand(other, own, labels, tau)
            expected["soft_vcl"] += divergence_by_hand(matrix(own, own, tau), matrix(other, other, tau), t)
            expected["soft_icl"] += divergence_by_hand(across, back, t) + divergence_by_hand(back, across, t)
        weight = {"vcl": 0.1, "icl": 0.1, "soft_vcl": 1.0, "soft_icl": 1.0}
        terms = by_role(found)[role]
        assert terms.keys() == expected.keys()
        for name, value in expected.items():
            assert float(terms[name].detach()) == pytest.approx(weight[name] * value, rel=1e-9), f"{role} {name}"


def published_sum(made, target, tau=0.1, t=3.0):
    """The authors' one loss for all networks: ICL and its soft form once per pair, gradients into both."""

    def soft(own, fixed):
        p, q = (own / t).log_softmax(1), (fixed.detach() / t).softmax(1)
        return t**2 * F.kl_div(p, q, reduction="batchmean")

    total, roles = 0.0, list(made)
    for place, i in enumerate(roles):
        within = made[i] @ made[i].T / tau
        total = total + 0.1 * supervised_contrast(within, target)
        total = total + sum(soft(within, made[j] @ made[j].T / tau) for j in roles if j != i)
        for j in roles[place + 1 :]:
            a, b = made[i] @ made[j].T / tau, made[j] @ made[i].T / tau
            total = total + 0.1 * (supervised_contrast(a, target) + supervised_contrast(b, target))
            total = total + soft(a, b) + soft(b, a)
    return total


def test_every_network_gets_the_gradient_of_the_published_joint_loss(cohort):
    cohort = {role: own.requires_grad_() for role, own in cohort.items()}
    method, found = mcl(cohort, PAIRS, networks=3)
    each = sum(term for terms in by_role(found).values() for term in terms.values())
    expected = published_sum(embeddings(method, cohort), PAIRS)
    wanted = [*cohort.values(), *(p for part in method.parts.values() for p in part.parameters())]
    ours, theirs = (torch.autograd.grad(total, wanted) for total in (each, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
        assert a.any()


def test_a_network_s_terms_train_no_other(cohort):
    cohort = {role: own.requires_grad_() for role, own in cohort.items()}
    _, found = mcl(cohort, PAIRS, networks=3)
    for role, terms in by_role(found).items():
        others = [own for name, own in cohort.items() if name != role]
        for term in terms.values():
            assert torch.autograd.grad(term, others, retain_graph=True, allow_unused=True) == (None,) * len(others)


def test_mcl_of_equal_networks_has_no_soft_terms_and_contrasts_them_as_one():
    same = numbers(0, B, 7)
    features = {"student": same, "teacher": same}
    method, _ = mcl(features, PAIRS)
    method.parts["embedding_teacher"].load_state_dict(method.parts["embedding_student"].state_dict())
    views = {role: view(numbers(9, B, K), PAIRS, penultimate=same) for role in features}
    step = replace(make_step(PAIRS, 0.5, torch.Generator()), views=views)
    found = method.losses(views["student"], views["teacher"], step)
    assert float(found.student["soft_vcl"].detach()) == pytest.approx(0, abs=1e-12)
    assert float(found.student["soft_icl"].detach()) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(found.student["icl"], 2 * found.student["vcl"])
    for name, term in found.student.items():
        torch.testing.assert_close(term, found.teacher[name])


def test_mcl_does_not_depend_on_the_order_of_examples(cohort):
    _, found = mcl(cohort, PAIRS, networks=3)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    _, other = mcl({role: own[order] for role, own in cohort.items()}, PAIRS[order], networks=3)
    for role, terms in by_role(found).items():
        for name, term in terms.items():
            torch.testing.assert_close(term, by_role(other)[role][name])


def test_an_example_without_another_of_its_class_does_not_count():
    similarity = numbers(0, 5, 5)
    with_single = supervised_contrast(similarity, torch.tensor([1, 1, 2, 2, 3]))
    expected = contrast_rows(similarity.tolist(), [1, 1, 2, 2, 3], counted=4)
    assert float(with_single) == pytest.approx(expected)
    assert float(supervised_contrast(similarity, torch.arange(5))) == 0
    assert float(supervised_contrast(similarity[:1, :1], torch.arange(1))) == 0


def contrast_rows(similarity, target, counted):
    total = 0.0
    for i in range(counted):
        others = [j for j in range(len(target)) if j != i]
        (positive,) = [j for j in others if target[j] == target[i]]
        total += math.log(sum(math.exp(similarity[i][j]) for j in others)) - similarity[i][positive]
    return total / counted


class BalancedToy(ToyTask):
    """Four of each class in every batch, side by side."""

    def batches(self, epoch, start):
        for step in range(start, self.steps_per_epoch):
            images, target = self.images(20 * self.batch, derive(self.seed, epoch, step))
            chosen = torch.cat([(target == c).nonzero()[: self.batch // CLASSES, 0] for c in range(CLASSES)])
            self.seen.append((epoch, step))
            yield Batch(images[chosen], images[chosen], target[chosen], torch.arange(self.batch))


def peers_trainer(method="mcl", count=3, **kwargs):
    torch.manual_seed(0)
    roles = ["student", *(f"peer{number}" for number in range(1, count))]
    networks = {role: tiny_network(8, seed) for seed, role in enumerate(roles)}
    for network in networks.values():
        network.module.head = torch.nn.Linear(network.module.head.in_features, CLASSES)
    task, example = BalancedToy(), (torch.zeros(2, 3, 16, 16),)
    chosen = registry.create(method, {"mcl": {"networks": count, "per_class": 4}})
    facts = Facts(16, CLASSES, None, 6, 16)
    distiller = Distiller(networks, chosen, "peers", task.task_loss, "class_logits", example, facts)
    return Trainer(distiller, task, RECIPE, 0, **kwargs)


def separation(t, role):
    """Mean cosine of embeddings of one class less that of different ones, on new images."""
    images, target = t.task.images(200, 99)
    pooled = t.distiller.networks[role].module.eval()
    with torch.no_grad():
        x = images
        for stage in pooled.stages:
            x = stage(x)
        rows = F.normalize(t.distiller.parts[f"embedding_{role}"](pooled.pool(x)), dim=1)
    same = target[:, None] == target
    cosines = rows @ rows.T
    return float(cosines[same].mean() - cosines[~same].mean())


def test_mcl_gathers_the_classes_in_every_network_of_a_cohort():
    t = peers_trainer()
    roles = ["student", "peer1", "peer2"]
    assert set(t.distiller.parts) == {f"embedding_{role}" for role in roles}
    before = [separation(t, role) for role in roles]
    t.run()
    after = [separation(t, role) for role in roles]
    assert max(before) < 0.001 and min(after) > 0.01


def test_mcl_among_peers_resumes_to_the_same_weights(tmp_path):
    whole = peers_trainer()
    whole.run()

    class Stop(Exception):
        pass

    def stop(progress):
        if progress["epoch"] == 2:
            raise Stop

    file = tmp_path / "checkpoint.pt"
    with pytest.raises(Stop):
        peers_trainer(checkpoint_file=file, checkpoint_seconds=0.0, report=stop).run()
    resumed = peers_trainer(checkpoint_file=file)
    resumed.run()
    assert (resumed.task.seen[0], len(resumed.task.seen)) == ((2, 0), 6)
    for key, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[key]), key


def test_mcl_of_a_pair_builds_a_head_for_each_width_whatever_the_number_of_equal_networks():
    t = trainer(RECIPE, "mcl", "online", BalancedToy(), settings={"mcl": {"networks": 4}})
    widths = {name: part[0].in_features for name, part in t.distiller.parts.items()}
    assert widths == {"embedding_student": 32, "embedding_teacher": 48}
    one, other = (registry.create("mcl", {"mcl": {"networks": n}}) for n in (2, 4))
    assert one.resolved("online") == other.resolved("online") and one.resolved("peers") != other.resolved("peers")
    assert one.needs.per_class == 2 and other.needs.peers == 3
