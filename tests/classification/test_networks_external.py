"""Networks of torchvision and timm by name: taps that are found, heads that fit, errors that name what is there."""

import functools

import pytest
import torch

from adm_core.errors import AdmError
from adm_core.taps import probe, record
from tasks.classification import networks

SIDE = 64
# name, image size, width and side of each stage's map, shape of penultimate, whether the head reads the mean map
CASES = [
    ("torchvision/resnet18", SIDE, [(64, 16), (128, 8), (256, 4), (512, 2)], 512, True),
    ("torchvision/mobilenet_v3_small", SIDE, [(16, 16), (24, 8), (48, 4), (576, 2)], 1024, False),
    ("torchvision/vgg11_bn", SIDE, [(128, 32), (256, 16), (512, 8), (512, 4)], 4096, False),
    ("timm/resnet18", SIDE, [(64, 16), (128, 8), (256, 4), (512, 2)], 512, True),
    ("timm/vit_tiny_patch16_224", SIDE, [], 192, False),
]


def build(name: str, classes: int = 10, size: int = SIDE):
    torch.manual_seed(0)
    return networks.build(name, classes, size)


@functools.cache
def built(name: str):
    """One network for all tests that leave it as it is: the largest takes seconds to initialise."""
    return build(name)


def images(side: int = SIDE) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "side", "maps", "width", "_head"), CASES, ids=[case[0] for case in CASES])
def test_taps_are_found(name, side, maps, width, _head):
    network = built(name)
    shapes = probe(network, tuple(network.taps), (images(side),))
    expected = {f"stage{i}": (2, channels, size, size) for i, (channels, size) in enumerate(maps, start=1)}
    found = {tap: shape for tap, shape in shapes.items() if tap.startswith("stage")}
    assert found == expected
    assert shapes["penultimate"] == (2, width)
    assert shapes["logits"] == shapes["prediction"] == (2, 10)


@pytest.mark.parametrize(("name", "side", "_maps", "width", "head"), CASES, ids=[case[0] for case in CASES])
def test_a_head_is_promised_only_where_it_reads_the_mean_of_the_last_stage(name, side, _maps, width, head):
    network = built(name)
    assert (network.classifier() is not None) == head
    if not head:
        return
    network.module.eval()
    with torch.no_grad(), record(network, ("last",)) as seen:
        prediction = network.module(images(side))
    torch.testing.assert_close(network.classifier()(seen["last"].mean(dim=(2, 3))), prediction)


@pytest.mark.parametrize("name", ["torchvision/resnet18", "torchvision/vgg11_bn", "timm/resnet18"])
def test_no_later_module_overwrites_a_recorded_map(name):
    network = built(name)
    taps = [tap for tap in network.taps if tap != "logits"]
    copies: dict[str, torch.Tensor] = {}
    hooks = []
    for tap in taps:
        module = network.module.get_submodule(network.path(tap))
        hooks.append(module.register_forward_hook(lambda _m, _i, output, tap=tap: copies.update({tap: output.clone()})))
    with record(network, taps) as seen:
        network.module.train()(images()).sum().backward()
    for hook in hooks:
        hook.remove()
    assert all(torch.equal(seen[tap], copies[tap]) for tap in taps)


def test_a_transformer_has_no_stages_and_says_so_when_asked():
    network = build("timm/vit_tiny_patch16_224")
    assert set(network.taps) == {"penultimate", "logits"}
    with pytest.raises(AdmError, match=r"network 'timm/vit_tiny_patch16_224': unknown tap 'last'"):
        network.path("last")


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("torchvision/resnet81", "torchvision/resnet18"),
        ("timm/resnet18q", "timm/resnet18"),
        ("timm/vit_tinny_patch16_224", "timm/vit_tiny_patch16_224"),
        ("timm/test_resnet.r161_in1k", r"timm/test_resnet\.r160_in1k"),
    ],
)
def test_a_misspelt_name_is_told_the_nearest(wrong, near):
    with pytest.raises(AdmError, match=rf"^unknown network '{wrong}'; did you mean .*{near}"):
        build(wrong)


def test_a_library_is_not_guessed():
    with pytest.raises(AdmError, match="unknown network 'resnet18'; did you mean"):
        build("resnet18")


def test_an_image_size_that_a_network_cannot_take_is_refused_by_name():
    with pytest.raises(AdmError, match=r"'torchvision/vit_b_16' cannot be built for 10 classes and images of 50x50"):
        build("torchvision/vit_b_16", size=50)


def test_building_draws_from_the_global_generator_only_to_initialise():
    torch.manual_seed(0)
    from torchvision.models import resnet18

    resnet18(weights=None, num_classes=10)
    initialised = torch.get_rng_state()
    build("torchvision/resnet18")
    assert torch.equal(torch.get_rng_state(), initialised)
