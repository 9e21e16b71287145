from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.messaging import topics

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True).filter(
    lambda name: name != topics.EVERYBODY
)
kinds = st.sampled_from(["state", "message", "want", "chunk"])
HOSTILE = sorted({*"+#/$ \0\n\u00e9*", *string.whitespace})


def matches(pattern: str, topic: str) -> bool:
    """MQTT 3.1.1, section 4.7: '+' is one level, '#' the rest."""
    wanted, given_ = pattern.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(given_) or level not in ("+", given_[index]):
            return False
    return len(wanted) == len(given_)


class TestRoundTrip:
    @given(names, names, names | st.just("all"), kinds)
    def test_parse_undoes_topic(self, fleet, sender, recipient, kind) -> None:
        parsed = topics.parse(topics.topic(fleet, sender, recipient, kind))
        assert parsed == topics.Topic(fleet=fleet, sender=sender, recipient=recipient, kind=kind)

    @given(st.text(max_size=80))
    def test_parse_never_raises(self, text: str) -> None:
        parsed = topics.parse(text)
        assert parsed is None or text.startswith("fimi/v1/")

    @pytest.mark.parametrize("text", ["fimi/v2/f/a/b/state", "fimi/v1/f/a/b", "x/v1/f/a/b/state"])
    def test_foreign_topics(self, text: str) -> None:
        assert topics.parse(text) is None


class TestNames:
    @given(st.text(max_size=5), st.sampled_from(HOSTILE), st.text(max_size=5))
    def test_hostile_characters_are_refused(self, before: str, bad: str, after: str) -> None:
        with pytest.raises(ValueError, match="cannot be used"):
            topics.topic("f", before + bad + after, "b", "message")

    @pytest.mark.parametrize("name", ["", "all", ".hidden", "-x", "a" * 65, "a\n", "$SYS", ".."])
    def test_bad_names(self, name: str) -> None:
        for topic in (
            lambda: topics.topic(name, "a", "b", "state"),
            lambda: topics.topic("f", name, "b", "state"),
            lambda: topics.subscriptions("f", name),
        ):
            with pytest.raises(ValueError, match="cannot be used"):
                topic()


class TestWhoIsMissing:
    def test_those_whose_names_are_known(self) -> None:
        assert topics.missing(["device-02"], topics.device_names(3)) == ("device-01", "device-03")
        assert topics.missing([], topics.device_names(1)) == ("device-01",)
        many = topics.device_names(1000)
        assert topics.missing([topics.device_id(7, 1000)], many)[:1] == ("device-0001",)
        assert topics.missing(["b"], topics.device_names(3, ("c", "b", "a"))) == ("c", "a")

    def test_nobody_where_a_device_has_a_name_of_its_own(self) -> None:
        assert topics.missing(["kitchen"], topics.device_names(3)) == ()

    def test_nobody_where_all_are_here(self) -> None:
        assert topics.missing(["device-01", "device-02"], topics.device_names(2)) == ()


class TestSubscriptions:
    @given(names, names, names | st.just("all"), names)
    def test_own_and_everybodys_once(self, fleet, sender, recipient, peer) -> None:
        topic = topics.topic(fleet, sender, recipient, "message")
        hits = [matches(pattern, topic) for pattern in topics.subscriptions(fleet, peer)]
        assert sum(hits) == (recipient in (peer, "all"))
