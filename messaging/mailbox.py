"""What has come and waits to be received: bounded in bytes, fair among senders.

A :class:`Mailbox` has a queue for every sender and gives their letters in turn, one of each, so
that one who writes much does not keep the others waiting. What one sender sent comes out in the
order in which it came in.

Two limits bound it, one for each sender and one for all. Whoever goes beyond a limit loses the
oldest of its own letters: where all together are too much, that is the sender with most bytes.
Everything that travels as a message is sent again until it is answered, so what is lost that way
costs time and nothing else.

A letter with a *key* replaces a waiting one of the same sender, key and no greater number: of
documents the latest holds all that the earlier ones held (docs/conversation.md).

It knows neither messages nor the network. It is safe to use from several threads.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from msgspec import Struct

SENDER_BYTES = 8 << 20
"""Most bytes of one sender that wait: eight of the largest messages."""
ALL_BYTES = 32 << 20
"""Most bytes of all senders that wait."""
LETTER_BYTES = 512
"""What a letter counts besides its content: the objects that hold it."""
MAX_SENDERS = 4096
"""Most senders that wait; a letter of a further one is dropped."""

T = TypeVar("T")


class Letter(Struct, Generic[T]):
    """Something that waits.

    Attributes:
        content: what was sent.
        size_bytes: what it counts.
        key: of a document, else ``None``.
        number: of a document; a greater one replaces it.
    """

    content: T
    size_bytes: int
    key: Hashable = None
    number: tuple[int, ...] = ()


class _Queue(Generic[T]):
    """The letters of one sender, by a number that grows, and where each document is."""

    def __init__(self) -> None:
        self.letters: OrderedDict[int, Letter[T]] = OrderedDict()
        self.documents: dict[Hashable, int] = {}
        self.size_bytes = 0
        self._next = 0

    def add(self, letter: Letter[T]) -> None:
        if letter.key is not None:
            self.documents[letter.key] = self._next
        self.letters[self._next] = letter
        self._next += 1
        self.size_bytes += letter.size_bytes

    def take(self, index: int | None = None) -> Letter[T]:
        """Take out one letter, by default the oldest."""
        index = next(iter(self.letters)) if index is None else index
        letter = self.letters.pop(index)
        if letter.key is not None:
            del self.documents[letter.key]
        self.size_bytes -= letter.size_bytes
        return letter


class Mailbox(Generic[T]):
    """Letters by sender.

    Attributes:
        overflowed: letters that were dropped because there were too many.
        replaced: documents whose place a later one has taken.
    """

    def __init__(self, *, sender_bytes: int = SENDER_BYTES, all_bytes: int = ALL_BYTES) -> None:
        """An empty one with these limits."""
        self.overflowed = 0
        self.replaced = 0
        self._sender_bytes = sender_bytes
        self._all_bytes = all_bytes
        self._queues: OrderedDict[str, _Queue[T]] = OrderedDict()  # whose turn is next comes first
        self._size_bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def size_bytes(self) -> int:
        """What all letters count."""
        with self._changed:
            return self._size_bytes

    def put(
        self,
        sender: str,
        content: T,
        size_bytes: int = 0,
        *,
        key: Hashable = None,
        number: tuple[int, ...] = (),
    ) -> tuple[str, ...]:
        """Add a letter of ``sender``.

        Args:
            sender: who has sent it.
            content: the letter.
            size_bytes: of its content.
            key: which document it is; ``None``: none.
            number: of documents with the same key the one with the greatest number holds.

        Returns:
            The senders of letters that were dropped for it, because there were too many.
        """
        letter = Letter(content, size_bytes + LETTER_BYTES, key, number)
        lost = []
        with self._changed:
            queue = self._queues.get(sender)
            if queue is None:
                if len(self._queues) >= MAX_SENDERS:
                    self.overflowed += 1
                    return (sender,)
                queue = self._queues[sender] = _Queue()
            if (waiting := queue.documents.get(key)) is not None:
                self.replaced += 1
                if queue.letters[waiting].number > number:
                    return ()
                self._size_bytes -= queue.take(waiting).size_bytes
            queue.add(letter)
            self._size_bytes += letter.size_bytes
            while sender in self._queues and queue.size_bytes > self._sender_bytes:
                self._take(sender)
                lost.append(sender)
            while self._size_bytes > self._all_bytes:
                lost.append(max(self._queues, key=lambda name: self._queues[name].size_bytes))
                self._take(lost[-1])
            self.overflowed += len(lost)
            self._changed.notify()
        return tuple(lost)

    def get(self, timeout_s: float | None = None) -> tuple[str, T] | None:
        """The next letter, with its sender; ``None`` after ``timeout_s``, or closed and empty."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not self._queues:
                left_s = None if deadline_s is None else deadline_s - time.monotonic()
                if self._closed or (left_s is not None and left_s <= 0):
                    return None
                self._changed.wait(left_s)
            sender = next(iter(self._queues))
            letter = self._take(sender)
            if sender in self._queues:
                self._queues.move_to_end(sender)
            return sender, letter.content

    def close(self) -> None:
        """Let :meth:`get` return ``None`` once everything was taken out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # With the lock held.

    def _take(self, sender: str) -> Letter[T]:
        """Take out the oldest letter of a sender."""
        queue = self._queues[sender]
        letter = queue.take()
        self._size_bytes -= letter.size_bytes
        if not queue.letters:
            del self._queues[sender]
        return letter
