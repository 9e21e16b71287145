from __future__ import annotations

import json
import os
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.learning.data.contract import PROTOCOL
from fimi.messaging.errors import MessageRefused
from fimi.messaging.messages.basis import DeviceMessage, Offer
from fimi.messaging.messages.documents import Desired, Fact, Reported
from fimi.messaging.messages.every import AnyMessage
from fimi.messaging.messages.facts import RoundReport, UpdateReady
from fimi.messaging.messages.orders import DevicePlan, Invitation, RoundStart, RunEnded
from fimi.messaging.messages.peers import Lease
from fimi.messaging.transfers import wire

DIGEST = "ab" * 32


class TestMessages:
    def test_every_type_is_sampled(self, samples) -> None:
        assert {type(message) for _, _, message in samples} == set(get_args(AnyMessage))

    def test_what_is_said_belongs_to_this_version_of_the_protocol(self, samples) -> None:
        """Processes of one version understand each other: other messages need another number."""
        said = {}
        for sender, recipient, message in samples:
            payload = wire.encode_message(message, sender=sender, recipient=recipient)
            said[type(message).__name__] = json.loads(
                payload, parse_float=lambda x: f"{float(x):g}"
            )
            assert len(said[type(message).__name__].pop("check")) == 16
        agreed = Path(__file__).with_name(f"protocol_{PROTOCOL}.json")
        written = json.dumps(said, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        if os.environ.get("FIMI_WRITE_PROTOCOL"):
            agreed.write_text(written, "utf-8")
        assert agreed.is_file() and written == agreed.read_text("utf-8"), (
            f"messages differ from {agreed.name}: raise PROTOCOL in learning/data/contract.py "
            "(unknown fields are refused) and run this test with "
            "FIMI_WRITE_PROTOCOL=1"
        )

    def test_round_trip(self, samples) -> None:
        for sender, recipient, message in samples:
            payload = wire.encode_message(message, sender=sender, recipient=recipient)
            assert wire.decode_message(payload, sender=sender, recipient=recipient) == message

    def test_no_bit_can_be_changed_unnoticed(self, samples) -> None:
        """Not in the lease of an id either, of which a changed one would take the id away."""
        sender, recipient, lease = next(each for each in samples if isinstance(each[2], Lease))
        payload = wire.encode_message(lease, sender=sender, recipient=recipient)
        for at in range(8 * len(payload)):
            spoilt = bytearray(payload)
            spoilt[at // 8] ^= 1 << at % 8
            with pytest.raises(MessageRefused):
                wire.decode_message(bytes(spoilt), sender=sender, recipient=recipient)
        for size in range(len(payload)):
            with pytest.raises(MessageRefused):
                wire.decode_message(payload[:size], sender=sender, recipient=recipient)

    def test_a_message_written_by_hand_needs_no_check(self, samples) -> None:
        for sender, recipient, message in samples:
            payload = msgspec.json.encode(message)
            assert wire.decode_message(payload, sender=sender, recipient=recipient) == message

    def test_nobody_speaks_for_another(self, samples) -> None:
        refused = set()
        for _, recipient, message in samples:
            try:
                wire.encode_message(message, sender="mallory", recipient=recipient)
            except MessageRefused as error:
                assert "mallory" in str(error)
                refused.add(type(message).__name__)
        assert refused == {"DeviceState", "Lease", "Claim", "Desired", "Reported", "Telemetry"}

    def test_orders_go_to_whom_they_name(self, samples) -> None:
        refused = set()
        for sender, _, message in samples:
            payload = msgspec.json.encode(message)
            try:
                wire.decode_message(payload, sender=sender, recipient="other")
            except MessageRefused:
                refused.add(type(message).__name__)
        assert refused == {"Desired", "Lease", "Claim"}

    def test_orders_and_facts_travel_in_documents_only(self, samples) -> None:
        by_type = {type(message): message for _, _, message in samples}
        start, facts = by_type[Desired].start, by_type[Reported].facts
        for part in (start, *(fact.body for fact in facts)):
            payload = msgspec.json.encode(part)
            with pytest.raises(MessageRefused, match="not one of ours"):
                wire.decode_message(payload, sender="d1", recipient="d1")

    def test_what_documents_hold_is_checked_too(self, samples) -> None:
        by_type = {type(message): message for _, _, message in samples}
        other = msgspec.structs.replace(by_type[Desired].start, device="d2")
        desired = msgspec.structs.replace(by_type[Desired], start=other)
        with pytest.raises(MessageRefused, match=r"RoundStart.*'d2'"):
            wire.encode_message(desired, sender="coordinator", recipient="d1")
        (report,) = [f.body for f in by_type[Reported].facts if isinstance(f.body, RoundReport)]
        report = msgspec.structs.replace(report, device="d2")
        reported = msgspec.structs.replace(by_type[Reported], facts=(Fact(number=1, body=report),))
        with pytest.raises(MessageRefused, match=r"RoundReport.*'d2'"):
            wire.encode_message(reported, sender="d1", recipient="coordinator")

    def test_every_part_of_a_desired_state_is_checked(self) -> None:
        """None of its orders is of a type that the check does not know."""
        parts = {
            part
            for kind in get_type_hints(Desired).values()
            for part in get_args(kind)
            if isinstance(part, type) and issubclass(part, DeviceMessage)
        }
        assert {RoundStart, DevicePlan, Invitation} <= parts
        assert parts == set(wire._ORDERS.values())

    def test_nobody_offers_for_another(self) -> None:
        offer = Offer(holder="d2", digest=DIGEST, size_bytes=1, media="x")
        update = UpdateReady(run="r", device="d1", round=1, update=offer)
        message = Reported(
            run="r",
            device="d1",
            instance="i",
            boot_id="b",
            number=1,
            epoch=1,
            heard=1,
            stage="offering",
            facts=(Fact(number=1, body=update),),
        )
        with pytest.raises(MessageRefused, match="d2"):
            wire.encode_message(message, sender="d1", recipient="coordinator")

    def test_too_large(self) -> None:
        with pytest.raises(MessageRefused, match="limit"):
            wire.encode_message(
                RunEnded(run="r", reason="x" * (1 << 20)), sender="a", recipient="b"
            )
        with pytest.raises(MessageRefused, match="limit"):
            wire.decode_message(b" " * ((1 << 20) + 1), sender="a", recipient="b")

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"\xff\xfe",
            b"null",
            b"[]",
            b'{"type":"run-ended"}',
            b'{"type":"run-ended","run":"r","reason":"x","more":1}',
            b'{"type":"nothing"}',
            b'{"type":"run-ended","run":"r","reason":"x"} trailing',
            b"[" * 100_000,
        ],
    )
    def test_garbage(self, payload: bytes) -> None:
        with pytest.raises(MessageRefused):
            wire.decode_message(payload, sender="a", recipient="b")

    @given(st.binary(max_size=200))
    def test_any_bytes(self, payload: bytes) -> None:
        with pytest.raises(MessageRefused):
            wire.decode_message(payload, sender="a", recipient="b")


class TestTransfers:
    @given(st.binary(max_size=50), st.integers(0, 2**31))
    def test_round_trip(self, data: bytes, index: int) -> None:
        check = wire.chunk_check(index, data)
        chunk = wire.Chunk(digest=DIGEST, start=index, check=check, data=memoryview(data))
        again = wire.decode_answer(wire.encode_transfer(chunk))
        assert isinstance(again, wire.Chunk)
        assert (again.start, again.check, bytes(again.data)) == (index, check, data)
        want = wire.Want(digest=DIGEST, runs=((index, 1),), chunk_bytes=1024, shared=True)
        assert wire.decode_request(wire.encode_transfer(want)) == want

    def test_check_depends_on_the_place(self) -> None:
        assert wire.chunk_check(0, b"x") != wire.chunk_check(1, b"x")

    @pytest.mark.parametrize(
        "runs", [[[-1, 1]], [[0, 0]], [[0, 2**30]], [[0]], [["0", 1]], [[n, 1] for n in range(65)]]
    )
    def test_bad_wants(self, runs: list[object]) -> None:
        body = {"type": "want", "digest": DIGEST, "runs": runs, "chunk_bytes": 1024}
        with pytest.raises(msgspec.DecodeError):
            wire.decode_request(msgspec.msgpack.encode(body))

    @given(st.binary(max_size=100))
    def test_any_bytes(self, payload: bytes) -> None:
        for decode in (wire.decode_request, wire.decode_answer):
            with pytest.raises((msgspec.DecodeError, ValueError)):
                decode(payload)
