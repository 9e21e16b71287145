"""The interface of a data set: its options and its result, also for a data set of the user's own.

A data set is a function from :class:`DatasetOptions` to a :class:`Collection`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from msgspec import Struct

from fimi.learning.data.dataset import Dataset, DatasetError, SplitKind
from fimi.learning.data.images import ImageMode


class DatasetOptions(Struct, frozen=True, kw_only=True):
    """Options of a data set.

    Attributes:
        root: folder with its files; empty for one that needs none.
        download: whether to fetch missing files into ``root``.
        image_size: height and width of the images, pixels; 0: as they are.
        image_mode: ``"rgb"``, ``"grey"``, or ``"auto"``: as they are.
    """

    root: str = ""
    download: bool = False
    image_size: int = 0
    image_mode: ImageMode = "auto"

    def folder(self, name: str) -> Path:
        """The root as a path.

        Raises:
            DatasetError: it is empty.
        """
        if not self.root:
            raise DatasetError(
                f"data set {name!r} is read from files: set data.root to the folder that holds them"
            )
        return Path(self.root).expanduser()


class Collection(Struct, frozen=True, kw_only=True):
    """A data set as it is published.

    Attributes:
        train: all samples, or all but the test samples.
        test: the data set's own test samples, of the same classes and shape; ``None``: it has
            none, and some of ``train`` will be held out.
        writers: the first samples of ``train`` come from other people than the rest, so that a
            public part of them has a real domain gap.
    """

    train: Dataset
    test: Dataset | None = None
    writers: bool = False

    @property
    def split_kind(self) -> SplitKind:
        """How public and private part are separated, unless the configuration says it."""
        return "writers" if self.writers else "random"


class DatasetFactory(Protocol):
    """A data set: gives the same images in the same order whenever it is called.

    It may ignore ``image_size`` and ``image_mode``: its images are scaled and converted afterwards
    where needed.

    Raises :class:`fimi.learning.data.dataset.DatasetError` if it cannot give them.
    """

    def __call__(self, options: DatasetOptions, /) -> Collection:
        """All of its images."""
        ...
