"""A signed update of the agent: a wheel of fimi, and what its publisher says of it.

:class:`Release` is what is signed: for which fleet, which version, digest and size of the wheel,
and a serial number that grows with every signature. A board takes no release whose serial is not
greater than that of the last one: what was sent once cannot be sent again. It takes a lower version
only where the release itself says so, which its publisher signs.

Signatures are Ed25519 (RFC 8032), by the library ``cryptography`` (extra ``update``).

* :func:`sign`         for the desk: a release of a wheel
* :func:`verified`     for the board: what a signed release says
* :func:`check_wheel`  that a wheel is the one that was signed, and fits the packages here
* :func:`unpack`       its files in a folder, each of them checked
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.metadata
import io
import re
import time
import zipfile
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from fimi.errors import InputError, SurroundingsError

DISTRIBUTION = "fimi-testbed"
_WHEEL_NAME = "fimi_testbed"

MAX_WHEEL_BYTES = 64 << 20
"""A larger wheel is no update."""

MAX_UNPACKED_BYTES = 256 << 20
"""So much may be in it, bytes."""

MAX_FILES = 20_000

_CONTEXT = b"fimi agent update 1\0"
"""Signed before the statement, so that a signature of something else is none of an update."""

_INSTALL = "pip install 'fimi-testbed[update]'"


class UpdateError(SurroundingsError):
    """An update cannot be used; the message says why and what to do."""

    code = "F011"


class SigningKeyError(InputError, ValueError):
    """A key or a wheel on the desk cannot be used to sign an update."""

    code = "F012"


class Release(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is signed of an update.

    Attributes:
        fleet: name of the fleet that it is for.
        version: of fimi in the wheel.
        sha256: digest of the wheel, hexadecimal.
        size_bytes: its size.
        serial: milliseconds since 1970 when it was signed; the last one holds.
        older: whether it may replace a higher version.
    """

    fleet: str
    version: Annotated[str, Meta(pattern=r"^[0-9][0-9A-Za-z.+!_-]{0,63}$")]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Meta(gt=0, le=MAX_WHEEL_BYTES)]
    serial: Annotated[int, Meta(gt=0, le=2**53)]
    older: bool = False

    @property
    def name(self) -> str:
        """Name of its folder among the versions of a board."""
        return f"{self.version}-{self.sha256[:12]}"


class SignedRelease(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A release with its signature.

    Attributes:
        statement: the :class:`Release` as JSON, as it was signed.
        signature: 64 bytes.
    """

    statement: Annotated[bytes, Meta(max_length=4096)]
    signature: Annotated[bytes, Meta(max_length=64)]


def sign(wheel: bytes, key_pem: bytes, *, fleet: str, older: bool = False) -> SignedRelease:
    """Sign a wheel as an update of the agents of a fleet.

    Args:
        wheel: the wheel's file.
        key_pem: private Ed25519 key, PEM.
        fleet: name of the fleet.
        older: whether it may replace a higher version.

    Raises:
        SigningKeyError: the key is none, or the wheel is none of fimi.
    """
    try:
        key = _ed25519().serialization.load_pem_private_key(key_pem, None)
    except (ValueError, TypeError) as error:
        raise SigningKeyError(
            f"the key cannot be read ({error}): it is the private Ed25519 key (PEM) that "
            "'fimi fleet init' has written"
        ) from error
    if not isinstance(key, _ed25519().ed25519.Ed25519PrivateKey):
        raise SigningKeyError("the key is no Ed25519 key: take the one of 'fimi fleet init'")
    try:
        version = wheel_version(wheel)
    except UpdateError as error:
        raise SigningKeyError(str(error)) from error
    release = Release(
        fleet=fleet,
        version=version,
        sha256=hashlib.sha256(wheel).hexdigest(),
        size_bytes=len(wheel),
        serial=time.time_ns() // 1_000_000,
        older=older,
    )
    statement = msgspec.json.encode(release)
    return SignedRelease(statement=statement, signature=key.sign(_CONTEXT + statement))


def verified(signed: SignedRelease, update_key: str, fleet: str) -> Release:
    """What a signed release says, if it is signed with this key and meant for this fleet.

    Args:
        signed: the release.
        update_key: the public key, 32 bytes as base64.
        fleet: the board's fleet.

    Raises:
        UpdateError: it is not; or signatures cannot be checked here.
    """
    library = _ed25519()
    try:
        key = library.ed25519.Ed25519PublicKey.from_public_bytes(
            base64.b64decode(update_key, validate=True)
        )
    except (ValueError, binascii.Error) as error:
        raise UpdateError(
            f"the board's own key for updates cannot be used ({error}): enroll it again and give "
            "'fimi agent install' the new bundle"
        ) from error
    try:
        key.verify(signed.signature, _CONTEXT + signed.statement)
    except library.InvalidSignature as error:
        raise UpdateError(
            "the update is not signed with the key that this board knows: sign it with the key of "
            "the fleet's folder, or enroll the board again"
        ) from error
    try:
        release = msgspec.json.decode(signed.statement, type=Release)
    except msgspec.DecodeError as error:
        raise UpdateError(f"the update's statement cannot be read: {error}") from error
    if release.fleet != fleet:
        raise UpdateError(f"the update is for fleet {release.fleet!r}; this board is of {fleet!r}")
    return release


def check_newer(release: Release, serial: int, version: str) -> None:
    """Refuse what was sent before, and a lower version that does not say that it is meant.

    Args:
        release: the release.
        serial: of the last one that was installed here; 0 for none.
        version: of fimi that is in force here; empty if unknown.

    Raises:
        UpdateError: says which of the two.
    """
    if release.serial <= serial:
        raise UpdateError(
            f"the update was signed before the last one that was installed here (serial "
            f"{release.serial}, last {serial}): sign it again"
        )
    if release.older or not version:
        return
    versions = _packaging().version
    try:
        lower = versions.Version(release.version) < versions.Version(version)
    except versions.InvalidVersion as error:
        raise UpdateError(f"the update's version cannot be compared: {error}") from error
    if lower:
        raise UpdateError(
            f"the update is version {release.version}, lower than {version} here: say --older if "
            "that is meant"
        )


def wheel_version(wheel: bytes) -> str:
    """The version in a wheel of fimi.

    Raises:
        UpdateError: it is none.
    """
    return str(_metadata(_archive(wheel))["Version"])


def check_wheel(wheel: bytes, release: Release) -> None:
    """That a wheel is the one that was signed, and that the packages it needs are here.

    Raises:
        UpdateError: it is not, or they are not; says which.
    """
    found = hashlib.sha256(wheel).hexdigest()
    if found != release.sha256 or len(wheel) != release.size_bytes:
        raise UpdateError(
            f"the wheel is another one than was signed ({len(wheel)} B, SHA-256 {found[:12]}…; "
            f"signed: {release.size_bytes} B, {release.sha256[:12]}…): send it again"
        )
    metadata = _metadata(_archive(wheel))
    if str(metadata["Version"]) != release.version:
        raise UpdateError(
            f"the wheel is version {metadata['Version']}, signed was {release.version}"
        )
    if missing := _missing(metadata.get_all("Requires-Dist") or []):
        raise UpdateError(
            f"version {release.version} needs {'; '.join(missing)}: install that on the board "
            "(no package comes over the broker)"
        )


def unpack(wheel: bytes, folder: Path) -> None:
    """Write the files of a wheel into a new folder.

    Raises:
        UpdateError: it holds too much, or names that lead elsewhere.
        OSError: it cannot be written.
    """
    archive = _archive(wheel)
    members = [each for each in archive.infolist() if not each.is_dir()]
    size_bytes = sum(each.file_size for each in members)
    if len(members) > MAX_FILES or size_bytes > MAX_UNPACKED_BYTES:
        raise UpdateError(
            f"the wheel holds {len(members)} files with {size_bytes} B; an update has at most "
            f"{MAX_FILES} and {MAX_UNPACKED_BYTES} B"
        )
    for member in members:
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
            raise UpdateError(f"the wheel has a file {member.filename!r}, which leads elsewhere")
        if path.parts[0] != "fimi" and not path.parts[0].endswith(".dist-info"):
            continue  # scripts and data files: those of the installation stay
        target = folder.joinpath(*path.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with archive.open(member) as file:
                data = file.read(member.file_size + 1)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise UpdateError(f"the wheel is damaged at {member.filename}: {error}") from error
        if len(data) != member.file_size:
            raise UpdateError(f"the wheel says another size of {member.filename} than it has")
        target.write_bytes(data)


def source_digest_of(wheel: bytes) -> str:
    """What :func:`fimi.sources.source_digest` will be where this wheel is in force."""
    archive, digest = _archive(wheel), hashlib.sha256()
    names = {PurePosixPath(name) for name in archive.namelist() if name.endswith(".py")}
    inside = {name.relative_to("fimi"): name for name in names if name.parts[0] == "fimi"}
    for path in sorted(inside):
        digest.update(f"{path.as_posix()}\0".encode())
        digest.update(archive.read(str(inside[path])))
    return digest.hexdigest()[:12]


def _archive(wheel: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(wheel))
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise UpdateError(f"the wheel is no wheel: {error}") from error


def _metadata(archive: zipfile.ZipFile) -> Any:
    """The core metadata of a wheel of fimi."""
    pattern = re.compile(rf"{_WHEEL_NAME}-[^/]+\.dist-info/METADATA")
    found = [each for each in archive.infolist() if pattern.fullmatch(each.filename)]
    if len(found) != 1 or found[0].file_size > 1 << 20:
        raise UpdateError(f"the wheel is none of {DISTRIBUTION}")
    try:
        return HeaderParser().parsestr(archive.read(found[0]).decode("utf-8", "replace"))
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise UpdateError(f"the wheel is damaged: {error}") from error


def _missing(requirements: list[str]) -> list[str]:
    """What a version needs that is not installed here, or not in a version that fits."""
    packaging = _packaging()
    missing = []
    for text in requirements:
        try:
            wanted = packaging.requirements.Requirement(text)
        except packaging.requirements.InvalidRequirement as error:
            raise UpdateError(f"the wheel's metadata cannot be read: {error}") from error
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            here = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(f"{wanted.name}{wanted.specifier}, which is not here")
            continue
        if not wanted.specifier.contains(here, prereleases=True):
            missing.append(f"{wanted.name}{wanted.specifier}, here is {here}")
    return missing


class _Library(Struct):
    """The parts of ``cryptography`` that are used."""

    ed25519: Any
    serialization: Any
    InvalidSignature: type[Exception]


def _ed25519() -> _Library:
    """The library.

    Raises:
        UpdateError: it is not installed.
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise UpdateError(f"signatures cannot be checked here ({error}): {_INSTALL}") from error
    return _Library(ed25519, serialization, InvalidSignature)


def _packaging() -> Any:
    """The library that knows versions and requirements.

    Raises:
        UpdateError: it is not installed.
    """
    try:
        import packaging.requirements
        import packaging.version
    except ImportError as error:
        raise UpdateError(f"versions cannot be compared here ({error}): {_INSTALL}") from error
    return packaging
