"""Case 5: weights from elsewhere see images normalised as they were made for, each network in its own way.

zgcr/SimpleAICV: a teacher made for mean and deviation 0.5 was given ImageNet's, and its record held a wrong score.
"""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from adm_core.errors import AdmError
from adm_core.frozen import frozen_copy
from adm_core.network_definition import NetworkDefinition
from tasks.classification import networks
from tasks.classification.networks.normalisation import Normalisation, of_network, told

IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = Normalisation((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
BASE = "timm/test_resnet"
"""A small network that timm has weights of for mean and deviation 0.5 and 1,000 classes."""


def brought(base: str = BASE, **overrides: Any) -> NetworkDefinition:
    return NetworkDefinition(base, overrides, brought=True)


def test_case_05_a_teacher_from_a_library_sees_what_it_was_trained_on() -> None:
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    ours, wanted = (
        (pixels - torch.tensor(n.mean).view(3, 1, 1)) / torch.tensor(n.std).view(3, 1, 1) for n in (IMAGENET, HALF)
    )
    plain = timm.create_model("test_resnet", pretrained=False, num_classes=1000).eval()
    teacher = networks.build("brought", 1000, 64, brought(), IMAGENET)
    assert teacher.module.state_dict().keys() == plain.state_dict().keys()
    teacher.module.load_state_dict(plain.state_dict())
    student = networks.build(BASE, 1000, 64, None, IMAGENET)
    student.module.load_state_dict(plain.state_dict())
    with torch.no_grad():
        expected = plain(wanted)
        torch.testing.assert_close(teacher.module.eval()(ours), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(frozen_copy(teacher, ()).module(ours), expected, atol=1e-4, rtol=1e-4)
        assert torch.equal(student.module.eval()(ours), plain(ours))
    assert told(teacher.module).startswith("images are normalised for it by mean [0.5, 0.5, 0.5], std [0.5, 0.5, 0.5]")
    assert told(student.module) == ""


@pytest.mark.parametrize(
    ("definition", "benchmark", "classes", "expected"),
    [
        (brought("timm/vit_tiny_patch16_224"), IMAGENET, 1000, HALF),
        (brought("timm/resnet50"), HALF, 1000, IMAGENET),
        (brought("torchvision/resnet18"), HALF, 1000, IMAGENET),
        (brought("torchvision/resnet18"), IMAGENET, 10, IMAGENET),
        (brought("timm/tf_efficientnet_b0.ap_in1k"), IMAGENET, 1000, HALF),
        (brought("timm/vit_base_patch16_clip_224.openai", normalisation="library"), IMAGENET, 1000, CLIP),
        (brought(normalisation="benchmark"), IMAGENET, 1000, IMAGENET),
        (brought(normalisation="library"), IMAGENET, 10, HALF),
        (brought(normalisation={"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}), IMAGENET, 10, HALF),
        (brought("resnet56"), IMAGENET, 100, IMAGENET),
        (NetworkDefinition(BASE), IMAGENET, 1000, IMAGENET),  # trained here
    ],
    ids=lambda value: value.base if isinstance(value, NetworkDefinition) else None,
)
def test_what_a_network_wants(
    definition: NetworkDefinition, benchmark: Normalisation, classes: int, expected: Normalisation
) -> None:
    assert of_network("mine", definition, benchmark, classes) == expected


@pytest.mark.parametrize(
    ("definition", "classes", "message"),
    [
        (brought(), 10, r"weights of another number of classes than 10, made for mean \[0.5, .*; say in its overrides"),
        (
            brought("timm/tf_efficientnet_b0"),
            1000,
            r"weights of several kinds, made for mean \[0\.485.* or mean \[0\.5",
        ),
        (
            brought("resnet56", normalisation="library"),
            100,
            "overrides.normalisation: resnet56 has no weights of a library",
        ),
    ],
)
def test_what_cannot_be_told_is_asked(definition: NetworkDefinition, classes: int, message: str) -> None:
    with pytest.raises(AdmError, match=f"^network 'mine': .*{message}"):
        of_network("mine", definition, IMAGENET, classes)
