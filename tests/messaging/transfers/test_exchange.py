from __future__ import annotations

import hashlib
import os
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest

from fimi.learning.data.contract import PROTOCOL
from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.errors import TransferCancelled, TransferError
from fimi.messaging.link import Link
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.transfers.assembly import JOIN_S
from fimi.messaging.transfers.blocks import BLOCK_BYTES, block_bounds
from fimi.messaging.transfers.parts import PartFiles
from fimi.messaging.transfers.receipts import Receipts
from fimi.messaging.transfers.wire import (
    Chunk,
    Done,
    Noted,
    Want,
    chunk_check,
    decode_request,
    encode_message,
    encode_transfer,
)

CHUNK = BLOCK_BYTES


def noise(size_bytes: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size_bytes)


def nobody_listens(port: int) -> bool:
    """Whether the port is free: mosquitto ends a moment after the process that runs it."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Saboteur:
    """A real peer that serves badly: every fault happens once per chunk that it befalls."""

    def __init__(self, address: BrokerAddress, fleet: str, data: bytes, **faults: set[int]) -> None:
        self.fleet, self.data, self.faults = fleet, data, faults
        self.asked: Counter[int] = Counter()
        self.dones = 0
        self.link = Link(
            address,
            "saboteur",
            clean_session=True,
            subscriptions=topics.subscriptions(fleet, "saboteur"),
            on_message=self.on_message,
        )
        self.link.connect(5.0)
        self.offer = Offer(
            holder="saboteur",
            digest=hashlib.sha256(data).hexdigest(),
            size_bytes=len(data),
            media="noise",
        )

    def answer(self, asker: str, body: Chunk | Noted) -> None:
        topic = topics.topic(self.fleet, "saboteur", asker, "chunk")
        self.link.publish(topic, encode_transfer(body), qos=0)

    def state(self, boot_id: str) -> tuple[str, bytes]:
        """Topic and payload of its state."""
        state = DeviceState(
            peer="saboteur", role="device", status="online", boot_id=boot_id, protocol=PROTOCOL
        )
        topic = topics.topic(self.fleet, "saboteur", COORDINATOR, "state")
        return topic, encode_message(state, sender="saboteur", recipient=COORDINATOR)

    def chunk(self, index: int, check: int, data: bytes) -> Chunk:
        return Chunk(digest=self.offer.digest, start=index, check=check, data=memoryview(data))

    def on_message(self, topic: str, payload: bytes, _retained: bool) -> None:
        place = topics.parse(topic)
        if place is None or place.kind != "want":
            return
        request = decode_request(payload)
        if isinstance(request, Done):
            self.dones += 1
            if self.dones > 1:
                self.answer(place.sender, Noted(digest=request.digest))
            return
        for start, count in request.runs:
            for index in range(start, start + count):
                self.asked[index] += 1
                self.serve(place.sender, index)

    def serve(self, asker: str, index: int) -> None:
        start, stop = block_bounds(len(self.data), index, index + 1)
        data, claimed, first = self.data[start:stop], index, self.asked[index] == 1
        check = chunk_check(index, data)

        def hit(fault: str) -> bool:
            return first and index in self.faults.get(fault, ())

        if hit("lost"):
            return
        if hit("damaged"):
            data = data[:-1] + bytes([data[-1] ^ 1])
        if hit("short"):
            data = data[:-1]
            check = chunk_check(index, data)
        if hit("misplaced"):
            claimed = index + 1
        if hit("beyond"):
            self.answer(asker, self.chunk(10**9, check, data))
        chunk = self.chunk(claimed, check, data)
        for _ in range(3 if hit("repeated") else 1):
            self.answer(asker, chunk)


class TestWholeness:
    @pytest.mark.parametrize("size_bytes", [0, 1, CHUNK - 1, CHUNK, 3 * CHUNK, 3 * CHUNK + 1])
    def test_sizes_around_chunks(self, join, size_bytes: int) -> None:
        device, coordinator = join("d1", chunk_bytes=CHUNK), join(COORDINATOR)
        data = noise(size_bytes)
        offer = device.transfers.serve(data, "noise")
        assert (offer.size_bytes, offer.holder) == (size_bytes, "d1")
        assert coordinator.transfers.fetch(offer, 10.0) == data
        assert device.transfers.wait_served(offer.digest, by=COORDINATOR, timeout_s=5.0)
        again = coordinator.transfers.counters.asked_again  # of a machine that stood still
        needed = -(-size_bytes // CHUNK)  # what was asked for again need not be sent any more
        assert needed <= device.transfers.counters.sent <= needed + again

    def test_five_megabytes(self, join) -> None:
        device, coordinator = join("d1"), join(COORDINATOR)
        data = noise(5_000_000)
        offer = coordinator.transfers.serve(data, "noise")
        assert device.transfers.fetch(offer, 30.0) == data
        received = device.transfers.counters.received
        assert 5 <= received <= 100  # chunks grow with the link

    def test_many_at_once(self, join) -> None:
        """A model to everybody while everybody's update comes back, two fetches a peer."""
        coordinator = join(COORDINATOR)
        devices = [join(f"d{n}") for n in range(4)]
        model, table = noise(1_500_000), noise(300_000, 1)
        updates = [noise(700_000, 2 + n) for n in range(4)]
        offers = [coordinator.transfers.serve(data, "noise") for data in (model, table)]
        back = [
            device.transfers.serve(update, "noise", keep=1)
            for device, update in zip(devices, updates, strict=True)
        ]
        with ThreadPoolExecutor(16) as pool:
            down = [
                [pool.submit(device.transfers.fetch, offer, 30.0) for offer in offers]
                for device in devices
            ]
            up = [pool.submit(coordinator.transfers.fetch, offer, 30.0) for offer in back]
            assert [[fetch.result() for fetch in pair] for pair in down] == [[model, table]] * 4
            assert [fetch.result() for fetch in up] == updates
        for device, offer in zip(devices, back, strict=True):
            assert coordinator.transfers.wait_served(offers[0].digest, by=device.id, timeout_s=5.0)
            assert device.transfers.wait_served(offer.digest, by=COORDINATOR, timeout_s=5.0)
            assert device.transfers.served() == ()

    def test_same_payload_twice_at_once(self, join) -> None:
        device, coordinator = join("d1", chunk_bytes=CHUNK), join(COORDINATOR)
        offer = device.transfers.serve(noise(20_000), "noise")
        with ThreadPoolExecutor(2) as pool:
            fetches = [pool.submit(coordinator.transfers.fetch, offer, 10.0) for _ in range(2)]
            assert {fetch.result() for fetch in fetches} == {noise(20_000)}


class TestFaults:
    def test_everything_that_can_befall_a_chunk(self, broker, fleet, join) -> None:
        data = noise(8 * CHUNK + 10)
        saboteur = Saboteur(
            broker.address,
            fleet,
            data,
            lost={0},
            damaged={1},
            short={2},
            misplaced={3},
            beyond={4},
            repeated={5},
        )
        coordinator = join(COORDINATOR)
        assert coordinator.transfers.fetch(saboteur.offer, 30.0) == data
        saboteur.link.close()
        counters = coordinator.transfers.counters
        assert all(saboteur.asked[index] >= 2 for index in (0, 1, 2, 3))
        assert counters.asked_again >= 1
        assert counters.corrupt >= 2  # damaged and short
        assert counters.refused >= 1  # beyond: nobody asked for that one

    def test_done_is_repeated_until_noted(self, broker, fleet, join, until) -> None:
        saboteur = Saboteur(broker.address, fleet, noise(10))
        coordinator = join(COORDINATOR)
        coordinator.transfers.fetch(saboteur.offer, 10.0)
        until(lambda: saboteur.dones == 2)
        key = ("saboteur", saboteur.offer.digest)
        until(lambda: key not in coordinator.transfers._receipts)
        saboteur.link.close()

    def test_done_waits_for_a_holder_that_is_away(self) -> None:
        """However long: it waits for this word, and its update is here."""
        receipts, here, digest = Receipts(), set[str](), "0" * 64
        receipts.add("d1", digest, 0.0)
        assert not [s for s in range(1, 60) if receipts.due(s, here.__contains__)]
        here.add("d1")
        receipts.begin_anew(60.0, "d1")
        assert receipts.due(61.0, here.__contains__) == [("d1", Done(digest=digest))]
        assert len([s for s in range(62, 120) if receipts.due(s, here.__contains__)]) == 5
        assert ("d1", digest) not in receipts

    def test_holder_that_serves_something_else(self, broker, fleet, join) -> None:
        saboteur = Saboteur(broker.address, fleet, noise(3 * CHUNK))
        lie = msgspec.structs.replace(saboteur.offer, digest="0" * 64)
        saboteur.offer = lie
        with pytest.raises(TransferError, match="something else"):
            join(COORDINATOR).transfers.fetch(lie, 10.0)
        saboteur.link.close()

    def test_chunks_of_a_stranger_are_not_taken(self, broker, fleet, join) -> None:
        coordinator = join(COORDINATOR)
        stranger = Saboteur(broker.address, fleet, noise(CHUNK))
        offer = msgspec.structs.replace(stranger.offer, holder="d1")
        stop = threading.Event()

        def intrude() -> None:
            while not stop.wait(0.02):
                stranger.serve(COORDINATOR, 0)

        thread = threading.Thread(target=intrude)
        thread.start()
        try:
            with pytest.raises(TransferError, match=r"not complete after 0\.3 s.*; 0 B had come"):
                coordinator.transfers.fetch(offer, 0.3)
        finally:
            stop.set()
            thread.join()
            stranger.link.close()
        assert coordinator.transfers.counters.refused >= 5


class TestRefusals:
    def test_too_large(self, join) -> None:
        device, coordinator = join("d1"), join(COORDINATOR, max_bytes=1000)
        offer = device.transfers.serve(noise(1001), "noise")
        with pytest.raises(TransferError, match=r"1001 B.*1000 B"):
            coordinator.transfers.fetch(offer, 10.0)
        assert coordinator.transfers.fetch(offer, 10.0, max_bytes=1001) == noise(1001)
        again = coordinator.transfers.counters.asked_again
        assert device.transfers.counters.sent == 1 + again

    def test_withdrawn(self, join) -> None:
        device, coordinator = join("d1"), join(COORDINATOR)
        offer = device.transfers.serve(noise(10), "noise")
        device.transfers.withdraw(offer.digest)
        start_s = time.monotonic()
        with pytest.raises(TransferError, match=r"noise payload .* from d1.*no longer serves"):
            coordinator.transfers.fetch(offer, 10.0)
        assert time.monotonic() - start_s < 5.0

    def test_cancelled(self, join, fleet: str) -> None:
        offer = Offer(holder="d9", digest="0" * 64, size_bytes=10, media="x")
        cancelled = threading.Event()
        threading.Timer(0.1, cancelled.set).start()
        with pytest.raises(TransferCancelled):
            join(COORDINATOR).transfers.fetch(offer, 10.0, cancelled=cancelled.is_set)

    def test_closing_ends_fetches(self, broker, fleet: str) -> None:
        offer = Offer(holder="d9", digest="0" * 64, size_bytes=10, media="x")
        with ThreadPoolExecutor(2) as pool:
            with Peer(broker.address, fleet=fleet, peer="d1", role="device") as peer:
                fetch = pool.submit(peer.transfers.fetch, offer, 30.0)
                wait = pool.submit(peer.transfers.wait_served, "0" * 64, by="d2", timeout_s=30.0)
                time.sleep(0.1)
            with pytest.raises(TransferError, match="closed"):
                fetch.result(5.0)
            assert wait.result(5.0) is False

    def test_first_request_is_noticed(self, broker, fleet: str, join) -> None:
        """Before it, a device waits; from then on, it uploads."""
        device = join("d1", chunk_bytes=CHUNK)
        offer = device.transfers.serve(noise(3 * CHUNK), "noise")
        wait = device.transfers.wait_requested
        assert not wait(offer.digest, by=COORDINATOR, timeout_s=0.0)
        rogue = Link(broker.address, "rogue", clean_session=True)
        rogue.connect(5.0)
        topic = topics.topic(fleet, COORDINATOR, "d1", "want")
        want = encode_transfer(Want(digest=offer.digest, runs=((0, 1),), chunk_bytes=CHUNK))
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(wait, offer.digest, by=COORDINATOR, timeout_s=30.0)
            rogue.publish(topic, want, qos=1)
            assert asked.result(30.0)
        rogue.close()
        assert not wait(offer.digest, by="d2", timeout_s=0.0)
        assert not wait("0" * 64, by=COORDINATOR, timeout_s=0.0)
        assert not device.transfers.wait_served(offer.digest, by=COORDINATOR, timeout_s=0.0)

    def test_an_empty_payload_is_asked_for_when_it_is_there(self, join) -> None:
        device, coordinator = join("d1"), join(COORDINATOR)
        offer = device.transfers.serve(b"", "noise")
        coordinator.transfers.fetch(offer, 10.0)
        assert device.transfers.wait_requested(offer.digest, by=COORDINATOR, timeout_s=10.0)

    def test_what_arrives_wakes_its_own_download(self, join) -> None:
        transfers = join(COORDINATOR).transfers
        woken: Counter[str] = Counter()
        downloads = []
        for name in ("d1", "d2"):
            offer = Offer(holder=name, digest="0" * 64, size_bytes=2 * CHUNK, media="x")
            downloads.append(transfers.begin(offer, lambda name=name: woken.update([name])))
            transfers.advance(downloads[-1], time.monotonic())
        chunk = Chunk(
            digest="0" * 64,
            start=0,
            check=chunk_check(0, bytes(CHUNK)),
            data=memoryview(bytes(CHUNK)),
        )
        transfers.on_answer("d2", encode_transfer(chunk))
        assert woken == {"d2": 1}
        transfers.on_answer("d3", encode_transfer(chunk))
        assert woken == {"d2": 1}
        transfers.on_reconnected()
        assert woken == {"d1": 1, "d2": 2}
        for download in downloads:
            transfers.end(download)

    def test_nobody_fetches(self, join) -> None:
        device = join("d1")
        offer = device.transfers.serve(b"x", "noise")
        assert not device.transfers.wait_served(offer.digest, by=COORDINATOR, timeout_s=0.05)


class TestLoss:
    def test_a_holder_that_comes_back_is_asked_at_once(self, broker, fleet, join, until) -> None:
        """And not when the patience with its earlier start is over: hours, for this offer."""
        device = join("d1")
        data = noise(5000)
        holder = Peer(broker.address, fleet=fleet, peer=COORDINATOR, role="coordinator")
        offer = msgspec.structs.replace(holder.transfers.serve(data, "noise"), rate_bps=1.0)
        with ThreadPoolExecutor(1) as pool:
            fetched = pool.submit(device.transfers.fetch, offer, 60.0)
            key = (COORDINATOR, offer.digest)
            until(lambda: key in device.transfers._downloads)
            (download,) = device.transfers._downloads[key]
            until(lambda: download.assembly.next_s() - time.monotonic() > 3600)  # it has asked
            with holder:
                assert fetched.result() == data

    def test_holder_is_killed(self, join, peer_process) -> None:
        coordinator = join(COORDINATOR, silent_after_s=0.5)
        pid, said = peer_process("d1", serve="3000000", heartbeat_s=0.1)
        offer = msgspec.json.decode(said, type=Offer)
        threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
        with pytest.raises(TransferError, match=r"offline for .* B had come"):
            coordinator.transfers.fetch(offer, 30.0)

    def test_who_was_there_before_has_not_come_back(
        self, join, broker, fleet: str, until, monkeypatch
    ) -> None:
        """A retained state may come after an offer; only another start loses what was asked for."""
        coordinator, back = join(COORDINATOR), []
        heard = coordinator.transfers.on_back
        monkeypatch.setattr(
            coordinator.transfers, "on_back", lambda peer: [back.append(boot()), heard(peer)]
        )

        def boot() -> str:
            return coordinator.peers["saboteur"].state.boot_id

        holder = Saboteur(broker.address, fleet, noise(1), lost={0})
        with ThreadPoolExecutor(1) as pool:
            fetch = pool.submit(coordinator.transfers.fetch, holder.offer, 30.0)
            until(lambda: holder.asked[0] == 1)
            coordinator._on_message(*holder.state("first"), True)
            assert (boot(), back) == ("first", [])
            holder.link.publish(*holder.state("second"), qos=1)
            assert fetch.result() == holder.data
            until(lambda: back)
        assert back == ["second"]
        holder.link.close()

    @pytest.mark.parametrize("how", ["ends", "is killed"])
    def test_broker_restarts(
        self, mortal: EmbeddedBroker, how: str, fleet: str, free_port: int, until
    ) -> None:
        data = noise(4_000_000)
        window_bytes = 1_000_000  # what may be on its way when the broker ends
        with (
            Peer(mortal.address, fleet=fleet, peer="d1", role="device") as device,
            Peer(mortal.address, fleet=fleet, peer=COORDINATOR, role="coordinator") as coordinator,
            ThreadPoolExecutor(1) as pool,
        ):
            paced = device.set_pacing(16e6)
            offer = device.transfers.serve(data, "noise")
            fetch = pool.submit(coordinator.transfers.fetch, offer, 60.0)
            counters = device.transfers.counters
            until(lambda: counters.sent_bytes > 2 * window_bytes)
            assert not (paced and fetch.done())
            if how == "is killed":
                os.kill(mortal.pid, signal.SIGKILL)
            mortal.close()
            until(lambda: nobody_listens(free_port))
            mortal.start()
            assert fetch.result() == data
            assert device.transfers.wait_served(offer.digest, by=COORDINATOR, timeout_s=10.0)
            # resumed, not begun again
            assert device.transfers.counters.sent_bytes < len(data) + window_bytes

    def test_another_process_goes_on_with_what_has_come(
        self, broker, fleet: str, join, tmp_path
    ) -> None:
        """The receiver is killed in the middle: what is in its folder is not sent again."""
        device = join("d1")
        device.set_pacing(16e6)
        data = noise(4_000_000)
        offer = device.transfers.serve(data, "noise")
        parts = PartFiles(tmp_path)
        stop = threading.Event()
        with Peer(broker.address, fleet=fleet, peer=COORDINATOR, role="coordinator") as first:
            threading.Timer(1.2, stop.set).start()
            with pytest.raises(TransferCancelled):
                first.transfers.fetch(offer, 30.0, cancelled=stop.is_set, parts=parts)
        before_bytes = device.transfers.counters.sent_bytes
        assert before_bytes > 1_000_000
        coordinator = join(COORDINATOR)
        assert coordinator.transfers.fetch(offer, 30.0, parts=parts) == data
        window_bytes = 1_000_000  # what was on its way when the first one ended
        assert device.transfers.counters.sent_bytes < len(data) + window_bytes
        assert coordinator.transfers.fetch(offer, 30.0, parts=parts) == data  # it lies here already
        assert device.transfers.wait_served(offer.digest, by=COORDINATOR, timeout_s=10.0)


class TestStreams:
    def test_one_payload_for_all(self, join) -> None:
        """It leaves the holder about once, whoever and however many want it."""
        coordinator = join(COORDINATOR)
        coordinator.set_pacing(16e6)  # slow against the moments at which they begin
        devices = [join(f"d{n}") for n in range(6)]
        data = noise(2_000_000)
        offer = coordinator.transfers.serve(data, "noise", shared=True)
        with ThreadPoolExecutor(6) as pool:
            fetches = [pool.submit(device.transfers.fetch, offer, 60.0) for device in devices]
            assert all(fetch.result() == data for fetch in fetches)
        sent_bytes = coordinator.transfers.counters.sent_bytes
        assert sent_bytes < 2 * len(data)  # six times without the stream
        for device in devices:
            assert coordinator.transfers.wait_served(offer.digest, by=device.id, timeout_s=10.0)
            assert not device._link._listening

    def test_who_is_late_gets_it_all(self, join) -> None:
        coordinator, early, late = join(COORDINATOR), join("d1"), join("d2")
        coordinator.set_pacing(16e6)
        data = noise(2_000_000)
        offer = coordinator.transfers.serve(data, "noise", shared=True)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(early.transfers.fetch, offer, 60.0)
            time.sleep(0.4)
            second = pool.submit(late.transfers.fetch, offer, 60.0)
            assert first.result() == second.result() == data

    def test_a_stream_that_the_broker_does_not_let_one_hear(self, join, monkeypatch) -> None:
        """Then all of it comes directly, a moment later."""
        coordinator, device = join(COORDINATOR), join("d1")
        monkeypatch.setattr(device._link, "listen", lambda topic: None)
        data = noise(300_000)
        offer = coordinator.transfers.serve(data, "noise", shared=True)
        begin_s = time.monotonic()
        assert device.transfers.fetch(offer, 60.0) == data
        assert time.monotonic() - begin_s >= JOIN_S
