"""fimi.learning.data.partition_file: there and back, and what is no partition of this data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fimi.learning.data import partition_file
from fimi.learning.data.dataset import DatasetError, load_digits
from fimi.learning.data.partition_schemes import Dealing, divide

PRIVATE = load_digits().subset(np.arange(50), "digits/private")


def test_there_and_back(tmp_path: Path) -> None:
    parts = divide("iid", PRIVATE.labels, Dealing(devices=4, seed=0))
    partition_file.write(tmp_path / "parts.json", parts, PRIVATE)
    again = partition_file.read(tmp_path / "parts.json", PRIVATE, devices=4, min_samples=12)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def test_by_hand(tmp_path: Path) -> None:
    (tmp_path / "parts.json").write_text('{"devices": [[9, 3], [0]]}')
    parts = partition_file.read(tmp_path / "parts.json", PRIVATE, devices=2)
    assert [part.tolist() for part in parts] == [[3, 9], [0]]
    assert parts[0].dtype == np.intp


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it must be JSON"),
        ("[[1], [2]]", "it must be JSON"),
        ('{"devices": [[1], ["2"]]}', "it must be JSON"),
        ('{"devices": [[1], [2]], "seed": 3}', "unknown field `seed`"),
        ('{"devices": [[1]]}', "there are 2 devices, and devices has 1 list; give"),
        (
            '{"devices": [[1], []]}',
            "devices[1] holds 0 samples, fewer than data.min_samples 1; give",
        ),
        ('{"devices": [[1], [50]]}', "devices[1] holds sample 50; there are 0 to 49"),
        ('{"devices": [[1], [-1]]}', "devices[1] holds sample -1"),
        ('{"devices": [[1], [2, 1]]}', "sample 1 is in devices[0] and in devices[1]"),
        ('{"devices": [[1], [2]], "digest": "abcd"}', "divides other data"),
    ],
)
def test_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "parts.json").write_text(text)
    with pytest.raises(DatasetError) as caught:
        partition_file.read(tmp_path / "parts.json", PRIVATE, devices=2, min_samples=1)
    assert said in str(caught.value)
    assert "parts.json" in str(caught.value)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none\.json: No such file"):
        partition_file.read(tmp_path / "none.json", PRIVATE, devices=2)
