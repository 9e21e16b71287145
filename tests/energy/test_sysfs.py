from __future__ import annotations

from pathlib import Path

import pytest

from fimi.energy.sysfs import read_count, read_text, why_unreadable


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"42\n", 42),
        (b"0", 0),
        (b"", None),
        (b"-3\n", None),
        (b"1.5\n", None),
        (b"<unknown>\n", None),
        (b"4 2\n", None),
        (b"\xff\xfe", None),
    ],
)
def test_read_count(tmp_path: Path, content: bytes, value: int | None) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert read_count(file) == value


def test_missing_is_none(tmp_path: Path) -> None:
    assert read_text(tmp_path / "nothing") is None
    assert read_count(tmp_path / "nothing") is None


def test_reasons(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "words").write_text("hello")
    (tmp_path / "binary").write_bytes(b"\xff")
    assert why_unreadable(tmp_path / "nothing") == "does not exist"
    assert "directory" in why_unreadable(tmp_path / "folder")
    assert "'hello'" in why_unreadable(tmp_path / "words")
    assert "text" in why_unreadable(tmp_path / "binary")
