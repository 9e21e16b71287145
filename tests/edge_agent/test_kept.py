"""Payloads on disk: found by digest, never believed, never more than there is room for."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fimi.edge_agent.kept import Kept


def name(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


def refuse() -> bytes:
    raise AssertionError("it is kept")


def test_a_payload_is_fetched_once(tmp_path: Path) -> None:
    kept, payload = Kept(tmp_path / "cache", "batch"), b"a batch"
    assert kept.get_or(name(payload), lambda: payload) == payload
    assert Kept(tmp_path / "cache", "batch").get_or(name(payload), refuse) == payload
    assert Kept(tmp_path / "cache", "share").get(name(payload)) is None, "of another kind"


@given(st.binary(min_size=1, max_size=64), st.data())
def test_a_damaged_one_is_fetched_again(
    tmp_path_factory: object, payload: bytes, data: st.DataObject
) -> None:
    folder = Path(str(tmp_path_factory.mktemp("kept")))  # type: ignore[attr-defined]
    kept = Kept(folder, "batch")
    kept.put(name(payload), payload)
    (file,) = folder.iterdir()
    cut = data.draw(st.integers(0, len(payload) - 1))
    file.write_bytes(payload[:cut] + bytes([payload[cut] ^ 1]))
    assert kept.get(name(payload)) is None
    assert not file.exists()
    assert kept.get_or(name(payload), lambda: payload) == payload


def test_the_oldest_go_first(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "batch", max_bytes=250)
    payloads = [bytes([number]) * 100 for number in range(4)]
    for number, payload in enumerate(payloads):
        kept.put(name(payload), payload)
        os.utime(tmp_path / f"{name(payload)}.batch", (1000 + number, 1000 + number))
    assert [kept.get(name(payload)) is not None for payload in payloads] == [
        False, False, True, True
    ]  # fmt: skip
    for payload in payloads:
        Kept(tmp_path, "graphs", count=1).put(name(payload), payload)
    assert len([*tmp_path.glob("*.graphs")]) == 1
    assert len([*tmp_path.glob("*.batch")]) == 2


def test_one_larger_than_the_room_is_kept_alone(tmp_path: Path) -> None:
    """The present one is always of use."""
    kept = Kept(tmp_path, "batch", max_bytes=10)
    kept.put(name(b"small"), b"small")
    kept.put(name(large := b"x" * 100), large)
    assert kept.get(name(large)) == large
    assert kept.get(name(b"small")) is None


def test_where_it_cannot_be_written_it_is_fetched_each_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    kept = Kept(tmp_path / "file" / "cache", "batch")
    assert kept.get_or(name(b"a"), lambda: b"a") == b"a"
    assert kept.get(name(b"a")) is None
    assert Kept(None, "batch").get_or(name(b"a"), lambda: b"a") == b"a"
