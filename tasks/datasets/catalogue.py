"""Every data set that is known, with its public layout. Adding one means an entry here and a reader."""

from __future__ import annotations

from tasks.datasets.source import Source

_HERE = "tasks.datasets"

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
        ),
        Source(
            name="imagenet",
            title="ImageNet (ILSVRC 2012)",
            places=("imagenet",),
            needed=("train", "val"),
            obtain="get it from https://image-net.org (registration) and arrange it as "
            "imagenet/train/WNID/*.JPEG and imagenet/val/WNID/*.JPEG in a data root",
            reader=f"{_HERE}.imagenet:read",
        ),
    )
}
