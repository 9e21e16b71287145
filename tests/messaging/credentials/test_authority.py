"""Certificates, as another program reads them: openssl."""

from __future__ import annotations

import base64
import shutil
import subprocess
from datetime import date, datetime, timezone
from pathlib import Path

import pytest

from fimi.messaging.credentials.authority import Authority, Issued, signing_key

pytest.importorskip("cryptography", reason="certificates are made with it (fimi-testbed[fleet])")
openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.begin("desk")


def asked(*command: str) -> str:
    done = subprocess.run(["openssl", *command], capture_output=True, text=True, timeout=20)
    return done.stdout + done.stderr


def on_disk(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.pem").write_text(text)


@openssl
class TestByOpenssl:
    def verified(self, folder: Path, authority: Authority, issued: Issued, purpose: str) -> str:
        crl = authority.revoked_list([("ab12", date(2026, 1, 2))])
        on_disk(folder, ca=authority.cert_pem, own=issued.cert_pem, crl=crl)
        return asked(
            *("verify", "-x509_strict", "-purpose", purpose, "-crl_check"),
            *("-CAfile", f"{folder}/ca.pem", "-CRLfile", f"{folder}/crl.pem", f"{folder}/own.pem"),
        )

    def test_a_peer_is_a_client_only(self, authority, tmp_path) -> None:
        issued = authority.for_peer("pi-01", 30)
        assert "OK" in self.verified(tmp_path, authority, issued, "sslclient")
        assert "unsuitable certificate purpose" in self.verified(
            tmp_path, authority, issued, "sslserver"
        )
        text = asked("x509", "-in", f"{tmp_path}/own.pem", "-noout", "-subject", "-text")
        assert "subject=CN=pi-01" in text.replace(" = ", "=")
        assert "prime256v1" in text
        assert "CA:FALSE" in text

    def test_a_broker_is_a_server_under_its_names(self, authority, tmp_path) -> None:
        issued = authority.for_broker(["desk.local", "10.0.0.3", "fe80::1"], 30)
        assert "OK" in self.verified(tmp_path, authority, issued, "sslserver")
        text = asked("x509", "-in", f"{tmp_path}/own.pem", "-noout", "-text")
        assert "DNS:desk.local, IP Address:10.0.0.3, IP Address:FE80:0:0:0:0:0:0:1" in text

    def test_what_is_revoked(self, authority, tmp_path) -> None:
        issued = authority.for_peer("pi-01", 30)
        crl = authority.revoked_list([(issued.serial, date(2026, 1, 2))])
        on_disk(tmp_path, ca=authority.cert_pem, own=issued.cert_pem, crl=crl)
        said = asked(
            *("verify", "-crl_check", "-CAfile", f"{tmp_path}/ca.pem"),
            *("-CRLfile", f"{tmp_path}/crl.pem", f"{tmp_path}/own.pem"),
        )
        assert "certificate revoked" in said
        text = asked("crl", "-in", f"{tmp_path}/crl.pem", "-noout", "-text")
        assert issued.serial.upper() in text
        assert "Jan  2 00:00:00 2026" in text


class TestDays:
    def test_nothing_outlives_the_authority(self, authority) -> None:
        assert authority.for_peer("pi-01", 36500).expires == authority.expires

    def test_days(self, authority) -> None:
        left = authority.for_peer("pi-01", 30).expires - datetime.now(timezone.utc).date()
        assert left.days in (29, 30)


def test_serials_differ(authority) -> None:
    assert len({authority.for_peer("a", 1).serial for _ in range(5)}) == 5


def test_what_is_signed_with_the_update_key_is_verified_with_the_public_one() -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private, public = signing_key()
    signature = load_pem_private_key(private.encode(), None).sign(b"wheel")
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public))
    key.verify(signature, b"wheel")
    with pytest.raises(InvalidSignature):
        key.verify(signature, b"wheeI")
