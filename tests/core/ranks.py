"""One process of those that train cells together: ``python -m tests.core.ranks RANK COUNT FOLDER CASE...``.

Each case is trained as :data:`CASES` says, and leaves its weights and curves, or the error that it ended in, in FOLDER.
"""

import json
import sys
from pathlib import Path

import torch

from adm_core import ranks, registry
from adm_core.distiller import Distiller
from adm_core.errors import AdmError
from adm_core.method import Losses, Method, MethodCard
from adm_core.recipe import Recipe
from adm_core.seeds import derive
from adm_core.testing.networks import task_loss, tiny_batch, tiny_facts, tiny_network
from adm_core.train import Trainer
from tests.core.toy import NoisyTask, denoising_trainer, trainer


class FormTask(NoisyTask):
    """Random batches of one form; of pixels a quarter is void, unevenly over the examples."""

    def __init__(self, form):
        super().__init__(4)
        self.form, self.kind = form, "denoiser" if form == "denoisers" else "class_logits"

    def batches(self, epoch, start):
        for step in range(start, self.steps_per_epoch):
            yield tiny_batch(derive(0, epoch, step), form=self.form)


@registry.register
class PausesByExample(Method):
    """Leaves the teacher out of every micro-batch whose first label is odd, and names a term accordingly."""

    card = MethodCard("pauses", "Pauses", "none", 2026, frozenset({"online"}), "baseline")

    def losses(self, student, teacher, step):
        odd = bool(step.batch.target[0] % 2)
        noise = torch.rand((), generator=step.generator) + torch.rand(())
        terms = {} if odd else {"quiet": teacher.prediction.square().mean() * noise}
        own = {"odd" if odd else "even": student.prediction.square().mean() * noise}
        return Losses(student=own, teacher=terms, teacher_paused=odd, log={"noise": noise})


@registry.register
class RemembersLater(Method):
    """Keeps what it has seen of the examples from the second epoch's third step on, a while after the first look."""

    card = MethodCard("remembers", "Remembers", "none", 2026, frozenset({"online"}), "baseline")

    def build(self, student, teacher, facts):
        memory = torch.nn.Module()
        memory.register_buffer("sum", torch.zeros(()))
        return {"memory": memory}

    def losses(self, student, teacher, step):
        if step.progress > 0.7:
            self.parts["memory"].sum += step.batch.student_input.sum()
        return Losses(student={"quiet": student.prediction.square().mean()})


def recipe(**changes):
    """Two epochs in two micro-batches a step, which two processes can share."""
    sgd = {"name": "sgd", "lr": 0.05, "momentum": 0.9}
    return Recipe.model_validate({"epochs": 2, "batch_size": 12, "accumulate": 2, "optimizer": sgd} | changes)


def of_form(form, method, **options):
    """A trainer of a tiny pair on batches of one form."""
    task, batch = FormTask(form), tiny_batch(form=form)
    networks = {"student": tiny_network(8, 0, form), "teacher": tiny_network(12, 1, form)}
    example = tuple(given[:2] for given in (batch.student_input, *batch.conditions))
    made = registry.create(method)
    distiller = Distiller(networks, made, "online", task_loss, task.kind, example, tiny_facts(form))
    return Trainer(distiller, task, recipe(), 0, **options)


CASES = {
    "adm": lambda **o: trainer(
        recipe(batch_size=16, accumulate=4, ema=0.9, clip_norm=1.0, selection="best-validation"), dropout=0.3, **o
    ),
    "void pixels": lambda **o: of_form("pixels", "dml", **o),
    "equals": lambda **o: trainer(recipe(batch_size=16), "dml", "peers", **o),
    "paused": lambda **o: trainer(recipe(batch_size=16), "pauses", dropout=0.3, **o),
    "own statistics": lambda **o: trainer(recipe(batch_size=16), "ema-teacher", "offline", **o),
    "random draws": lambda **o: denoising_trainer(recipe(ema=0.9), "consistency", NoisyTask(4), **o),
    "few-step": lambda **o: denoising_trainer(recipe(), "dmd2", NoisyTask(4), **o),
    "memory": lambda **o: trainer(recipe(batch_size=16), "crd", "offline", **o),
    "later memory": lambda **o: trainer(recipe(batch_size=16), "remembers", **o),
    "groups": lambda **o: trainer(recipe(batch_size=16), "kd+dot", "offline", **o),
    "indivisible": lambda **o: trainer(recipe(batch_size=12, accumulate=3), "kd", "offline", **o),
    "diverging": lambda **o: trainer(
        recipe(batch_size=16, optimizer={"name": "sgd", "lr": 1e20}), "kd", "offline", **o
    ),
}


def result(made):
    """What training leaves: weights and curves, or why it ended."""
    try:
        trained = made().run()
    except AdmError as error:
        return {"error": f"{type(error).__name__}: {error}"}, {}
    return {"curves": trained.curves, "epoch": trained.epoch}, {r: n.module for r, n in trained.networks.items()}


def main():
    """Train the cases one after the other with the other processes."""
    rank, count, folder, *cases = sys.argv[1:]
    torch.set_num_threads(1)
    together = ranks.join(f"{folder}/meeting", int(rank), int(count), torch.device("cpu"))
    for case in cases:
        if case == "stopped":
            stopped(together, Path(folder))
            continue
        options = {"ranks": ranks.Ranks(together.rank, together.count)}
        told, networks = result(lambda case=case, options=options: CASES[case](**options))
        states = {role: module.state_dict() for role, module in networks.items()}
        torch.save(states, f"{folder}/{case} {rank}.pt")
        Path(f"{folder}/{case} {rank}.json").write_text(json.dumps(told))
    torch.distributed.destroy_process_group()


def stopped(together, folder):
    """The second process alone is asked to stop at the eighth step; then all go on."""
    asked = iter(range(99))
    stops = (lambda: next(asked) == 7) if together.rank == 1 else (lambda: False)
    options = {"checkpoint_file": folder / "c.pt", "checkpoint_seconds": 1e9}
    first, _ = result(lambda: trainer(recipe(batch_size=16), asked_to_stop=stops, ranks=together, **options))
    torch.distributed.barrier()  # the first process alone keeps the checkpoint that all take up
    told, networks = result(lambda: trainer(recipe(batch_size=16), ranks=together, **options))
    torch.save({role: module.state_dict() for role, module in networks.items()}, f"{folder}/stopped {together.rank}.pt")
    Path(f"{folder}/stopped {together.rank}.json").write_text(json.dumps({"first": first, **told}))


if __name__ == "__main__":
    main()
