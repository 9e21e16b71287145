"""Room for models: as many as fit, two however large, and nobody waits for ever."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from fimi.edge_agent.turns import HOLDERS_MIN, SMALL_BYTES, Turns
from fimi.messaging.errors import TransferCancelled

LARGE = 1_000_000_000


def never() -> bool:
    return False


def always() -> bool:
    return True


class TestRoom:
    def test_small_models_are_held_by_everybody(self) -> None:
        turns = Turns(room_bytes=2_000)
        with ExitStack() as held:
            for _ in range(10):
                held.enter_context(turns.holding(100, always))
            with pytest.raises(TransferCancelled), turns.holding(100, always):
                pass

    def test_two_hold_one_that_is_larger_than_the_room(self) -> None:
        turns = Turns(room_bytes=2_000)
        with ExitStack() as held:
            for _ in range(HOLDERS_MIN):
                held.enter_context(turns.holding(LARGE, always))
            with pytest.raises(TransferCancelled), turns.holding(LARGE, always):
                pass

    def test_whoever_waits_goes_on_when_another_is_done(self) -> None:
        turns, held, gone_on = Turns(room_bytes=1), ExitStack(), threading.Event()

        def third() -> None:
            with turns.holding(LARGE, never):
                gone_on.set()

        with turns.holding(LARGE, never), held:
            held.enter_context(turns.holding(LARGE, never))
            waiting = threading.Thread(target=third)
            waiting.start()
            assert not gone_on.is_set()
            held.close()
            assert gone_on.wait(10.0)
            waiting.join()

    def test_room_comes_back_after_an_error(self) -> None:
        turns = Turns(room_bytes=1)
        for _ in range(2 * HOLDERS_MIN):
            with pytest.raises(ZeroDivisionError), turns.holding(LARGE, always):
                raise ZeroDivisionError


class TestTraining:
    def test_one_at_a_time(self) -> None:
        turns = Turns()
        with (
            turns.training(never),
            pytest.raises(TransferCancelled, match="turn to train"),
            turns.training(always),
        ):
            pass
        with turns.training(always):
            pass

    def test_an_error_gives_the_turn_back(self) -> None:
        turns = Turns()
        for _ in range(2):
            with pytest.raises(ZeroDivisionError), turns.training(always):
                raise ZeroDivisionError


class TestUpdates:
    def test_a_large_one_of_many_agents_waits_in_a_file(self) -> None:
        update = bytes(range(256)) * 5_000
        kept = Turns(crowd=True).waiting(update)
        assert kept == update
        assert len(kept) == len(update)
        assert isinstance(kept, memoryview)

    @pytest.mark.parametrize(
        ("crowd", "size"), [(False, 5_000_000), (True, SMALL_BYTES)], ids=["alone", "small"]
    )
    def test_others_stay_in_memory(self, crowd: bool, size: int) -> None:
        update = bytes(size)
        assert Turns(crowd=crowd).waiting(update) is update
