"""What a board takes for an update, and what it does not: signatures, wheels, versions, links."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("cryptography", reason="the extra 'update' checks signatures")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from fimi.edge_agent.service import release as releases
from fimi.edge_agent.service.receiving import Receiving
from fimi.edge_agent.service.release import (
    Release,
    SignedRelease,
    SigningKeyError,
    UpdateError,
    check_newer,
    check_wheel,
    sign,
    unpack,
    verified,
)
from fimi.edge_agent.service.versions import Trust, Versions, write_trust

PRIVATE = ed25519.Ed25519PrivateKey.generate()
PUBLIC = base64.b64encode(PRIVATE.public_key().public_bytes_raw()).decode()


def pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def wheel(number: str = "1.0.0", needs: tuple[str, ...] = (), **files: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("fimi/__init__.py", "")
        for name, text in files.items():
            made.writestr(name, text)
        lines = [f"Requires-Dist: {each}" for each in needs]
        text = "\n".join(
            ["Metadata-Version: 2.3", "Name: fimi-testbed", f"Version: {number}", *lines]
        )
        made.writestr(f"fimi_testbed-{number}.dist-info/METADATA", text + "\n")
    return out.getvalue()


WHEEL = wheel()
SIGNED = sign(WHEEL, pem(PRIVATE), fleet="desk")


def test_a_release_says_what_the_wheel_is() -> None:
    release = verified(SIGNED, PUBLIC, "desk")
    assert (release.version, release.size_bytes) == ("1.0.0", len(WHEEL))
    check_wheel(WHEEL, release)
    # The signature is plain Ed25519, as anybody else may check it.
    key = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(PUBLIC))
    key.verify(SIGNED.signature, b"fimi agent update 1\0" + SIGNED.statement)


@given(data=st.data())
def test_one_bit_of_it_and_it_is_refused(data: st.DataObject) -> None:
    part = data.draw(st.sampled_from(["statement", "signature", "key"]))
    whole = base64.b64decode(PUBLIC) if part == "key" else getattr(SIGNED, part)
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    changed = bytearray(whole)
    changed[bit // 8] ^= 1 << bit % 8
    signed, key = SIGNED, PUBLIC
    if part == "key":
        key = base64.b64encode(changed).decode()
    else:
        signed = msgspec.structs.replace(SIGNED, **{part: bytes(changed)})
    with pytest.raises(UpdateError):
        verified(signed, key, "desk")


@given(
    statement=st.binary(max_size=200), signature=st.binary(max_size=64), key=st.text(max_size=50)
)
def test_rubbish_is_refused(statement: bytes, signature: bytes, key: str) -> None:
    signed = SignedRelease(statement=statement, signature=signature)
    for each in (key, PUBLIC):
        with pytest.raises(UpdateError):
            verified(signed, each, "desk")


def test_a_statement_that_is_signed_is_checked_all_the_same() -> None:
    for statement in (
        b"{}",
        b"[]",
        b"\xff",
        json.dumps({"fleet": "desk", "version": "../x"}).encode(),
    ):
        signed = SignedRelease(
            statement=statement, signature=PRIVATE.sign(b"fimi agent update 1\0" + statement)
        )
        with pytest.raises(UpdateError, match="cannot be read"):
            verified(signed, PUBLIC, "desk")


def test_it_is_for_one_fleet() -> None:
    with pytest.raises(UpdateError, match="for fleet 'desk'; this board is of 'other'"):
        verified(SIGNED, PUBLIC, "other")


@pytest.mark.parametrize("key", [b"", b"no key", pem(ec.generate_private_key(ec.SECP256R1()))])
def test_keys_that_do_not_sign(key: bytes) -> None:
    with pytest.raises(SigningKeyError, match="fimi fleet init"):
        sign(WHEEL, key, fleet="desk")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", WHEEL[:-30], b"x" * 5000])
def test_what_is_no_wheel_is_not_signed(data: bytes) -> None:
    with pytest.raises(SigningKeyError, match="wheel"):
        sign(data, pem(PRIVATE), fleet="desk")


def a_release(number: str, serial: int, *, older: bool = False) -> Release:
    return Release(
        fleet="desk", version=number, sha256="0" * 64, size_bytes=1, serial=serial, older=older
    )


def test_only_later_signatures_and_no_lower_version() -> None:
    check_newer(a_release("1.10.0", 5), 4, "1.9.0")
    check_newer(a_release("1.9.0", 5), 4, "1.9.0")
    check_newer(a_release("1.0.0", 5, older=True), 4, "1.9.0")
    check_newer(a_release("1.0.0", 5), 4, "")
    for serial in (4, 5):
        with pytest.raises(UpdateError, match="signed before"):
            check_newer(a_release("2.0.0", serial, older=True), 5, "1.9.0")
    with pytest.raises(UpdateError, match=r"1\.9\.0, lower than 1\.10\.0"):
        check_newer(a_release("1.9.0", 5), 4, "1.10.0")


def test_packages_that_are_not_here_are_named() -> None:
    needs = (
        "click>=8.1",
        "msgspec>=99",
        "nowhere",
        "torch>=99; extra == 'torch'",
        "old; python_version < '3'",
    )
    data = wheel("1.0.0", needs)
    with pytest.raises(UpdateError) as error:
        check_wheel(data, verified(sign(data, pem(PRIVATE), fleet="desk"), PUBLIC, "desk"))
    said = str(error.value)
    assert "msgspec>=99, here is" in said and "nowhere, which is not here" in said
    assert "torch" not in said and "click" not in said and "old" not in said


@pytest.mark.parametrize("name", ["../x.py", "/etc/x", "fimi/../../x", "fimi\\..\\x"])
def test_names_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(UpdateError, match="leads elsewhere"):
        unpack(wheel("1.0.0", **{name: "x"}), tmp_path / "made")
    assert {path.name for path in tmp_path.rglob("x*")} == set()


def test_only_the_package_is_unpacked_and_no_more_than_there_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = wheel(
        "1.0.0",
        **{"fimi/a.py": "a = 1", "fimi_testbed-1.0.0.data/scripts/x": "x", "sitecustomize.py": "x"},
    )
    unpack(data, tmp_path / "made")
    made = tmp_path / "made"
    files = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    info = "fimi_testbed-1.0.0.dist-info/METADATA"
    assert files == {"fimi/__init__.py", "fimi/a.py", info}
    monkeypatch.setattr(releases, "MAX_UNPACKED_BYTES", 10_000)
    with pytest.raises(UpdateError, match="holds 3 files with"):
        unpack(wheel("1.0.0", **{"fimi/b.py": "#" * 10_000}), tmp_path / "bomb")
    assert not (tmp_path / "bomb").exists()


def test_a_size_that_a_wheel_only_claims(tmp_path: Path) -> None:
    data = bytearray(wheel("1.0.0", **{"fimi/b.py": "#" * 1000}))
    size = (1000).to_bytes(4, "little")
    at = data.rfind(size, 0, data.rfind(b"fimi/b.py"))
    data[at : at + 4] = (5).to_bytes(4, "little")
    with pytest.raises(UpdateError):
        unpack(bytes(data), tmp_path / "made")


class Board:
    """A board with its folders."""

    def __init__(self, folder: Path) -> None:
        place = folder / "versions"
        place.mkdir()
        write_trust(place, Trust(fleet="desk", update_key=PUBLIC))
        self.versions = Versions(place, folder / "spool")
        self.receiving = Receiving(self.versions)

    def receive(
        self, data: bytes, signed: SignedRelease | None = None, piece: int = 100
    ) -> Release:
        signed = signed or sign(data, pem(PRIVATE), fleet="desk")
        here, digest = self.receiving.offer(signed), verified(signed, PUBLIC, "desk").sha256
        while here < len(data):
            here = self.receiving.add(digest, here, data[here : here + piece])
        return self.receiving.complete(digest)

    def report(self, name: str) -> None:
        (self.versions.spool / "reported").write_text(name)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


class TestReceiving:
    def test_pieces_in_any_order_and_again(self, board: Board) -> None:
        digest = verified(SIGNED, PUBLIC, "desk").sha256
        assert board.receiving.offer(SIGNED) == 0
        assert board.receiving.add(digest, 50, WHEEL[50:60]) == 0
        assert board.receiving.add(digest, 0, WHEEL[:50]) == 50
        assert board.receiving.add(digest, 0, WHEEL[:50]) == 50
        with pytest.raises(UpdateError, match=f"50 of {len(WHEEL)} B have come"):
            board.receiving.complete(digest)
        again = Receiving(board.versions)  # the agent has started again
        with pytest.raises(UpdateError, match="not offered to this start"):
            again.add(digest, 50, WHEEL[50:])
        assert again.offer(SIGNED) == 50
        with pytest.raises(UpdateError, match="more than"):
            again.add(digest, 50, WHEEL[50:] + b"x")
        assert again.add(digest, 50, WHEEL[50:]) == len(WHEEL)
        assert again.complete(digest).version == "1.0.0"

    def test_another_wheel_than_was_signed_is_thrown_away(self, board: Board) -> None:
        digest = verified(SIGNED, PUBLIC, "desk").sha256
        board.receiving.offer(SIGNED)
        board.receiving.add(digest, 0, WHEEL[:-1] + b"\1")
        with pytest.raises(UpdateError, match="another one than was signed"):
            board.receiving.complete(digest)
        assert board.receiving.offer(SIGNED) == 0
        assert not (board.versions.spool / "release.json").exists()

    def test_nobodys_updates(self, tmp_path: Path) -> None:
        for folder in ("nothing", "empty"):
            (tmp_path / folder).mkdir()
        write_trust(tmp_path / "empty", Trust(fleet="desk", update_key=""))
        for folder in ("nothing", "empty"):
            receiving = Receiving(Versions(tmp_path / folder, tmp_path / "spool"))
            with pytest.raises(UpdateError, match="knows no key"):
                receiving.offer(SIGNED)


class TestVersions:
    def test_one_after_another(self, board: Board) -> None:
        versions = board.versions
        assert versions.switch() is None
        assert versions.confirm(0.0)
        first = board.receive(wheel("1.0.0"))
        done = versions.switch()
        assert done is not None and done.what == "trial"
        assert versions.current == first.name and versions.version == "1.0.0"
        assert (versions.folder / "current/fimi/__init__.py").exists()
        assert not (versions.spool / "release.json").exists()
        assert not versions.confirm(0.0)
        board.report("another")
        assert not versions.confirm(0.0)
        board.report(first.name)
        assert versions.confirm(0.0)
        second = board.receive(wheel("2.0.0"))
        assert versions.switch() is not None
        board.report(second.name)
        done = versions.switch()  # the confirming command was killed
        assert done is not None and done.what == "installed"
        third = board.receive(wheel("3.0.0"))
        versions.switch()
        board.report(third.name)
        assert versions.confirm(0.0)
        kept = {path.name for path in versions.folder.iterdir() if path.is_dir()}
        assert kept == {"current", second.name, third.name}

    def test_back_to_the_one_before_and_to_what_was_installed_by_hand(self, board: Board) -> None:
        versions = board.versions
        board.receive(wheel("1.0.0"))
        versions.switch()
        done = versions.switch()
        assert done is not None and done.what == "returned"
        assert "installed by hand" in done.words
        assert versions.current == "" and not (versions.folder / "current").exists()
        first = board.receive(wheel("1.0.0"))
        versions.switch()
        board.report(first.name)
        assert versions.confirm(0.0)
        board.receive(wheel("2.0.0"))
        versions.switch()
        done = versions.switch()
        assert done is not None and f"back at version {first.name}" in done.words
        assert versions.current == first.name
        assert versions.switch() is None
        board.receive(wheel("1.5.0"))  # lower than the one that failed, higher than what is here
        done = versions.switch()
        assert done is not None and done.what == "trial"

    def test_the_same_wheel_once_more(self, board: Board) -> None:
        first = board.receive(WHEEL)
        board.versions.switch()
        board.report(first.name)
        assert board.versions.confirm(0.0)
        board.receive(WHEEL)
        board.versions.switch()
        done = board.versions.switch()
        assert done is not None and done.what == "returned"
        assert (board.versions.folder / board.versions.current / "fimi/__init__.py").exists()

    def test_root_checks_again_what_the_agent_has_left(self, board: Board, tmp_path: Path) -> None:
        spool = board.versions.spool
        for left, why in (
            ({"wheel": b"another"}, "another one than was signed"),
            ({"wheel": None}, "No such file"),
            ({"release.json": b"{}"}, "missing required field"),
            ({"release.json": b"\xff"}, "not taken over"),
        ):
            board.receive(WHEEL)
            for name, data in left.items():
                (spool / name).unlink()
                if data is not None:
                    (spool / name).write_bytes(data)
            done = board.versions.switch()
            assert done is not None and done.what == "refused"
            assert why in done.words
            assert board.versions.current == ""
            assert not (spool / "release.json").exists()

    def test_root_follows_no_link_of_the_agent(self, board: Board, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_bytes(WHEEL)
        board.receive(WHEEL)
        spool = board.versions.spool
        (spool / "wheel").unlink()
        (spool / "wheel").symlink_to(secret)
        done = board.versions.switch()
        assert done is not None and done.what == "refused"
        assert secret.read_bytes() == WHEEL
        # The folder itself as a link: nothing is read or removed where it leads.
        board.receive(WHEEL)
        spool.rename(tmp_path / "elsewhere")
        spool.symlink_to(tmp_path / "elsewhere")
        assert board.versions.switch() is None
        assert (tmp_path / "elsewhere/release.json").exists()

    def test_a_disk_that_is_full_leaves_what_was_there(
        self, board: Board, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        board.receive(WHEEL)

        def full(wheel: bytes, folder: Path) -> None:
            folder.mkdir()
            raise OSError(28, "No space left on device")

        from fimi.edge_agent.service import versions

        monkeypatch.setattr(versions, "unpack", full)
        done = board.versions.switch()
        assert done is not None and "No space left" in done.words
        assert {path.name for path in board.versions.folder.iterdir()} == {
            "trust.json",
            "outcome.json",
        }
