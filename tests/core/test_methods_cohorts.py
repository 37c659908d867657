"""Methods of several equal networks, against literal loops in float64 with their gradients, and trained."""

import pytest
import torch

from adm_core import registry
from tests.core import oracle
from tests.core.oracle import PAIRS, STAGES, agree, ce, kl, leaves, made, mean, shown

COHORTS = [*PAIRS, ("student", "peer1", "peer2")]


# --- L-MCL-lite ---


def gathered_by_hand(method, role, own):
    """Logits of the auxiliary classifiers and those gathered of all, example by example."""
    bodies, classifiers = method.parts[f"bodies_{role}"], method.parts[f"auxiliary_{role}"]
    maps = [own.features[tap] for tap in STAGES]
    read = [body(features) for body, features in zip(bodies, maps[:-1], strict=True)]
    logits = [linear(vector) for linear, vector in zip(classifiers, read, strict=True)]
    assert len(logits) == 2
    rows = []
    for b, own_logits in enumerate(own.prediction):
        scores = method.parts[f"gathering_{role}"](torch.cat([r[b] for r in (*read, own.features["penultimate"])]))
        exps = [score.exp() for score in scores]
        every = [logits[0][b], logits[1][b], own_logits]
        rows.append(sum(e / sum(exps) * z for e, z in zip(exps, every, strict=True)))
    return logits, rows


@pytest.mark.parametrize("roles", COHORTS)
def test_l_mcl_lite_gathers_the_classifiers_of_stages_into_a_teacher_for_all(roles):
    views = shown(roles, STAGES | {"penultimate": (6, 0)})
    settings = {"networks": max(len(roles), 2), "width": 4}
    method, plain = made("l-mcl-lite", views, kd=0.5, **settings), made("mcl", views, **settings)
    plain.take({name: method.parts[name] for name in plain.parts})
    every = {role: gathered_by_hand(method, role, own) for role, own in views.items()}
    expected = oracle.by_role(oracle.losses(plain, views))
    for role, own in views.items():
        logits, rows = every[role]
        teachers = ([row.detach() for row in other] for _, other in every.values())
        expected[role] = expected[role] | {
            "auxiliary": ce(logits[0]) + ce(logits[1]),
            "gathered": ce(rows),
            "kd": 0.5 * sum(kl(teacher, own.prediction, 3.0) for teacher in teachers),
        }
    parts = [p for name in method.parts if "embedding" not in name for p in method.parts[name].parameters()]
    agree(oracle.losses(method, views), expected, [*leaves(views), *parts])


def test_l_mcl_lites_gathered_logits_begin_as_the_mean_where_nothing_is_weighed():
    """With a last layer of zeros every stage has the same share."""
    views = shown(PAIRS[1], STAGES | {"penultimate": (6, 0)})
    method = made("l-mcl-lite", views)
    with torch.no_grad():
        for p in method.parts["gathering_student"][2].parameters():
            p.zero_()
    logits, _ = gathered_by_hand(method, "student", views["student"])
    average = mean([*logits, views["student"].prediction])
    assert torch.allclose(oracle.losses(method, views).student["gathered"], ce(average))


def test_l_mcl_lite_shares_mcls_settings_and_needs():
    ours, plain = registry.create("l-mcl-lite"), registry.create("mcl")
    assert ours.resolved("peers") == plain.resolved("peers") | {"kd": 1.0}
    assert (ours.needs.per_class, ours.needs.peers) == (plain.needs.per_class, plain.needs.peers) == (2, 1)
