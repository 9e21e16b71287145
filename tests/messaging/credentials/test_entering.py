"""Who gets in: certificates, passwords, revocation, rotation, and what a peer is told."""

from __future__ import annotations

import secrets
import ssl
import time

import msgspec
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from fimi.messaging import tls
from fimi.messaging.address import BrokerAddress
from fimi.messaging.bundle import Bundle
from fimi.messaging.client import Peer
from fimi.messaging.credentials.authority import Authority
from fimi.messaging.credentials.folder import FolderError
from fimi.messaging.errors import BrokerError, NotAuthorised
from fimi.messaging.link import Link, probe

replace = msgspec.structs.replace


def authority(fleet) -> Authority:
    path = fleet.folder.path
    return Authority((path / "ca.pem").read_text(), (path / "ca.key").read_text())


def shown(fleet, issued) -> BrokerAddress:
    """The address of a peer with another certificate."""
    address: BrokerAddress = fleet.bundle("pi-01").address()
    return replace(address, cert_pem=issued.cert_pem, key_pem=issued.key_pem)


class TestCertificates:
    def test_a_peer_with_its_bundle_is_let_in(self, fleet) -> None:
        with Peer(
            fleet.bundle("pi-01").address(), fleet="desk", peer="pi-01", role="device"
        ) as peer:
            assert peer.online

    def test_a_url_names_the_same_as_files(self, fleet, tmp_path) -> None:
        bundle: Bundle = fleet.bundle("pi-01")
        for name in ("ca", "cert", "key"):
            (tmp_path / f"{name}.pem").write_text(getattr(bundle, f"{name}_pem"))
        files = "&".join(f"{name}={tmp_path}/{name}.pem" for name in ("ca", "cert", "key"))
        probe(BrokerAddress.parse(f"mqtts://127.0.0.1:{bundle.port}?{files}"))

    def test_none(self, fleet) -> None:
        address = replace(fleet.bundle("pi-01").address(), cert_pem="", key_pem="")
        began_s = time.monotonic()
        with pytest.raises(NotAuthorised, match=r"certificate.*required.*bundle"):
            Link(address, "x").connect(10.0)
        assert time.monotonic() - began_s < 8.0, "it is told at once, not after the patience"

    def test_of_another_authority(self, fleet) -> None:
        other = Authority.begin("desk").for_peer("pi-01", 30)
        with pytest.raises(NotAuthorised, match="refuses the certificate"):
            Link(shown(fleet, other), "x").connect(10.0)

    def test_one_that_has_ended(self, fleet) -> None:
        ended = authority(fleet).for_peer("pi-01", 0)
        with pytest.raises(NotAuthorised, match=r"expired.*rotate"):
            Link(shown(fleet, ended), "x").connect(10.0)

    def test_a_broker_under_another_name(self, fleet) -> None:
        address = replace(fleet.bundle("pi-01").address(), host="127.0.0.2")
        with pytest.raises(BrokerError, match=r"127\.0\.0\.2.*rotate broker --host 127\.0\.0\.2"):
            Link(address, "x").connect(10.0)

    def test_a_broker_of_another_authority(self, fleet) -> None:
        stranger = Authority.begin("desk").cert_pem
        with pytest.raises(BrokerError, match=r"authority that is not trusted.*bundle"):
            Link(replace(fleet.bundle("pi-01").address(), ca_pem=stranger), "x").connect(10.0)

    def test_tls_is_1_3(self, fleet) -> None:
        old = tls.context(fleet.bundle("pi-01").address())
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        client = mqtt.Client(CallbackAPIVersion.VERSION2, "x", protocol=MQTTProtocolVersion.MQTTv5)
        client.tls_set_context(old)
        with pytest.raises(ssl.SSLError):
            client.connect("127.0.0.1", fleet.folder.decided.port)

    def test_nothing_of_a_bundle_lies_in_a_file(self, fleet, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.delattr("os.memfd_create", raising=False)
        tls.context(fleet.bundle("pi-01").address())
        assert not list(tmp_path.iterdir())


class TestOwnTopics:
    def test_the_login_of_another_device_is_named(self, fleet) -> None:
        address = fleet.bundle("pi-02").address()
        with pytest.raises(NotAuthorised, match=r"user 'pi-02' may not write .*/desk/pi-01/pi-01"):
            Peer(address, fleet="desk", peer="pi-01", role="device").connect()

    def test_another_fleet_is_named(self, fleet) -> None:
        address = fleet.bundle("pi-01").address()
        with pytest.raises(NotAuthorised, match="name of the fleet"):
            Peer(address, fleet="other", peer="pi-01", role="device").connect()

    def test_a_device_is_no_generator_node(self, fleet) -> None:
        address = fleet.bundle("pi-01").address()
        with pytest.raises(NotAuthorised, match=r"may not write .*/desk/pi-01/all"):
            Peer(address, fleet="desk", peer="pi-01", role="generator").connect()

    @pytest.mark.parametrize("role", ["coordinator", "generator"])
    def test_those_who_may_are_let_in(self, fleet, role) -> None:
        with Peer(fleet.bundle(role).address(), fleet="desk", peer=role, role=role) as peer:
            assert peer.online


class TestTakingOver:
    def test_nobody_can_end_the_coordinators_connection(self, fleet) -> None:
        """A broker ends the connection of a client when another one comes with the same id."""
        bundle: Bundle = fleet.bundle("coordinator")
        with Peer(bundle.address(), fleet="desk", peer="coordinator", role="coordinator") as peer:
            stranger = fleet.bundle("pi-02").address()
            theirs = stranger.client_id("desk:coordinator")
            for guess in ("coordinator", "desk:coordinator", f"desk:coordinator:{peer.boot_id}",
                          theirs):  # fmt: skip
                Link(stranger, guess, clean_session=True).connect(10.0)
            time.sleep(0.3)
            assert peer.online
            assert peer.broker_away_s() is None

    def test_an_id_is_of_the_credentials(self) -> None:
        a, b, none = (BrokerAddress(host="h", password=word) for word in ("a", "b", ""))
        assert a.client_id("f:x") == a.client_id("f:x")
        assert len({a.client_id("f:x"), b.client_id("f:x"), a.client_id("f:y")}) == 3
        assert none.client_id("f:x") == "f:x"


def hears(fleet, link: Link, name: str) -> bool:
    """Whether what a peer says to itself comes back."""
    topic, mark = f"fimi/v1/desk/{name}/{name}/check", secrets.token_hex(4).encode()
    came = []
    link._message_handler = lambda t, p, _: came.append(p)
    link.publish(topic, mark, qos=1).wait_for_publish(3.0)
    limit_s = time.monotonic() + 0.5
    while time.monotonic() < limit_s and mark not in came:
        time.sleep(0.01)
    return mark in came


class TestRevoking:
    def test_with_certificates(self, fleet, settle) -> None:
        old: Bundle = Bundle.read(fleet.folder.enroll("pi-03"))
        link = Link(old.address(), "x", clean_session=True, subscriptions=("fimi/#",))
        link.connect(10.0)
        assert hears(fleet, link, "pi-03")
        fleet.folder.revoke("pi-03")
        assert fleet.broker.follow() == "reread"
        assert fleet.broker.follow() == "nothing"
        settle(lambda: not hears(fleet, link, "pi-03"))
        link.close()
        with pytest.raises(NotAuthorised, match="revoked"):
            Link(old.address(), "y").connect(10.0)
        new = Bundle.read(fleet.folder.enroll("pi-03"))  # and in again
        fleet.broker.follow()
        again = Link(new.address(), "z", clean_session=True, subscriptions=("fimi/#",))
        again.connect(10.0)
        settle(lambda: hears(fleet, again, "pi-03"))
        again.close()
        with pytest.raises(NotAuthorised, match="revoked"):
            Link(old.address(), "y").connect(10.0)

    def test_rotating(self, fleet, settle) -> None:
        old = fleet.bundle("pi-02")
        new = Bundle.read(fleet.folder.rotate("pi-02"))
        fleet.broker.follow()

        def is_refused() -> bool:
            try:
                probe(old.address())
            except NotAuthorised:
                return True
            return False

        settle(is_refused)
        probe(new.address())

    def test_the_brokers_own_certificate(self, fleet, settle) -> None:
        """New names, read without ending connections."""
        with Peer(
            fleet.bundle("pi-01").address(), fleet="desk", peer="pi-01", role="device"
        ) as peer:
            fleet.folder.rotate("broker", ["127.0.0.1", "127.0.0.3"])
            fleet.broker.follow()
            address = replace(fleet.bundle("pi-01").address(), host="127.0.0.3")

            def is_let_in() -> bool:
                try:
                    probe(address)
                except BrokerError:
                    return False
                return True

            settle(is_let_in)
            assert peer.broker_away_s() is None

    def test_with_passwords_a_connection_ends_at_once(self, with_passwords, settle) -> None:
        fleet = with_passwords
        bundle: Bundle = fleet.bundle("pi-02")
        assert bundle.password
        assert not bundle.cert_pem
        link = Link(bundle.address(), "x", clean_session=True)
        link.connect(10.0)
        fleet.folder.revoke("pi-02")
        fleet.broker.follow()
        settle(lambda: not link.ready)
        link.close()
        with pytest.raises(NotAuthorised, match="user 'pi-02'"):
            probe(bundle.address())
        probe(fleet.bundle("pi-01").address())


class TestPasswords:
    def test_a_wrong_one(self, with_passwords) -> None:
        address = replace(with_passwords.bundle("pi-01").address(), password="guess")
        with pytest.raises(NotAuthorised, match="user name and password"):
            probe(address)

    def test_that_of_another_device(self, with_passwords) -> None:
        address = with_passwords.bundle("coordinator").address()
        with pytest.raises(NotAuthorised, match="may not write"):
            Peer(address, fleet="desk", peer="pi-01", role="device").connect()


def test_what_the_broker_holds_survives_its_end(fleet, settle) -> None:
    """A retained document is there again, and was not written at each change."""
    topic = "fimi/v1/desk/coordinator/pi-01/desired"
    link = Link(fleet.bundle("coordinator").address(), "w", clean_session=True)
    link.connect(10.0)
    link.publish(topic, b"kept", qos=1, retain=True).wait_for_publish(10.0)
    link.close()
    kept = fleet.folder.path / "state" / "mosquitto.db"
    assert not kept.exists() or b"kept" not in kept.read_bytes(), "written at each change"
    fleet.broker.close()
    assert b"kept" in kept.read_bytes()
    fleet.broker.start()
    came: list[bytes] = []
    reader = Link(
        fleet.bundle("pi-01").address(),
        "r",
        clean_session=True,
        subscriptions=(topic,),
        on_message=lambda _, payload, __: came.append(payload),
    )
    reader.connect(10.0)
    settle(lambda: came == [b"kept"])
    reader.close()


def test_a_second_broker_of_a_folder_is_refused(fleet) -> None:
    from fimi.messaging.broker.of_fleet import FleetBroker
    from fimi.messaging.errors import PortTaken

    with pytest.raises(PortTaken):
        FleetBroker(fleet.folder).start()


def test_nobody_is_enrolled_twice(fleet) -> None:
    with pytest.raises(FolderError, match="rotate pi-01"):
        fleet.folder.enroll("pi-01")
