"""The contract of a run: one typed description of its data, with one digest.

* :class:`Contract`        what the data of a run are
* :func:`differences`      the keys in which two contracts differ, for a device or a generator node
* :func:`of_dataset`       the keys in which images at hand differ from a contract
* :func:`require`          the same, as an error that names the keys
* :func:`require_same`     refuses bytes that were made under another contract
* :func:`read`             a contract from JSON, of this version of the conversation

The coordinator makes it; it travels to every device and generator node of the run, and stands in
data files and batches. Whoever cannot meet it refuses and names the keys that differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from fimi.errors import InputError
from fimi.learning.data.dataset import Dataset, DatasetError, SplitKind

PROTOCOL = 7
"""Version of the conversation between the processes; both sides must have the same."""

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Way = Literal["indices", "file", "shipped"]
"""How a device gets its samples: by indices into a data set that lies on it, from a file of its
own, or from the coordinator."""


class Contract(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the data of a run are.

    Attributes:
        protocol: version of the conversation.
        dataset: name of the data set.
        image_size: height and width that its images are scaled to, pixels; 0: as they are.
        image_mode: what they are converted to.
        limit: most samples that are used; 0: all.
        class_names: one per class.
        image_shape: channels, height, width.
        normalisation: what every network does first with the pixels, 0 to 255.
        samples: number of all training samples, before limit and split.
        samples_digest: :meth:`Dataset.digest` of them.
        split: how public and private part are separated.
        split_seed: seed of that.
        public_fraction: share of the samples that is public.
        validation_fraction: share of these that is held apart for validation.
        test_fraction: share that is held out; ``None``: the data set has test samples of its own.
        seed: of the run, and of the partition.
        devices: number of parts of the private part.
        partition: how it is divided.
        alpha: concentration; ``None`` where the partition has none.
        shards: pieces per device; ``None`` where the partition has none.
        min_samples: fewest samples of a device.
        partition_digest: SHA-256 of who holds which samples; ``None``: devices have files of their
            own, and the coordinator divides nothing.
        public_digest: digest of the public part.
        validation_digest: digest of the validation part.
        test_digest: digest of the test part.
        overlap_max: largest share of a device's images that may also be test or public images, 0
            to 1: the duplicates that the data set has by itself, or what was declared.
    """

    protocol: int = PROTOCOL
    dataset: str
    image_size: Annotated[int, Meta(ge=0)]
    image_mode: Literal["auto", "rgb", "grey"]
    limit: Annotated[int, Meta(ge=0)]
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    normalisation: Literal["pixel / 255"] = "pixel / 255"
    samples: Annotated[int, Meta(ge=1)]
    samples_digest: Digest
    split: SplitKind
    split_seed: int
    public_fraction: float
    validation_fraction: float
    test_fraction: float | None
    seed: int
    devices: Annotated[int, Meta(ge=1)]
    partition: str
    alpha: float | None
    shards: int | None
    min_samples: int
    partition_digest: Digest | None
    public_digest: Digest
    validation_digest: Digest
    test_digest: Digest
    overlap_max: Annotated[float, Meta(ge=0, le=1)]

    def json(self) -> str:
        """The contract as JSON: sorted, without spaces, the same text in every process."""
        # Through the types, so that 1 and 1.0 are the same value of a float.
        values = msgspec.to_builtins(msgspec.convert(msgspec.to_builtins(self), Contract))
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """SHA-256 of :meth:`json`, hexadecimal."""
        return hashlib.sha256(self.json().encode()).hexdigest()


class Difference(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A value in which two sides differ.

    Attributes:
        key: a key of the configuration such as ``data.alpha``, or what it is of the data.
        ours: the value here, as text.
        theirs: the value of the run.
    """

    key: str
    ours: str
    theirs: str


class ContractError(InputError, ValueError):
    """The data here are not those of the run; the message names the keys that differ.

    Attributes:
        differences: all of them.
    """

    code = "D003"

    def __init__(self, message: str, differences: tuple[Difference, ...] = ()) -> None:
        super().__init__(message)
        self.differences = differences


KEYS = {
    "protocol": "protocol",
    "dataset": "data.dataset",
    "image_size": "data.image_size",
    "image_mode": "data.image_mode",
    "limit": "data.limit",
    "split": "data.split",
    "split_seed": "data.split_seed",
    "public_fraction": "data.public_fraction",
    "validation_fraction": "data.validation_fraction",
    "test_fraction": "data.test_fraction",
    "seed": "run.seed",
    "devices": "fleet.devices",
    "partition": "data.partition",
    "alpha": "data.alpha",
    "shards": "data.shards",
    "min_samples": "data.min_samples",
    "overlap_max": "data.overlap_max",
    "class_names": "class names",
    "image_shape": "image shape",
    "normalisation": "normalisation",
    "samples": "number of training samples",
    "samples_digest": "digest of the training samples",
    "partition_digest": "digest of the partition",
    "public_digest": "digest of the public part",
    "validation_digest": "digest of the validation part",
    "test_digest": "digest of the test part",
}
"""Field of a contract to its name for people: a key of the configuration where there is one."""

OF_FILE = tuple(field for field in KEYS if field != "overlap_max")
"""What a data file that was written under a contract must have in common with a run."""

OF_NODE = (
    "protocol",
    "dataset",
    "image_size",
    "image_mode",
    "limit",
    "class_names",
    "image_shape",
    "normalisation",
    "public_digest",
)
"""What a generator node must have in common with a run."""

_CAUSES = {"public_digest": ("split", "split_seed", "public_fraction", "validation_fraction")}
"""Further fields that are compared where a digest differs: they may be why."""


def differences(
    ours: Contract, theirs: Contract, fields: Iterable[str] = tuple(KEYS)
) -> tuple[Difference, ...]:
    """In what two contracts differ, in the order of :data:`KEYS`.

    With another version of the conversation that is the only difference: the other values need not
    mean the same then. A partition that one side does not know is not compared.

    Args:
        ours: what is here.
        theirs: what the run has.
        fields: what is compared.
    """
    if ours.protocol != theirs.protocol:
        return (_difference("protocol", ours, theirs),)
    fields = set(fields)
    for digest, causes in _CAUSES.items():
        if digest in fields and getattr(ours, digest) != getattr(theirs, digest):
            fields |= set(causes)
    if None in (ours.partition_digest, theirs.partition_digest):
        fields.discard("partition_digest")
    return tuple(
        _difference(field, ours, theirs)
        for field in KEYS
        if field in fields and getattr(ours, field) != getattr(theirs, field)
    )


def of_dataset(dataset: Dataset, contract: Contract, *, whole: bool) -> tuple[Difference, ...]:
    """In what images at hand differ from those of a contract.

    Args:
        dataset: the images.
        contract: of the run.
        whole: whether they must be all training samples; else only classes and shape must fit.
    """
    here = replace(contract, class_names=dataset.class_names, image_shape=dataset.image_shape)
    if whole:
        here = replace(here, samples=len(dataset), samples_digest=dataset.digest())
    return differences(here, contract)


def require(found: tuple[Difference, ...], here: str, todo: str) -> None:
    """Refuse what differs.

    Args:
        found: the differences.
        here: what differs from the run, as the subject of a sentence.
        todo: what to do about it.

    Raises:
        ContractError: there are differences.
    """
    if not found:
        return
    if found[0].key == KEYS["protocol"]:
        raise ContractError(other_protocol(here, found[0].ours, found[0].theirs), found)
    named = ", ".join(f"{each.key} is {each.ours}, in the run {each.theirs}" for each in found)
    raise ContractError(f"{here} does not fit the contract of the run: {named}; {todo}", found)


def require_same(made: str, contract: Contract, what: str) -> None:
    """Refuse bytes that were made for another run.

    Args:
        made: digest of the contract under which they were made; empty: none.
        contract: of the run.
        what: what they are, as the subject of a sentence.

    Raises:
        DatasetError: it is another contract.
    """
    if made != contract.digest:
        raise DatasetError(
            f"{what} was made under contract {made[:12] or 'none'}…, the run has contract "
            f"{contract.digest[:12]}…: it belongs to another run"
        )


def other_protocol(here: str, ours: object, theirs: object, there: str = "the run") -> str:
    """The sentence for two versions of the conversation."""
    return (
        f"{here} has version {ours} of the protocol, {there} has version {theirs}: install the "
        "same version of fimi on the coordinator, the devices and the generator node"
    )


class _Version(Struct):
    protocol: int


def read(text: str | bytes, where: str) -> Contract:
    """A contract from JSON.

    Args:
        text: of :meth:`Contract.json`.
        where: its origin, for the message.

    Raises:
        ContractError: it is of another version of the conversation, or it is none.
    """
    try:
        version = msgspec.json.decode(text, type=_Version).protocol
        if version == PROTOCOL:
            return msgspec.json.decode(text, type=Contract)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ContractError(f"{where}: not a contract of a run ({error})") from error
    raise ContractError(other_protocol(where, version, PROTOCOL))


def _difference(field: str, ours: Contract, theirs: Contract) -> Difference:
    mine, other = getattr(ours, field), getattr(theirs, field)
    if field == "class_names":
        shown = _names(mine, other), _names(other, mine)
    elif field.endswith("_digest"):
        shown = f"{mine[:12]}…", f"{other[:12]}…"
    else:
        shown = _text(mine), _text(other)
    return Difference(key=KEYS[field], ours=shown[0], theirs=shown[1])


def _text(value: object) -> str:
    if value is None:
        return "not used"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _names(names: tuple[str, ...], others: tuple[str, ...]) -> str:
    """Names of classes: how many, and the first that the other side does not have there."""
    for index, name in enumerate(names):
        if index >= len(others) or others[index] != name:
            return f"{len(names)} (class {index} is {name!r})"
    return str(len(names))
