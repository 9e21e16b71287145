from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.messaging.messages.basis import Offer
from fimi.messaging.transfers import parts as module
from fimi.messaging.transfers.blocks import BLOCK_BYTES, block_bounds, block_count
from fimi.messaging.transfers.parts import InFile, InMemory, PartFiles, Store


def noise(size_bytes: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size_bytes)


def offer(data: bytes) -> Offer:
    digest = hashlib.sha256(data).hexdigest()
    return Offer(holder="h", digest=digest, size_bytes=len(data), media="x")


def put(store: Store, data: bytes, start: int, stop: int) -> None:
    begin, end = block_bounds(len(data), start, stop)
    store.write(begin, memoryview(data)[begin:end])
    store.blocks.add(start, stop)
    store.read_on()


@pytest.fixture(params=["memory", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path):
    """The contract that both stores fulfil."""

    def store(data: bytes) -> Store:
        if request.param == "memory":
            return InMemory(len(data))
        return PartFiles(tmp_path).open(offer(data))

    return store


class TestBoth:
    @pytest.mark.parametrize("size_bytes", [0, 1, BLOCK_BYTES, 5 * BLOCK_BYTES + 7])
    def test_blocks_in_any_order(self, make, size_bytes: int) -> None:
        data = noise(size_bytes)
        store = make(data)
        for start in reversed(range(block_count(size_bytes))):
            put(store, data, start, start + 1)
        assert store.blocks.missing == 0
        assert store.digest() == offer(data).digest
        store.settle()
        assert store.payload() == data
        store.close()
        store.close()

    def test_other_blocks_give_another_digest(self, make) -> None:
        data = noise(3 * BLOCK_BYTES)
        store = make(data)
        put(store, noise(3 * BLOCK_BYTES, 1), 0, 1)
        put(store, data, 1, 3)
        assert store.digest() != offer(data).digest
        assert not store.begin_anew()
        store.close()


class TestFiles:
    @given(st.integers(1, 40_000), st.integers(0, 2**32))
    def test_goes_on_after_any_number_of_interruptions(
        self, tmp_path_factory: pytest.TempPathFactory, size: int, seed: int
    ) -> None:
        dice, data = np.random.default_rng(seed), noise(size, seed)
        parts = PartFiles(tmp_path_factory.mktemp("parts"))
        for written, start in enumerate(dice.permutation(block_count(size))):
            store = parts.open(offer(data))
            assert store.resumed == written
            put(store, data, int(start), int(start) + 1)
            store.close()
        store = parts.open(offer(data))
        assert store.blocks.missing == 0 and store.digest() == offer(data).digest
        store.settle()
        store.close()
        assert [path.name for path in parts.folder.iterdir()] == [f"{offer(data).digest}.whole"]

    def test_a_whole_one_is_not_fetched_again(self, tmp_path: Path) -> None:
        data, parts = noise(5000), PartFiles(tmp_path)
        for resumed in (0, 5):
            store = parts.open(offer(data))
            assert store.resumed == resumed
            put(store, data, 0, 5)
            assert store.digest() == offer(data).digest
            store.settle()
            assert store.payload() == data
            store.close()

    def test_two_downloads_of_the_same_bytes(self, tmp_path: Path) -> None:
        """Two devices send the same: neither spoils what the other one has brought."""
        data, parts = noise(5000), PartFiles(tmp_path / "parts")
        both = parts.open(offer(data)), parts.open(offer(data))
        for store in both:
            put(store, data, 0, 5)
        both[0].settle()
        both[0].close()
        kept = tmp_path / "kept"
        kept.hardlink_to(both[0].path)
        both[1].settle()
        both[1].close()
        third, fourth = parts.open(offer(data)), parts.open(offer(data))
        assert third.resumed == fourth.resumed == 5
        third.close()
        both[0].path.unlink()
        with pytest.raises(FileNotFoundError):
            fourth.settle()
        fourth.close()
        assert kept.read_bytes() == data

    def test_a_whole_one_that_is_damaged_is_fetched_anew(self, tmp_path: Path) -> None:
        data, parts = noise(5000), PartFiles(tmp_path)
        path = tmp_path / f"{offer(data).digest}.whole"
        path.write_bytes(noise(5000, 1))
        store = parts.open(offer(data))
        assert store.digest() != offer(data).digest
        assert store.begin_anew() and store.blocks.missing == 5
        put(store, data, 0, 5)
        assert store.digest() == offer(data).digest
        store.settle()
        store.close()
        assert path.read_bytes() == data and list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("how", ["cut off", "emptied", "longer", "another"])
    def test_damage_loses_a_download_and_no_more(self, tmp_path: Path, how: str) -> None:
        data, parts = noise(5 * BLOCK_BYTES), PartFiles(tmp_path)
        store = parts.open(offer(data))
        put(store, data, 0, 3)
        store.close()
        (path,) = tmp_path.iterdir()
        content = path.read_bytes()
        path.write_bytes(
            {"cut off": content[:-1], "emptied": b"", "longer": content + b"x"}.get(
                how, noise(len(content) - 1, 2) + b"\xff"
            )
        )
        store = parts.open(offer(data))
        assert store.resumed == 5 if how == "another" else store.resumed == 0
        if how == "another":
            assert store.digest() != offer(data).digest
            assert store.begin_anew()
        put(store, data, 0, 5)
        assert store.digest() == offer(data).digest
        store.close()

    def test_noted_now_and_then(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process that is killed loses what came in the last second."""
        monkeypatch.setattr(module, "NOTE_S", 0.0)
        data, parts = noise(4 << 20), PartFiles(tmp_path)
        killed = parts.open(offer(data))
        for start in range(0, 3072, 64):
            put(killed, data, start, start + 64)
        resumed = parts.open(offer(data))
        assert 1024 <= resumed.resumed <= 3072
        resumed.close()
        killed.close()

    def test_the_oldest_make_room(self, tmp_path: Path) -> None:
        parts = PartFiles(tmp_path, max_bytes=25_000)
        for seed in range(5):
            data = noise(8000, seed)
            store = parts.open(offer(data))
            put(store, data, 0, 8)
            store.settle()
            store.close()
        kept = {path.stem for path in tmp_path.iterdir()}
        assert kept == {offer(noise(8000, seed)).digest for seed in (2, 3, 4)}
        parts.clear(keep=frozenset(list(kept)[:1]))
        assert len(list(tmp_path.iterdir())) == 1

    def test_no_room(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(OSError):
            PartFiles(tmp_path / "file" / "folder").open(offer(b"x"))

    def test_only_its_owner_reads_it(self, tmp_path: Path) -> None:
        store = PartFiles(tmp_path).open(offer(b"x"))
        assert isinstance(store, InFile)
        assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]
        store.close()
