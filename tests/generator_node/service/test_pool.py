"""fimi.generator_node.service.pool: what was drawn is kept, whatever happens to the process or the
disk."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.generator_node.service.pool import VERDICTS, Draw, Pool, PoolError, Verdict

SHAPE = (1, 4, 4)


def draw(address: int, *, attempt: int = 0, verdict: Verdict = "kept", tone: int = 0) -> Draw:
    image = np.random.default_rng((address, attempt, tone)).integers(0, 256, SHAPE, np.uint8)
    return Draw(address=address, attempt=attempt, verdict=verdict, confidence=0.5, image=image)


@pytest.fixture(params=["memory", "disk"])
def pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pool]:
    pool = Pool(tmp_path if request.param == "disk" else None, SHAPE, "maker")
    yield pool
    pool.close()


class TestContract:
    def test_nothing_yet(self, pool: Pool) -> None:
        assert pool.attempt(0, 7) == 0
        assert not pool.kept(0, 7)
        with pytest.raises(KeyError, match="no image of class 0 at address 7"):
            pool.image(0, 7)

    def test_there_and_back(self, pool: Pool) -> None:
        pool.add(3, [draw(7), draw(2**64 - 1)])
        assert np.array_equal(pool.image(3, 2**64 - 1), draw(2**64 - 1).image)
        assert pool.attempt(3, 7) == 1
        assert not pool.kept(2, 7)

    def test_a_refused_draw_may_be_drawn_again(self, pool: Pool) -> None:
        pool.add(0, [draw(7, verdict="blank")])
        assert (pool.kept(0, 7), pool.attempt(0, 7), pool.verdict(0, 7)) == (False, 1, "blank")
        pool.add(0, [draw(7, attempt=1)])
        assert (pool.kept(0, 7), pool.attempt(0, 7)) == (True, 2)
        assert np.array_equal(pool.image(0, 7), draw(7, attempt=1).image)

    def test_equal_images_are_noticed_within_a_class(self, pool: Pool) -> None:
        pool.add(0, [draw(7), draw(8, verdict="near-copy")])
        assert pool.has_equal(0, draw(7).image)
        assert not pool.has_equal(1, draw(7).image)
        assert not pool.has_equal(0, draw(8).image), "what was refused is given to nobody"


class TestDisk:
    def test_the_next_process_finds_everything(self, tmp_path: Path) -> None:
        first = Pool(tmp_path, SHAPE, "maker")
        first.add(0, [draw(7, verdict="repeat"), draw(8)])
        first.close()
        second = Pool(tmp_path, SHAPE, "maker")
        assert (second.verdict(0, 7), second.attempt(0, 7)) == ("repeat", 1)
        assert np.array_equal(second.image(0, 8), draw(8).image)
        assert second.has_equal(0, draw(8).image)
        second.close()

    def test_makers_do_not_mix(self, tmp_path: Path) -> None:
        for maker in ("one", "other"):
            pool = Pool(tmp_path, SHAPE, maker)
            assert not pool.kept(0, 7)
            pool.add(0, [draw(7)])
            pool.close()

    @settings(max_examples=40, deadline=None)
    @given(cut=st.integers(1, 38), count=st.integers(1, 4))
    def test_a_record_cut_short_is_drawn_again_and_the_others_are_not(
        self, tmp_path_factory: pytest.TempPathFactory, cut: int, count: int
    ) -> None:
        folder = tmp_path_factory.mktemp("pool")
        pool = Pool(folder, SHAPE, "maker")
        pool.add(0, [draw(i) for i in range(count)])
        pool.close()
        (path,) = folder.glob("*/class-0000.draws")
        path.write_bytes(path.read_bytes()[:-cut])
        pool = Pool(folder, SHAPE, "maker")
        assert [pool.kept(0, i) for i in range(count)] == [True] * (count - 1) + [False]
        pool.add(0, [draw(count - 1), draw(99)])
        pool.close()
        pool = Pool(folder, SHAPE, "maker")
        assert all(np.array_equal(pool.image(0, i), draw(i).image) for i in (*range(count), 99))
        pool.close()

    def test_damage_in_the_middle_costs_one_image(self, tmp_path: Path) -> None:
        pool = Pool(tmp_path, SHAPE, "maker")
        pool.add(0, [draw(i) for i in range(3)])
        pool.close()
        (path,) = tmp_path.glob("*/class-0000.draws")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
        pool = Pool(tmp_path, SHAPE, "maker")
        assert [pool.kept(0, i) for i in range(3)] == [True, False, True]
        pool.close()

    def test_one_node_at_a_time(self, tmp_path: Path) -> None:
        first = Pool(tmp_path, SHAPE, "maker")
        holder = rf"generator node \(process {os.getpid()} on .+\)"
        with pytest.raises(PoolError, match=f"in use by another {holder}"):
            Pool(tmp_path, SHAPE, "maker")
        first.close()
        Pool(tmp_path, SHAPE, "maker").close()

    def test_a_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(PoolError, match=r"cannot be used: .*generator\.pool"):
            Pool(tmp_path / "file", SHAPE, "maker")

    def test_a_disk_that_is_full(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The kernel refuses to let a file grow beyond a limit; images go on in memory."""
        pool = Pool(tmp_path, SHAPE, "maker")
        pool.add(0, [draw(0)])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60, hard))  # one record and a half
        try:
            pool.add(0, [draw(1), draw(2)])
            pool.add(0, [draw(3)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert all(np.array_equal(pool.image(0, i), draw(i).image) for i in range(4))
        assert not pool.durable
        assert caplog.text.count("make room and start it again") == 1
        pool.close()
        after = Pool(tmp_path, SHAPE, "maker")
        assert [after.kept(0, i) for i in range(4)] == [True, False, False, False]
        after.close()


def test_codes_on_disk_never_change() -> None:
    assert VERDICTS[:5] == ("kept", "below-chance", "blank", "near-copy", "repeat")
