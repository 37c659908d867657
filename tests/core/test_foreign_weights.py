"""Weights from elsewhere: what is read, what is refused, and that no code in a file runs unless it is trusted."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from adm_core.checkpoint import fit, load_foreign
from adm_core.errors import AdmError
from adm_core.taps import Network

WEIGHTS = {"body.weight": torch.arange(6.0).reshape(2, 3), "head.weight": torch.ones(4, 2)}


class Touches:
    """What an attacker puts in a pickle: it makes a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (open, (str(self.file), "w"))


class Tiny(nn.Module):
    """A network of two layers."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
        self.head = nn.Linear(2, classes)


def network(classes: int = 4, **changes: Any) -> Network:
    return Network(**{"name": "tiny", "module": Tiny(classes), "taps": {"logits": "head"}} | changes)


def same(found: dict[str, Tensor], wanted: dict[str, Tensor] = WEIGHTS) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net", "network", "weights", "params"])
def test_weights_are_found_at_the_top_and_under_common_keys(tmp_path: Path, key: str) -> None:
    file = tmp_path / "a.pth"
    for content in (WEIGHTS, {"epoch": 3, "meta": {"classes": ["road"]}, key: WEIGHTS}, {"model": {key: WEIGHTS}}):
        torch.save(content, file)
        assert same(load_foreign(file))


def test_safetensors_are_known_by_their_content(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "named.pth")
    assert same(load_foreign(tmp_path / "named.pth"))


def test_the_form_of_before_pytorch_1_6_is_read(tmp_path: Path) -> None:
    torch.save({"state_dict": WEIGHTS}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert same(load_foreign(tmp_path / "a.pth"))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_dropped_where_every_name_has_them(tmp_path: Path, prefix: str) -> None:
    torch.save({prefix + name: value for name, value in WEIGHTS.items()}, tmp_path / "a.pth")
    assert same(load_foreign(tmp_path / "a.pth"))
    mixed = {prefix + "a": torch.ones(1), "b": torch.ones(1)}
    torch.save(mixed, tmp_path / "a.pth")
    assert same(load_foreign(tmp_path / "a.pth"), mixed)


@pytest.mark.parametrize("content", ["state_dict", "model_ema", "state_dict_ema"])
def test_case_31_an_average_of_torch_is_read_without_its_counter(tmp_path: Path, content: str) -> None:
    """m2lines/Samudra#312: ``AveragedModel`` counts its updates beside ``module.``."""
    average = AveragedModel(Tiny(), use_buffers=True)
    average.update_parameters(Tiny())
    torch.save({"epoch": 3, content: average.state_dict()}, tmp_path / "a.pth")
    taker = network()
    assert fit(taker, load_foreign(tmp_path / "a.pth"), "here", "camvid@1") == ""
    assert same(dict(taker.module.state_dict()), dict(average.module.state_dict()))
    spread = {f"module.{name}": value for name, value in average.state_dict().items()}  # by DistributedDataParallel
    torch.save(spread, tmp_path / "a.pth")
    assert load_foreign(tmp_path / "a.pth").keys() == taker.module.state_dict().keys()
    torch.save({"n_averaged": torch.ones(1), "body": torch.ones(1)}, tmp_path / "own.pth")  # a network's own name
    assert set(load_foreign(tmp_path / "own.pth")) == {"n_averaged", "body"}


@pytest.mark.parametrize("prefix", ["architecture.", "model.", "student.backbone.", "model._orig_mod."])
def test_case_32_a_prefix_before_every_name_is_dropped_and_told(prefix: str) -> None:
    """open-mmlab/mmrazor#650: a wrapper's name stands before every name of the network."""
    given, taker = network().module.state_dict(), network()
    found = fit(taker, {prefix + name: value for name, value in given.items()}, "here", "camvid@1")
    assert found == f"'{prefix}' before every name was dropped"
    assert same(dict(taker.module.state_dict()), given)


def test_a_prefix_is_dropped_only_where_all_names_then_fit() -> None:
    given = {f"model.{name}": value for name, value in network().module.state_dict().items()}
    del given["model.head.bias"]
    with pytest.raises(AdmError, match=r"network 'tiny': 1 missing \(head\.bias\)$"):
        fit(network(), given, "here", "camvid@1")
    with pytest.raises(AdmError, match=r"checkpoint has 150 classes, benchmark camvid@1 has 4"):
        wrapped = {f"model.{name}": value for name, value in network(150).module.state_dict().items()}
        fit(network(), wrapped, "here", "camvid@1")


def test_a_prefix_of_the_networks_own_need_not_be_there() -> None:
    """Tasks wrap a library's network; its weights have the library's names, perhaps below another wrapper's."""
    for prefix in ("", "architecture."):
        given, taker = network().module.state_dict(), network(module=nn.Sequential())
        taker.module.add_module("model", Tiny())
        told = fit(taker, {prefix + name: value for name, value in given.items()}, "here", "camvid@1")
        assert bool(told) == bool(prefix) and same(dict(taker.module.model.state_dict()), given)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_case_10_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    """fcdl94/MiB#18: a teacher of NaN teaches nothing and scores like chance."""
    given = network().module.state_dict() | {"body.1.running_var": torch.tensor([1.0, value])}
    torch.save({"model": given}, tmp_path / "a.pth")
    save_file(given, tmp_path / "b.pth")
    for file in (tmp_path / "a.pth", tmp_path / "b.pth"):
        with pytest.raises(AdmError) as told:
            load_foreign(file)
        assert str(told.value) == f"checkpoint {file}: its weights are not finite: 1 of 8 (body.1.running_var)"


def test_a_tensor_of_several_names_may_be_given_under_one() -> None:
    """As safetensors' ``save_model`` writes it."""
    taker = network()
    taker.module.again = taker.module.head
    given = dict(network().module.state_dict())
    fit(taker, given, "here", "camvid@1")
    assert torch.equal(taker.module.again.weight, given["head.weight"])


@pytest.mark.parametrize("old", [False, True])
def test_code_in_a_file_runs_only_if_it_is_trusted(tmp_path: Path, old: bool) -> None:
    file, made = tmp_path / "evil.pth", tmp_path / "made"
    torch.save({"state_dict": WEIGHTS, "x": Touches(made)}, file, _use_new_zipfile_serialization=not old)
    with pytest.raises(AdmError) as refused:
        load_foreign(file)
    assert str(refused.value) == (
        f"checkpoint {file}: holds code (io.open), which loading it would run; "
        f"if you trust its source, run with --trust {file}"
    )
    assert not made.exists()
    assert same(load_foreign(file, trusted=True)) and made.exists()


def test_a_pickled_network_gives_its_weights_once_trusted(tmp_path: Path) -> None:
    module = nn.Linear(2, 3)
    torch.save({"model": module}, tmp_path / "whole.pth")
    with pytest.raises(AdmError, match=r"holds code \(torch.nn.modules.linear.Linear\)"):
        load_foreign(tmp_path / "whole.pth")
    assert same(load_foreign(tmp_path / "whole.pth", trusted=True), dict(module.state_dict()))


def test_what_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    contents = {
        "text": b"hello", "page": b"<html>404</html>", "empty": b"", "cut": whole[: len(whole) // 2],
        "end": whole[:-30], "pickle": pickle.dumps(WEIGHTS), "header": b"\x08" + b"\0" * 7 + b"{broken}",
    }  # fmt: skip
    for name, content in contents.items():
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(AdmError, match=r"neither safetensors nor whole|is a damaged safetensors") as told:
            load_foreign(file)
        assert str(told.value).startswith(f"checkpoint {file}: ") and "\n" not in str(told.value)
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(AdmError, match="cannot be read: neither"):
        load_foreign(tmp_path / "zip")
    with pytest.raises(AdmError, match="no such file"):
        load_foreign(tmp_path / "absent")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], {"teacher": WEIGHTS}, {"state_dict": {"a": 1}}])
def test_a_file_without_weights_is_told_with_what_was_expected(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(AdmError, match=r"holds no weights; expected a mapping from names to tensors, at the top or"):
        load_foreign(tmp_path / "a.pth")


def test_fitting_weights_are_taken_whole() -> None:
    given, taker = network().module.state_dict(), network()
    fit(taker, given, "teacher 't', a.pth", "camvid@1")
    assert same(dict(taker.module.state_dict()), given)
    wrapped = network(module=nn.DataParallel(Tiny()))
    fit(wrapped, given, "teacher 't', a.pth", "camvid@1")
    assert torch.equal(wrapped.module.module.head.weight, given["head.weight"])
    del given["body.1.num_batches_tracked"]  # as in files from before PyTorch 0.4.1
    fit(taker, given, "teacher 't', a.pth", "camvid@1")


@pytest.mark.parametrize("places", [{"head": "head"}, {"head": None}])
def test_another_number_of_classes_is_told_as_such(places: dict[str, Any]) -> None:
    with pytest.raises(AdmError) as told:
        fit(network(11, **places), network(150).module.state_dict(), "teacher 't', a.pth", "camvid@1")
    assert str(told.value) == "teacher 't', a.pth: checkpoint has 150 classes, benchmark camvid@1 has 11"


def test_what_does_not_fit_is_listed_briefly_and_changes_nothing() -> None:
    taker = network()
    before = {name: value.clone() for name, value in taker.module.state_dict().items()}
    given = dict(network().module.state_dict()) | {f"extra.{i}": torch.ones(1) for i in range(5)}
    del given["head.bias"]
    given["body.0.weight"] = torch.ones(2, 3, 1, 1)
    with pytest.raises(AdmError) as told:
        fit(taker, given, "teacher 't', a.pth", "camvid@1")
    assert str(told.value) == (
        "teacher 't', a.pth: these are not weights of network 'tiny': 1 missing (head.bias); "
        "5 not the network's (extra.0, extra.1, extra.2, ...); "
        "1 of another shape (body.0.weight [2, 3, 1, 1] for [2, 1, 1, 1])"
    )
    assert same(dict(taker.module.state_dict()), before)
