"""What a device has to tell and the coordinator has not stored, on disk: it survives its process.

A :class:`DurableOutbox` keeps the facts of a run, and the update that is on offer, in two kinds of
files in the agent's state folder:

==============================  ====================================================================
``{fleet}.{device}.facts``      one :class:`Unsent`: replaced as a whole and synced whenever a fact
                                is added, so at most three times in a round
``{fleet}.{device}.….update``   the bytes of an update, named by their SHA-256; written once
==============================  ====================================================================

Nothing is written while the device waits, trains or is heard. What the coordinator has stored
leaves the file with the next fact; told twice it does no harm, because a fact keeps the start of
the device and the number under which it was told first, and counts once
(:mod:`fimi.coordinator.conversation`).

Damage is tolerated: a file that is torn or of another kind is named, put aside and not used. Sizes
are bounded: an update that is too large is not kept; of facts the readings go first, then the
oldest ones, and the log says so. A disk that is full or read-only is named once, and the device
goes on as without an outbox.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from pathlib import Path

import msgspec
from msgspec import Struct

from fimi.edge_agent.readings_room import readings_size, with_room, without
from fimi.files import write_whole
from fimi.messaging.messages.documents import MAX_EARLIER, EarlierFacts, Fact
from fimi.messaging.messages.facts import RoundReport
from fimi.messaging.messages.orders import RoundStart

MAX_BYTES = 256 << 20
"""Most bytes of all files of a device."""
FACTS_BYTES = 3 << 18
"""Most bytes of the file of facts: one message must be able to tell them, with those of the next
start (:data:`~fimi.messaging.transfers.wire.MAX_MESSAGE_BYTES`)."""
_KIND = b"fimi-outbox-1"

log = logging.getLogger(__name__)


class ReadyUpdate(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A round whose update is ready and was not pulled yet.

    Attributes:
        start: the order that was followed.
        boot_id: of the start of the device that has worked.
        number: of the fact that ``report`` is, if nothing more becomes of the round.
        digest: SHA-256 of the update.
        report: what was done and metered so far.
    """

    start: RoundStart
    boot_id: str
    number: int
    digest: str
    report: RoundReport


class Unsent(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a device has to tell of one run.

    Attributes:
        instance: of the run.
        starts: facts that are not known to be stored, by start of the device, oldest first.
        worked: the order of the last round whose work was done; ``None`` before.
        ready: an update that was not pulled yet.
        clock_s: the device's own clock when it told the last of this, s; an emulated board goes on
            from there.
    """

    instance: str
    starts: tuple[EarlierFacts, ...] = ()
    worked: RoundStart | None = None
    ready: ReadyUpdate | None = None
    clock_s: float = 0.0


class DurableOutbox:
    """The outbox of one device. One thread at a time.

    Args:
        folder: the agent's state folder; made when something is written.
        fleet: of the device.
        device: its id.
        max_bytes: most bytes of all its files.
    """

    def __init__(
        self, folder: Path, fleet: str, device: str, *, max_bytes: int = MAX_BYTES
    ) -> None:
        self._folder = folder
        self._name = f"{fleet}.{device}"
        self._facts = folder / f"{self._name}.facts"
        self._max_bytes = max_bytes
        self._before: bytes | None = None
        self._complained = False
        self.writes = 0
        """How many files were written so far."""

    def load(self) -> Unsent | None:
        """What an earlier start has left; ``None`` for nothing that can be used."""
        try:
            content = self._facts.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s cannot be read: %s; what it holds is not told", self._facts, error)
            return None
        head, _, body = content.partition(b"\n")
        why = ""
        try:
            if head != _head(body):
                raise ValueError("its checksum is another one")
            found = msgspec.json.decode(body, type=Unsent)
        except (ValueError, msgspec.DecodeError) as error:  # ValidationError is one
            why = str(error)
        if why:
            aside = self._facts.with_suffix(".damaged")
            with contextlib.suppress(OSError):
                self._facts.replace(aside)
            log.warning(
                "%s (%d B) is damaged: %s; it is put aside as %s, and the facts in it are not told",
                *(self._facts, len(content), why, aside.name),
            )
            return None
        self._before = content
        return found

    def save(self, unsent: Unsent) -> None:
        """Replace the facts on disk, and wait until they are there; nothing if they are there."""
        content = self._fitting(unsent)
        if content == self._before:
            return
        if self._write(self._facts, content):
            self._before = content

    def clear(self) -> None:
        """There is nothing to tell any more."""
        self._before = None
        for path in (self._facts, *self._updates()):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def put_update(self, digest: str, update: bytes, beside: tuple[str, ...] = ()) -> bool:
        """Keep an update; returns whether it is kept.

        Earlier ones go, but those of the digests ``beside`` where there is room for all.
        """
        room = self._max_bytes - FACTS_BYTES
        if len(update) > room:
            self._complain(
                f"an update of {len(update)} B is not kept in {self._folder}, where updates may "
                f"take {room} B: after a restart it is trained again"
            )
            return False
        path = self._path(digest)
        if path.exists():
            return True
        self.keep_updates(beside)
        if len(update) + sum(_size(each) for each in self._updates()) > room:
            self.keep_updates(())
        return self._write(path, update)

    def update(self, digest: str) -> bytes | None:
        """An update that is kept and undamaged."""
        path = self._path(digest)
        try:
            update = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(update).hexdigest() == digest:
            return update
        log.warning("%s is damaged and was deleted; the round is trained again", path)
        with contextlib.suppress(OSError):
            path.unlink()
        return None

    def keep_updates(self, digests: tuple[str, ...]) -> None:
        """Delete all updates but these."""
        needed = {self._path(digest) for digest in digests}
        for path in self._updates():
            if path not in needed:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _fitting(self, unsent: Unsent) -> bytes:
        """The file of facts; if it would be too large, without readings, then without the oldest.

        A fact has joules, and is told once; readings only prove them.
        """
        before = _readings_of(unsent)
        unsent = _with_fewer_readings(unsent)
        if gone := before - _readings_of(unsent):
            log.warning(
                "%s holds %d B at most: %d B of readings of meters are not kept, all joules are",
                *(self._facts, FACTS_BYTES, gone),
            )
        dropped: list[Fact] = []
        while unsent.starts:
            first, *others = unsent.starts
            count = max(1, len(first.facts) // 2)
            if len(others) >= MAX_EARLIER - 1:  # the next start adds one
                count = len(first.facts)
            elif len(_content(unsent)) <= FACTS_BYTES:
                break
            dropped += first.facts[:count]
            left = msgspec.structs.replace(first, facts=first.facts[count:])
            starts = (left, *others) if left.facts else tuple(others)
            unsent = msgspec.structs.replace(unsent, starts=starts)
        if dropped:
            log.warning(
                "%s holds facts of %d starts and %d B at most: %d are not kept, the oldest a %s",
                *(self._facts, MAX_EARLIER - 1, FACTS_BYTES),
                *(len(dropped), type(dropped[0].body).__name__),
            )
        return _content(unsent)

    def _write(self, path: Path, content: bytes) -> bool:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, content, mode=0o600)
        except OSError as error:
            self._complain(
                f"{path} cannot be written: {error}; what the coordinator has not stored is lost "
                "if this process ends"
            )
            return False
        self.writes += 1
        self._complained = False
        return True

    def _complain(self, what: str) -> None:
        if not self._complained:
            self._complained = True
            log.warning("%s", what)

    def _path(self, digest: str) -> Path:
        return self._folder / f"{self._name}.{digest}.update"

    def _updates(self) -> list[Path]:
        # device names have dots: another device's files may begin like these
        begin, length = f"{self._name}.", len(f"{self._name}.{'0' * 64}.update")
        try:
            found = list(self._folder.iterdir())
        except OSError:
            return []
        return [
            path
            for path in found
            if path.name.startswith(begin)
            and path.name.endswith(".update")
            and len(path.name) == length
        ]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _readings_of(unsent: Unsent) -> int:
    """Bytes of all readings."""
    told = sum(readings_size(fact.body) for start in unsent.starts for fact in start.facts)
    return told + (readings_size(unsent.ready.report) if unsent.ready is not None else 0)


def _with_fewer_readings(unsent: Unsent) -> Unsent:
    """Without so many readings, the oldest first, that the rest fits; without any, if it does not.

    Those of the update that is ready go last.
    """
    ready = unsent.ready
    while (over := len(_content(unsent)) - FACTS_BYTES) > 0 and _readings_of(unsent):
        before = sum(readings_size(fact.body) for start in unsent.starts for fact in start.facts)
        if before:
            room = max(0, before - (over * 3 + 3) // 4)  # four characters tell three bytes
            groups = with_room([list(start.facts) for start in unsent.starts], room)
            starts = tuple(
                msgspec.structs.replace(start, facts=tuple(group))
                for start, group in zip(unsent.starts, groups, strict=True)
            )
            unsent = msgspec.structs.replace(unsent, starts=starts)
        elif ready is not None:
            report = without(ready.report)
            assert isinstance(report, RoundReport)
            bare = msgspec.structs.replace(ready, report=report)
            unsent = msgspec.structs.replace(unsent, ready=bare)
    return unsent


def _head(body: bytes) -> bytes:
    return _KIND + b" " + hashlib.sha256(body).hexdigest().encode()


def _content(unsent: Unsent) -> bytes:
    body = msgspec.json.encode(unsent)
    return _head(body) + b"\n" + body
