"""Waiting updates, in memory and in files, and the memory that averaging them takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fimi.coordinator.update_store import MEMORY_BYTES, Updates, UpdateStore, in_slices
from fimi.learning.training import tensors
from fimi.learning.training.aggregation import fedavg, mean
from fimi.learning.training.tensors import UpdateRefusedError

MODEL = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(1, np.float32)}


def moved(by: float) -> dict[str, np.ndarray]:
    return {name: (tensor + np.float32(by)).astype("f4") for name, tensor in MODEL.items()}


@pytest.mark.parametrize("memory_bytes", [0, 150, MEMORY_BYTES])
@pytest.mark.parametrize("as_file", [False, True])
def test_what_is_taken_comes_back_from_memory_and_files(
    tmp_path: Path, memory_bytes: int, as_file: bool
) -> None:
    spool = UpdateStore(tmp_path, memory_bytes)
    for device, by in (("a", 9.0), ("b", 2.0), ("a", 1.0)):  # the second of a device replaces it
        payload: bytes | Path = tensors.dump(moved(by))
        if as_file:
            path = tmp_path / "came"
            path.write_bytes(tensors.dump(moved(by)))
            payload = path
        spool.take(device, payload, MODEL)
        (tmp_path / "came").unlink(missing_ok=True)  # as where room is made for others
        assert spool.norm(device) == pytest.approx(by * np.sqrt(7))
        assert spool.get(device) == tensors.dump(moved(by))
    updates = Updates(spool, ("b", "a"), MODEL)
    for update, by in zip(updates, (2.0, 1.0), strict=True):
        np.testing.assert_array_equal(update["w"], moved(by)["w"])
    np.testing.assert_array_equal(updates[1:][0]["w"], moved(1.0)["w"])
    new = mean(MODEL, in_slices(updates), [1.0, 3.0])
    plain = fedavg([moved(2.0), moved(1.0)], [1.0, 3.0])
    assert all(new[name].tobytes() == plain[name].tobytes() for name in MODEL)
    spool.clear()
    assert not list(tmp_path.glob("update-*"))
    with pytest.raises(KeyError):
        spool.norm("a")


def test_a_file_that_came_goes_with_its_update_and_another_one_of_that_name_does_no_harm(
    tmp_path: Path,
) -> None:
    """Two devices that send the same bytes send files of the same name."""
    spool, path = UpdateStore(tmp_path, 0), tmp_path / "digest.whole"
    path.write_bytes(tensors.dump(moved(1.0)))
    spool.take("a", path, MODEL)
    path.replace(tmp_path / "digest.part")  # it comes once more, from another device
    (tmp_path / "digest.part").replace(path)
    spool.take("b", path, MODEL)
    assert spool.get("a") == spool.get("b") == tensors.dump(moved(1.0))
    spool.take("a", tensors.dump(moved(2.0)), MODEL)
    assert not path.exists()
    assert spool.get("b") == tensors.dump(moved(1.0))
    spool.clear()
    assert not list(tmp_path.iterdir())


def test_without_links_a_file_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links on this file system")

    monkeypatch.setattr("os.link", refuse)
    spool, path = UpdateStore(tmp_path, 0), tmp_path / "came"
    path.write_bytes(tensors.dump(moved(1.0)))
    spool.take("a", path, MODEL)
    path.unlink()
    assert spool.get("a") == tensors.dump(moved(1.0))


def test_what_is_refused_stays_where_it_is_and_replaces_nothing(tmp_path: Path) -> None:
    spool = UpdateStore(tmp_path)
    spool.take("a", tensors.dump(moved(1.0)), MODEL)
    bad = tmp_path / "bad"
    bad.write_bytes(tensors.dump({**MODEL, "b": np.full(1, np.inf, np.float32)}))
    with pytest.raises(UpdateRefusedError, match="not finite"):
        spool.take("a", bad, MODEL)
    assert bad.exists()
    assert spool.get("a") == tensors.dump(moved(1.0))
    assert spool.norm("a") == pytest.approx(np.sqrt(7))


@pytest.mark.parametrize("rule", ["mean", "krum"])
def test_memory_follows_from_the_model_and_not_from_the_devices(tmp_path: Path, rule: str) -> None:
    """A process with 24 updates of 8 MB each: above the model it takes below 3 times that."""
    script = """
import sys, resource
from pathlib import Path
import numpy as np
from fimi.coordinator.update_store import Updates, UpdateStore
from fimi.learning.training import tensors
from fimi.learning.training.robust import AggregationRule

folder, rule = Path(sys.argv[1]), sys.argv[2]
model = {"w": np.zeros(2_000_000, np.float32)}
spool, names = UpdateStore(folder), [f"d{i:02d}" for i in range(24)]
for i, name in enumerate(names):
    model["w"][:] = i / 8  # in place: there is one model in memory
    (folder / name).write_bytes(tensors.dump(model))
    model["w"][:] = 0.0
    spool.take(name, folder / name, model)
used = lambda: 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = used()
found = AggregationRule(kind=rule).combine(model, Updates(spool, names, model).slices, [1.0] * 24)
print((used() - before) / tensors.size_bytes(model), float(found.model["w"][0]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), rule],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    times, first = map(float, done.stdout.split())
    assert 0.0 <= times < 3.0, "the new model, and some slices"
    assert first == pytest.approx(23 / 16, abs=0.5)
