from __future__ import annotations

from fimi.messaging.transfers.stream import IDLE_S, LAG_S, UNDER_WAY_S, Stream


class TestJoining:
    def test_begins_it_unless_it_is_running(self) -> None:
        stream = Stream()
        assert stream.join("a", 10.0)
        stream.sent(0, 16, 16_384, 10.0)
        assert not stream.join("b", 10.0 + IDLE_S / 2)
        assert stream.join("c", 10.1 + IDLE_S)

    def test_what_was_sent_before_is_not_under_way(self) -> None:
        stream = Stream()
        stream.join("early", 0.0)
        stream.sent(0, 16, 16_384, 0.1)
        stream.join("late", 0.2)
        stream.sent(16, 20, 4096, 0.3)
        assert stream.not_under_way("early", 0, 24, 0.4) == [(20, 24)]
        assert stream.not_under_way("late", 0, 24, 0.4) == [(0, 16), (20, 24)]
        assert stream.not_under_way("early", 14, 18, 0.4 + UNDER_WAY_S) == [(14, 18)]


class TestFallingBehind:
    def send(self, stream: Stream, seconds: int, rate: int) -> None:
        for second in range(seconds):
            stream.sent(second, second + 1, rate, float(second) + 0.5)

    def test_who_keeps_up_stays(self) -> None:
        stream = Stream()
        stream.join("a", 0.0)
        self.send(stream, 10, 1000)
        assert not stream.falls_behind("a", 10_000 - int(1000 * LAG_S), 9.5)
        assert stream.hears("a")

    def test_who_does_not_is_set_apart(self) -> None:
        stream = Stream()
        stream.join("a", 0.0)
        self.send(stream, 10, 1000)
        assert stream.falls_behind("a", 7000, 9.5)
        assert stream.is_apart("a") and not stream.hears("a")

    def test_what_came_before_one_joined_does_not_count(self) -> None:
        stream = Stream()
        self.send(stream, 10, 1000)
        stream.join("a", 9.6)
        assert not stream.falls_behind("a", 0, 9.7)
        assert not stream.falls_behind("a", 0, 9.6 + 1.5 * LAG_S)  # nothing was sent since
