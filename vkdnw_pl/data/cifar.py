"""CIFAR-10 and CIFAR-100, in the folders that torchvision makes.

The batches are read by our own reader, not by torchvision's data set: that one unpickles what a check of an earlier
reading has passed, so a file that changes in between runs code, and MD5 does not keep out whoever can write both an
innocent and a hostile file of one sum. Names, sums and the download are torchvision's.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import check_integrity, download_and_extract_archive

from vkdnw_pl.data.small_images import SmallImages, as_tensors, read_batches
from vkdnw_pl.data.splits import Source


class CIFAR10(SmallImages):
    """CIFAR-10: 50,000 training and 10,000 test images of 32x32 pixels, 10 classes (Krizhevsky 2009).

    Training images are mirrored and shifted by up to 4 pixels (NAS-Bench-201). By default 5,000 training images are
    held out for validation, and the test images are only tested on. Published tables mostly train on all 50,000:
    val_size 0 does so. Then the test images serve as validation images too, and the best epoch by them is no honest
    test result.

    Args:
        root: folder that has, or gets, cifar-10-batches-py.
        download: fetch what is missing from www.cs.toronto.edu (170 MB).
        val_size: training images held out for validation, always the same ones; null for 5,000, 0 to validate on the
            test images, as published tables do.
        splits: path of NAS-Bench-201's cifar-split.txt; trains on its train half and validates on its valid half.
        loader: see ``ImageDataModule``.
    """

    num_classes = 10
    input_size = (3, 32, 32)
    padding = 4
    mean = (125.3, 123.0, 113.9)
    std = (63.0, 62.1, 66.7)
    published: type[datasets.CIFAR10] = datasets.CIFAR10
    label_key = "labels"

    def __init__(
        self,
        root: str,
        download: bool = False,
        val_size: int | None = None,
        splits: str | None = None,
        **loader: Any,
    ) -> None:
        super().__init__(root, val_size, splits, **loader)
        self.download = download

    def prepare_data(self) -> None:
        """Download what is missing, if asked to."""
        files = self._files("train") + self._files("eval")
        if not self.download or all(check_integrity(str(path), md5) for path, md5 in files):
            return
        published = self.published
        try:
            download_and_extract_archive(
                published.url, str(self.root), filename=published.filename, md5=published.tgz_md5
            )
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"{published.url} could not be downloaded: {error}; get {published.filename} another way and unpack it "
                f"in {str(self.root)!r}"
            ) from None

    def read(self, source: Source) -> tuple[Tensor, Tensor]:
        files = self._files(source)
        if missing := [path for path, _ in files if not path.is_file()]:
            raise ValueError(
                f"root={str(self.root)!r}: there is no {'/'.join(missing[0].parts[-2:])}; give the folder that "
                f"contains {self.published.base_folder}, or download: true to fetch it there from {self.published.url}"
            )
        return as_tensors(*read_batches(files, 32, self.label_key, self.num_classes - 1))

    def _files(self, source: Source) -> list[tuple[Any, str | None]]:
        published = self.published
        listed = published.train_list if source == "train" else published.test_list
        return [(self.root / published.base_folder / name, md5) for name, md5 in listed]


class CIFAR100(CIFAR10):
    """CIFAR-100: 50,000 training and 10,000 test images of 32x32 pixels, 100 classes (Krizhevsky 2009).

    Training images are mirrored and shifted by up to 4 pixels (NAS-Bench-201). By default 5,000 training images are
    held out for validation, and the test images are only tested on. Published tables mostly train on all 50,000:
    val_size 0 does so. Then the test images serve as validation images too, and the best epoch by them is no honest
    test result.

    Args:
        root: folder that has, or gets, cifar-100-python.
        download: fetch what is missing from www.cs.toronto.edu (169 MB).
        val_size: training images held out for validation, always the same ones; null for 5,000, 0 to validate on the
            test images, as published tables do.
        splits: path of NAS-Bench-201's cifar100-test-split.txt; trains on all training images, and validates and tests
            on its two halves of the test images.
        loader: see ``ImageDataModule``.
    """

    num_classes = 100
    mean = (129.3, 124.1, 112.4)
    std = (68.2, 65.4, 70.4)
    published = datasets.CIFAR100
    label_key = "fine_labels"

    def __init__(
        self,
        root: str,
        download: bool = False,
        val_size: int | None = None,
        splits: str | None = None,
        **loader: Any,
    ) -> None:
        super().__init__(root, download, val_size, splits, **loader)
