"""Whether a device would train on what the coordinator tests on, told without showing images.

* :func:`image_hashes`   a hash of each image, salted per run
* :class:`HeldOut`       the hashes of the test and the public images, as the coordinator sends them
* :func:`check`          refuses a device whose images overlap with them more than is declared
* :func:`natural`        how much the shares of a division overlap with them by themselves
* :func:`fingerprint`    a digest of a device's set of images, by which equal data are noticed

Before round 1 each device compares its own images, and those only: public images that it gets as
synthetic or unlabelled samples are meant to be there. Only hashes travel to the device, and only
counts and the fingerprint travel back.

Two images are the same if all their pixels are equal, as they are after loading, in the size and
mode of the contract. A copy that was compressed again, cropped or turned is not found. The salt is
the run's instance, so that hashes of two runs cannot be compared; whoever has the images of a run
can find out by its hashes which of them are test images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.errors import InputError
from fimi.learning.data.contract import Contract, require_same
from fimi.learning.data.dataset import DatasetError, Images, Split
from fimi.learning.data.packing import pack, unpack

MEDIA = "held-out-hashes"
"""Name of the bytes of :func:`encode` in an offer."""
Hashes = NDArray[np.uint64]
"""One per image, (N,)."""

_MAX_BYTES = 1 << 28  # hashes of 33 million images
_NOTE_BYTES = 4096  # hashes are random and hardly compress: twice their size is more than enough


class LeakError(InputError, ValueError):
    """A device's images are also test or public images of the run, or another device's images."""

    code = "D004"


class HeldOut(Struct, frozen=True, kw_only=True):
    """Hashes of images that devices must not train on.

    Attributes:
        test: of the test images, ascending, (N,).
        public: of the public images, ascending, (M,).
    """

    test: Hashes
    public: Hashes


class Overlap(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many images of a device are also held out.

    Attributes:
        samples: images of the device.
        test: how many of them are test images.
        public: how many are public images.
        either: how many are one or the other.
    """

    samples: int
    test: int
    public: int
    either: int

    @property
    def share(self) -> float:
        """``either`` as a share of the device's images, 0 to 1."""
        return self.either / self.samples


def image_hashes(images: Images, salt: str) -> Hashes:
    """BLAKE2b of the pixels of each image, 8 bytes, keyed with the salt.

    Args:
        images: (N, channels, height, width), uint8, of the shape of the contract.
        salt: instance of the run, at most 64 bytes.

    Returns:
        In the order of the images, (N,).
    """
    keyed = hashlib.blake2b(digest_size=8, key=salt.encode())
    found = bytearray()
    for image in np.ascontiguousarray(images).reshape(len(images), -1):
        hasher = keyed.copy()
        hasher.update(image.data)
        found += hasher.digest()
    return np.frombuffer(bytes(found), "<u8").astype(np.uint64)


def held_out(split: Split, salt: str) -> HeldOut:
    """The hashes of the test and the public images of a run, those for validation included."""
    public = np.concatenate([split.public.images, split.validation.images])
    return HeldOut(
        test=np.sort(image_hashes(split.test.images, salt)),
        public=np.sort(image_hashes(public, salt)),
    )


def encode(hashes: HeldOut, contract: Contract) -> bytes:
    """Hashes as bytes, 8 for each image."""
    arrays = {"test": hashes.test, "public": hashes.public}
    return pack(arrays, {"contract": contract.digest})


def decode(data: bytes, contract: Contract) -> HeldOut:
    """Hashes from bytes of :func:`encode`.

    Raises:
        DatasetError: they are damaged, or of another contract.
    """
    what = "list of held-out images"
    max_bytes = min(_MAX_BYTES, 2 * len(data) + _NOTE_BYTES)
    arrays, note = unpack(data, max_bytes=max_bytes, what=what, problem=DatasetError)
    require_same(note.get("contract", ""), contract, what)
    right = set(arrays) == {"test", "public"}
    if not right or any(a.dtype != np.uint64 or a.ndim != 1 for a in arrays.values()):
        raise DatasetError(f"{what} holds {sorted(arrays)}; it must hold test and public, uint64")
    return HeldOut(test=arrays["test"], public=arrays["public"])


def overlap(own: Hashes, hashes: HeldOut) -> Overlap:
    """How many of a device's images are held out.

    Args:
        own: :func:`image_hashes` of them, with the salt of the run.
        hashes: those of the run.
    """
    test, public = np.isin(own, hashes.test), np.isin(own, hashes.public)
    return Overlap(
        samples=len(own),
        test=int(test.sum()),
        public=int(public.sum()),
        either=int((test | public).sum()),
    )


def check(own: Hashes, hashes: HeldOut, contract: Contract) -> Overlap:
    """Refuse a device whose images overlap with the held-out ones.

    Args:
        own: hashes of its images.
        hashes: those of the run.
        contract: of the run; declares how large the overlap may be.

    Raises:
        LeakError: it is larger.
    """
    found = overlap(own, hashes)
    if found.share > contract.overlap_max:
        raise LeakError(
            f"{found.either} of {found.samples} images of this device are held out by the "
            f"coordinator ({found.test} are test images, {found.public} public images): "
            f"{_percent(found.share)} %, and the contract allows {_percent(contract.overlap_max)} "
            "%. The model would be tested on what it was trained on; give the device other images, "
            "or, if the duplicates are meant, set data.overlap_max for the run"
        )
    return found


def natural(split: Split, parts: Sequence[NDArray[np.intp]]) -> float:
    """The largest share of a device's images that are held out too, 0 to 1, of a division.

    Data sets hold some images twice. What the coordinator divides itself is no leak; it declares
    this share in the contract.

    Args:
        split: the data set in its parts.
        parts: indices into the private part, one array for each device.
    """
    known, own = held_out(split, ""), image_hashes(split.private.images, "")
    shares = [overlap(own[indices], known).share for indices in parts if len(indices)]
    return max(shares, default=0.0)


def fingerprint(own: Hashes) -> str:
    """SHA-256 over a device's hashes, sorted: equal for equal images in any order, hexadecimal."""
    return hashlib.sha256(np.sort(own).astype("<u8").data).hexdigest()


def require_own_data(device: str, found: str, others: Mapping[str, str]) -> None:
    """Refuse a device that brings the same images as another.

    Args:
        device: its id.
        found: its fingerprint.
        others: id to fingerprint of the devices that are in the run; its own may be among them.

    Raises:
        LeakError: names the other one.
    """
    for other, known in others.items():
        if other != device and known == found:
            raise LeakError(
                f"{device} brings the same images as {other}: one of them was given the data file "
                "of the other; give each device its own",
                code="D005",
            )


def _percent(share: float) -> str:
    return f"{100 * share:.3g}"
