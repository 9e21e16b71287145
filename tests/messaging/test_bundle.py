from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.errors import InputError
from fimi.messaging.bundle import MAX_BYTES, Bundle, BundleError

# As openssl prints one: lines of 64 characters between two marks.
PEM = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\nAQ==\n-----END CERTIFICATE-----\n"
WHOLE = Bundle(
    fleet="desk",
    name="pi-01",
    role="device",
    host="desk.local",
    port=8883,
    password="secret'''\n\"\\\x00",
    ca_pem=PEM,
    cert_pem=PEM,
    key_pem=PEM.replace("CERTIFICATE", "PRIVATE KEY"),
    update_key="a2V5",
    expires="2028-11-30",
)
texts = st.text(st.characters(codec="utf-8"), max_size=30)


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


class TestRoundTrip:
    def test_everything(self, tmp_path: Path) -> None:
        WHOLE.write(tmp_path / "b")
        assert Bundle.read(tmp_path / "b") == WHOLE
        assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600

    def test_what_is_wider_becomes_narrow(self, tmp_path: Path) -> None:
        WHOLE.write(written(tmp_path / "b", "", 0o666))
        assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600

    @given(texts, texts, texts.filter(bool), st.integers(1, 65535))
    def test_any_text(
        self, tmp_path_factory: pytest.TempPathFactory, password: str, ca: str, host: str, port: int
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "any.bundle"
        made = msgspec.structs.replace(
            WHOLE, password=password, ca_pem=ca + "x", host=host, port=port
        )
        made.write(path)
        assert Bundle.read(path) == made

    def test_certificates_are_readable_lines(self, tmp_path: Path) -> None:
        WHOLE.write(tmp_path / "b")
        assert PEM in (tmp_path / "b").read_text()


class TestBad:
    LEAST = 'fleet="f"\nname="n"\nrole="device"\nhost="h"\nport=1\n'

    def test_least(self, tmp_path: Path) -> None:
        assert Bundle.read(written(tmp_path / "b", self.LEAST)).port == 1

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "fleet"),
            ("garbage", "no TOML"),
            (LEAST + 'colour="red"', "colour"),
            (LEAST.replace("device", "king"), "king"),
            (LEAST.replace('"n"', '"a/b"'), "a/b"),
            (LEAST.replace('"n"', '"coordinator"'), "coordinator"),
            (LEAST.replace('"h"', '""'), "host"),
            (LEAST.replace("port=1", "port=0"), "port"),
            (LEAST + 'cert_pem="c"', "key_pem"),
            (LEAST + 'cert_pem="c"\nkey_pem="k"', "ca_pem"),
            ("a" * (MAX_BYTES + 1), "no bundle"),
            ("x=" + "[" * 5000, "no TOML"),
        ],
    )
    def test_content(self, tmp_path: Path, text: str, says: str) -> None:
        with pytest.raises(BundleError, match=says) as caught:
            Bundle.read(written(tmp_path / "pi.bundle", text))
        assert "pi.bundle" in str(caught.value)
        assert isinstance(caught.value, InputError)

    @given(st.binary(max_size=200))
    def test_any_bytes(self, tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
        path = written(tmp_path_factory.getbasetemp() / "bytes.bundle", "")
        path.write_bytes(data)
        with pytest.raises(BundleError):
            Bundle.read(path)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="enroll"):
            Bundle.read(tmp_path / "none")

    @pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602])
    def test_others_may_read_it(self, tmp_path: Path, mode: int) -> None:
        with pytest.raises(BundleError, match="chmod 600"):
            Bundle.read(written(tmp_path / "b", self.LEAST, mode))

    @pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
    def test_its_group_may_read_it(self, tmp_path: Path, mode: int) -> None:
        assert Bundle.read(written(tmp_path / "b", self.LEAST, mode)).host == "h"


class TestSecrecy:
    def test_it_is_not_printed(self) -> None:
        assert "secret" not in repr(WHOLE) + str(WHOLE)
        assert "secret" not in repr(WHOLE.address()) + str(WHOLE.address())

    def test_an_error_does_not_repeat_it(self, tmp_path: Path) -> None:
        text = TestBad.LEAST + 'password="sesame"\nkey_pem="sesame"\n'
        with pytest.raises(BundleError) as caught:
            Bundle.read(written(tmp_path / "b", text))
        assert "sesame" not in str(caught.value)


class TestAddress:
    def test_tls_with_a_certificate(self) -> None:
        address = WHOLE.address()
        assert (address.host, address.port, address.tls) == ("desk.local", 8883, True)
        assert address.has_certificate
        assert address.exposed() == ""

    def test_plain(self) -> None:
        bundle = Bundle(fleet="f", name="n", role="device", host="h", port=1883, password="p")
        assert not bundle.address().tls
        assert "without TLS" in bundle.address().exposed()
