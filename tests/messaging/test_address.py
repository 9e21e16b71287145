from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.messaging.address import BrokerAddress

words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=20)


class TestParse:
    def test_everything(self) -> None:
        address = BrokerAddress.parse("mqtts://lab:p%40ss%2F@broker.lan:9000?ca=/etc/ca.pem")
        assert address == BrokerAddress(
            host="broker.lan",
            port=9000,
            username="lab",
            password="p@ss/",
            tls=True,
            ca_path="/etc/ca.pem",
        )

    @pytest.mark.parametrize(
        ("url", "port", "tls"), [("mqtt://h", 1883, False), ("mqtts://h/", 8883, True)]
    )
    def test_default_ports(self, url: str, port: int, tls: bool) -> None:
        assert BrokerAddress.parse(url) == BrokerAddress(host="h", port=port, tls=tls)

    def test_ipv6(self) -> None:
        address = BrokerAddress.parse("mqtt://[::1]:1884")
        assert (address.host, address.port) == ("::1", 1884)
        assert address.url() == "mqtt://[::1]:1884"

    @pytest.mark.parametrize(
        ("url", "says"),
        [
            ("http://u:sesame@h", "http://"),
            ("h:1883", "not mqtt://"),
            ("mqtt://u:sesame@", "no host"),
            ("mqtt://u:sesame@h:99999", "[Pp]ort"),
            ("mqtt://u:sesame@h:abc", "[Pp]ort"),
            ("mqtt://u:sesame@h:0", "port 0"),
            ("mqtt://h/topic", "/topic"),
            ("mqtt://h?qos=2", "qos"),
            ("mqtt://h?ca=/x", "mqtts"),
        ],
    )
    def test_bad(self, url: str, says: str) -> None:
        with pytest.raises(ValueError, match=says) as caught:
            BrokerAddress.parse(url)
        assert "sesame" not in str(caught.value)

    @given(words.filter(bool), words)
    def test_round_trip(self, username: str, password: str) -> None:
        address = BrokerAddress(host="h", port=2, username=username, password=password)
        assert BrokerAddress.parse(address.url(with_password=True)) == address


class TestSecrecy:
    def test_password_is_not_shown(self) -> None:
        address = BrokerAddress(host="h", username="u", password="sesame")
        assert "sesame" not in f"{address} {address!r} {address.url()} {[address]}"
        assert "sesame" in address.url(with_password=True)
