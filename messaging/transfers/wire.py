"""Messages and chunks as bytes, and the checks of received ones.

Messages are JSON (readable with any MQTT tool), transfers MessagePack (chunks are binary). A
message carries a check of its bytes (:func:`message_check`), and names its sender or recipient.
:func:`decode_message` compares this with the topic, which is protected by the broker's access
rules, so that no peer can send a message as another.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta, Struct

from fimi.messaging.errors import MessageRefused
from fimi.messaging.messages.basis import DeviceMessage, Digest, Message
from fimi.messaging.messages.documents import Desired, Reported
from fimi.messaging.messages.every import AnyMessage
from fimi.messaging.messages.facts import FactBody, UpdateReady
from fimi.messaging.messages.peers import Claim, DeviceState, Lease, Telemetry
from fimi.messaging.topics import COORDINATOR, Kind

MAX_MESSAGE_BYTES = 1 << 20
"""Largest message, bytes; anything larger is sent as a payload."""

MAX_WANTED = 64
"""Most runs of blocks that one request may name."""

_ORDERS = {
    field.name: part
    for field in msgspec.structs.fields(Desired)
    for part in get_args(field.type)
    if isinstance(part, type) and issubclass(part, DeviceMessage)
}
_SPEAKS_FOR: dict[type, str] = {
    **dict.fromkeys((DeviceState, Lease, Claim), "peer"),
    **dict.fromkeys((Reported, Telemetry, *get_args(FactBody)), "device"),
}
_SPEAKS_TO: dict[type, str] = dict.fromkeys((Desired, *_ORDERS.values()), "device")
_KINDS: dict[type, Kind] = {
    DeviceState: "state",
    Desired: "desired",
    Reported: "reported",
    Telemetry: "telemetry",
    Lease: "lease",
    Claim: "claim",
}

Index = Annotated[int, Meta(ge=0, le=2**48)]
Count = Annotated[int, Meta(ge=1, le=2**20)]


class Want(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="want"):
    """Asker to holder: request for blocks of a payload.

    Attributes:
        digest: of the payload.
        runs: consecutive blocks, each as the first one and their number. None: only to join the
            shared stream.
        chunk_bytes: size of the chunks that suit the link; the holder may make them smaller.
        shared: the asker hears the shared stream, and the blocks may come over it.
        shared_bytes: what has come over it since the asker joined.
    """

    digest: Digest
    runs: Annotated[tuple[tuple[Index, Count], ...], Meta(max_length=MAX_WANTED)]
    chunk_bytes: Annotated[int, Meta(ge=1, le=1 << 24)]
    shared: bool = False
    shared_bytes: Index = 0


class Done(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="done"):
    """Asker to holder: it has the whole payload; repeated until :class:`Noted` arrives."""

    digest: Digest


class Chunk(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="chunk"):
    """Holder to asker: blocks of a payload from ``start`` on, with :func:`chunk_check`."""

    digest: Digest
    start: Index
    check: Index
    data: memoryview


class Apart(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="apart"):
    """Holder to asker: the shared stream is too fast for it; it is served for itself."""

    digest: Digest


class Gone(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="gone"):
    """Holder to asker: it does not serve that payload (any more)."""

    digest: Digest


class Noted(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="noted"):
    """Holder to asker: confirms :class:`Done`."""

    digest: Digest


Request = Want | Done
Answer = Chunk | Apart | Gone | Noted

_json = msgspec.json.Encoder()
_message = msgspec.json.Decoder[Any](AnyMessage)

encode_transfer: Callable[[Request | Answer], bytes] = msgspec.msgpack.Encoder().encode
"""A request or answer as MessagePack."""

decode_request: Callable[[bytes], Request] = msgspec.msgpack.Decoder[Any](Request).decode
"""An asker's request from MessagePack; raises :class:`msgspec.DecodeError` for anything else."""

decode_answer: Callable[[bytes], Answer] = msgspec.msgpack.Decoder[Any](Answer).decode
"""A holder's answer from MessagePack; raises :class:`msgspec.DecodeError` for anything else."""


def chunk_check(start: int, data: bytes | memoryview) -> int:
    """CRC-32 of a chunk's data and place: finds damage before the payload is complete.

    Against those who mean harm there is the payload's SHA-256.
    """
    return zlib.crc32(data, start & 0xFFFFFFFF)


_CHECK = b',"check":"'
_TAIL_BYTES = len(_CHECK) + 16 + 2


def message_check(body: bytes) -> bytes:
    """BLAKE2b of a message, 16 hexadecimal digits: a damaged number is still a number.

    It stands in the message as its last field, ``check``. A message that somebody has written by
    hand may lack it.
    """
    return hashlib.blake2b(body, digest_size=8).hexdigest().encode()


def encode_message(message: Message, *, sender: str, recipient: str) -> bytes:
    """A message as JSON.

    Raises:
        MessageRefused: it names another sender or recipient, or is larger than
            :data:`MAX_MESSAGE_BYTES`.
    """
    _check_parties(message, sender, recipient)
    payload = _json.encode(message)
    payload = b'%b%b%b"}' % (payload[:-1], _CHECK, message_check(payload))
    if len(payload) > MAX_MESSAGE_BYTES:
        raise MessageRefused(
            f"{type(message).__name__} to {recipient} has {len(payload)} B, the limit is "
            f"{MAX_MESSAGE_BYTES} B; send large payloads as transfers"
        )
    return payload


def decode_message(payload: bytes, *, sender: str, recipient: str) -> Message:
    """A message from JSON, compared with the topic on which it arrived.

    Raises:
        MessageRefused: it is not valid; says why.
    """
    if len(payload) > MAX_MESSAGE_BYTES:
        raise MessageRefused(
            f"message of {len(payload)} B from {sender}, the limit is {MAX_MESSAGE_BYTES} B"
        )
    if payload[-_TAIL_BYTES:].startswith(_CHECK) and payload.endswith(b'"}'):
        body = payload[:-_TAIL_BYTES] + b"}"
        if payload[len(_CHECK) - _TAIL_BYTES : -2] != message_check(body):
            raise MessageRefused(f"message from {sender} is damaged: its check does not fit")
        payload = body
    try:
        message: Message = _message.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MessageRefused(f"message from {sender} is not one of ours: {error}") from error
    _check_parties(message, sender, recipient)
    return message


def kind_of(message: Message) -> Kind:
    """The kind of topic on which messages of this type travel."""
    return _KINDS.get(type(message), "message")


def _check_parties(message: Message, sender: str, recipient: str) -> None:
    kind = type(message)
    if (field := _SPEAKS_FOR.get(kind)) and (named := getattr(message, field)) != sender:
        raise MessageRefused(f"{kind.__name__} from {sender} speaks for {field} {named!r}")
    if (field := _SPEAKS_TO.get(kind)) and (named := getattr(message, field)) != recipient:
        raise MessageRefused(f"{kind.__name__} to {recipient} is meant for {field} {named!r}")
    if isinstance(message, UpdateReady) and message.update.holder != sender:
        raise MessageRefused(
            f"UpdateReady from {sender} offers a payload of {message.update.holder!r}"
        )
    if isinstance(message, Lease | Claim) and recipient != sender:
        raise MessageRefused(f"{kind.__name__} from {sender} came to {recipient}, not to itself")
    if isinstance(message, Desired):
        if sender != COORDINATOR:
            raise MessageRefused(f"Desired from {sender}: only the {COORDINATOR} sends it")
        for name in _ORDERS:
            if (order := getattr(message, name)) is not None:
                _check_parties(order, sender, recipient)
    if isinstance(message, Reported):
        for fact in message.facts:
            _check_parties(fact.body, sender, recipient)
