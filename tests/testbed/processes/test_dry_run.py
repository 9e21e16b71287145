"""``fimi dry-run`` as a person runs it: a whole federation in processes of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from commandline import (
    PATIENCE_S,
    SMALL,
    SharedRun,
    Workplace,
    finish,
    is_whole,
    one_screen,
    rows,
    run_value,
    wait_until,
)

from fimi.learning.training import tensors
from fimi.record.schema import TABLES
from fimi.report.document import RunDocument
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.scenario import Scenario

LONG = ("--strategy", "tfl", "--devices", "2", "--rounds", "5000")
"""Quick to start, and never at its end by itself."""


class TestResult:
    def test_it_says_how_it_went(self, finished: SharedRun) -> None:
        assert finished.code == 0, finished.err
        result = finished.result
        assert set(result) == set(RunDocument.__struct_fields__)
        assert (result["strategy"], result["seed"], result["rounds"]) == ("fimi", 0, 3)
        assert result["status"] == "completed"
        assert len(result["accuracy"]) == 3
        assert 0.3 < result["accuracy"][-1] <= 1
        assert result["plan_gap_percent"] >= 0
        assert result["plan_bound_j"] <= result["plan_energy_j"] * (1 + 1e-9)
        assert result["synthetic_samples"] > 0
        assert result["plan_objective"] == "board"
        for name in ("board", "dynamic"):
            bound_j, planned_j = (result[f"plan_{name}_{key}"] for key in ("bound_j", "j"))
            assert 0 < bound_j <= planned_j * (1 + 1e-9)
            assert result["plan_held"][name]["predicted_j"] == planned_j
        assert result["plan_energy_j"] == result["plan_board_j"]
        assert Path(finished.folder, result["run_dir"]) == finished.run_folder
        assert result["wall_s"] > 0

    def test_rounds_last_as_long_as_they_were_planned_not_until_the_deadline(
        self, finished: SharedRun
    ) -> None:
        """The board's plan chooses the length of a round; nothing waits for T_max."""
        held = finished.result["plan_held"]
        assert held["planned_round_s"] == finished.result["plan_round_s"] < 9.0
        assert held["round_s"] == pytest.approx(held["planned_round_s"], rel=0.1)
        assert held["board"]["error_percent"] == pytest.approx(0.0, abs=15.0)

    def test_the_report_prints_the_same_document(self, finished: SharedRun, tmp_path: Path) -> None:
        place = Workplace(tmp_path)
        shutil.copytree(finished.folder / "runs", tmp_path / "runs")
        done = place.run("report", finished.result["run_dir"], "--format", "json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == finished.result

    def test_joules_are_emulated_and_near_the_prediction_but_not_the_prediction(
        self, finished: SharedRun
    ) -> None:
        result = finished.result
        assert result["energy_kind"] == "emulated"
        assert result["unmetered"] == []
        for kind in ("energy", "dynamic"):
            measured, predicted = result[f"{kind}_measured_j"], result[f"{kind}_predicted_j"]
            assert measured == pytest.approx(predicted, rel=0.2)
            assert measured != predicted
        assert sum(result["round_energy_j"]) == pytest.approx(result["energy_measured_j"])
        samples = rows(
            finished.run_folder / "run.sqlite",
            "SELECT kind, energy_j, predicted_board_j FROM phases WHERE phase = 'compute'",
        )
        assert len(samples) == 9
        for kind, energy_j, predicted_j in samples:
            assert kind == "emulated"
            assert energy_j == pytest.approx(predicted_j, rel=0.3)
            assert energy_j != predicted_j

    def test_the_run_store_is_whole_and_every_table_filled(self, finished: SharedRun) -> None:
        store = finished.run_folder / "run.sqlite"
        assert is_whole(store)
        assert not list(finished.run_folder.glob("run.sqlite-*"))
        tables = [t for (t,) in rows(store, "SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert set(tables) == {table.name for table in TABLES}
        # three rounds have no time to drift, FIMI's server does not train, and nobody is late
        for table in set(tables) - {"refit", "server_round", "late_update"}:
            assert rows(store, f"SELECT count(*) FROM {table}") > [(0,)], table
        phases = {phase for (phase,) in rows(store, "SELECT DISTINCT phase FROM sample")}
        assert {"synthetic-download", "model-download", "compute", "upload"} <= phases
        assert run_value(finished.run_folder, "status") == "completed"

    def test_the_model_is_the_one_that_was_evaluated_last(self, finished: SharedRun) -> None:
        from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters

        config = configuration.load().config
        test = Scenario(config=config).split.test
        like = initial_parameters(config.training.model, test.classes, test.image_shape, seed=0)
        model = tensors.load((finished.run_folder / "model.safetensors").read_bytes(), like=like)
        assert any(not np.array_equal(model[name], like[name]) for name in like)
        trainer = TorchTrainer(config.training.model, test.classes, test.image_shape)
        evaluation = trainer.evaluate(model, test.images, test.labels)
        assert evaluation.accuracy == finished.result["accuracy"][-1]

    def test_the_report_is_there(self, finished: SharedRun) -> None:
        page = (finished.run_folder / "report.html").read_text(encoding="utf-8")
        assert finished.run_folder.name in page
        assert page.rstrip().endswith("</html>")

    def test_progress_goes_to_the_standard_error_output(self, finished: SharedRun) -> None:
        assert len(re.findall(r"round \d/3: accuracy", finished.err)) == 3
        assert "3 of 3 updates" in finished.err

    def test_nothing_is_left_behind(self, finished: SharedRun) -> None:
        assert finished.left == ()
        assert sorted(path.name for path in finished.run_folder.iterdir()) == [
            "model-int8.onnx",
            "model.onnx",
            "model.safetensors",
            "report.html",
            "run.sqlite",
        ]


class TestSeed:
    def test_the_same_seed_gives_the_same_numbers_over_any_broker(
        self, reference: SharedRun, repeated: SharedRun
    ) -> None:
        assert numbers(reference) == numbers(repeated)

    def test_another_seed_gives_others(self, reference: SharedRun, terminal: Terminal) -> None:
        accuracy = rows(terminal.place.run_folder() / "run.sqlite", "SELECT accuracy FROM round")
        assert tuple(a for (a,) in accuracy) != tuple(reference.result["accuracy"])


class TestTfl:
    def test_local_data_only_in_plain_lines(self, place: Workplace) -> None:
        done = place.run("dry-run", *SMALL[:4], "--strategy", "tfl")
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        assert "\r" not in done.stdout
        assert len(re.findall(r"^\[ *[\d.]+ s\] round \d/3: ", done.stdout, re.M)) == 3
        assert "report: runs/" in done.stdout
        store = place.run_folder() / "run.sqlite"
        assert rows(store, "SELECT sum(synthetic_samples) FROM device_round") == [(0,)]
        assert rows(store, "SELECT * FROM event WHERE event = 'batch-delivered'") == []
        assert rows(store, "SELECT * FROM sample WHERE phase = 'synthetic-download'") == []
        assert place.leftovers() == []


class TestStrategies:
    """In processes of their own; ``test_strategies`` runs all of them in one."""

    @pytest.mark.parametrize("name", ["semi", "fimi-genfl", "aigc-only"])
    def test_end_to_end(self, place: Workplace, name: str) -> None:
        done = place.run("dry-run", *SMALL, "--strategy", name)
        assert done.returncode == 0, done.stderr
        store = place.run_folder() / "run.sqlite"
        assert run_value(place.run_folder(), "strategy") == name
        server = rows(store, "SELECT images, seconds FROM server_round ORDER BY round")
        unlabelled = rows(store, "SELECT sum(json_extract(body, '$.unlabelled')) FROM device_plan")
        if name == "semi":
            assert server == []
            assert unlabelled > [(0,)]
            assert "pseudo-labels" in done.stdout
        else:
            assert [images for images, _ in server] == [100, 200, 300]
            assert min(seconds for _, seconds in server) > 0
            assert "in no device" in done.stdout
        devices = rows(store, "SELECT count(*) FROM device_round")
        assert devices == [(0 if name == "aigc-only" else 9,)]
        assert name in (place.run_folder() / "report.html").read_text(encoding="utf-8")
        assert place.leftovers() == []


class TestReplanning:
    def test_wrong_profiles_are_mended_and_the_prediction_gets_better(
        self, place: Workplace
    ) -> None:
        wrong = ("fleet.profile_error=0.3", "fleet.emulation=physical", "plan.refit_window=2")
        settings = [word for setting in wrong for word in ("--set", setting)]
        done = place.run(
            "dry-run", *SMALL[:2], *SMALL[4:], "--rounds", "5", "--format", "json", *settings
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["refitted_after"][0] == 2
        errors = result["round_error_percent"]
        assert max(errors[2:]) < 0.5 * min(errors[:2])
        assert "boards fitted again" in done.stderr
        store = place.run_folder() / "run.sqlite"
        batches = "SELECT count(*) FROM sample WHERE phase = 'synthetic-download'"
        devices = "SELECT count(DISTINCT device) FROM sample WHERE phase = 'synthetic-download'"
        assert rows(store, batches) == rows(store, devices)  # nothing is sent twice
        counts = "SELECT count(DISTINCT synthetic_samples) FROM device_round GROUP BY device"
        assert set(rows(store, counts)) == {(1,)}
        assert "fitted again after round 2" in place.run("report", str(place.run_folder())).stdout


class Terminal:
    """A run inside a pseudo-terminal, at its end."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.screen = PseudoTerminal(place, "dry-run", *SMALL, "--seed", "1")
        self.code = self.screen.wait()
        self.left = place.leftovers()


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    place = Workplace(tmp_path_factory.mktemp("terminal"))
    try:
        yield Terminal(place)
    finally:
        place.clean_up()


class TestTerminal:
    def test_the_live_view_comes_and_goes(self, terminal: Terminal) -> None:
        assert terminal.code == 0
        said = terminal.screen.said
        assert "3/3 rounds" in said
        assert "device-02" in said
        assert said.count("\x1b[?25l") == said.count("\x1b[?25h") == 1  # the cursor is back
        _, left, after = said.rpartition("\x1b[?1049l")  # the screen of before is back
        assert left
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", after)
        assert "accuracy" in plain
        assert "report: runs/" in plain
        assert "rounds  accuracy" not in plain

    def test_nothing_is_left_behind(self, terminal: Terminal) -> None:
        assert terminal.left == []


class TestInterrupted:
    def test_ctrl_c_in_a_terminal(self, place: Workplace) -> None:
        screen = PseudoTerminal(place, "dry-run", *LONG)
        wait_until(lambda: screen.read() or place.finished_rounds() >= 2, "two rounds")
        screen.type("\x03")
        assert screen.wait() == 130, screen.said
        assert "Traceback" not in screen.said
        assert_ended_in_order(place)
        assert "interrupted" in screen.said

    def test_asked_to_terminate_by_another_program(self, place: Workplace) -> None:
        port = a_free_port()
        running = place.start("dry-run", *LONG, "--format", "json", "--port", str(port))
        wait_until(lambda: place.finished_rounds() >= 1, "a round")
        assert is_listening(port)
        running.terminate()
        done = finish(running)
        assert done.returncode == 130, done.stderr
        assert "Traceback" not in done.stderr
        assert json.loads(done.stdout)["status"] == "interrupted"
        assert_ended_in_order(place)
        assert not is_listening(port)

    def test_ctrl_c_twice_does_not_wait(self, place: Workplace) -> None:
        running = place.start("dry-run", *LONG)
        wait_until(lambda: place.finished_rounds() >= 1, "a round")
        running.send_signal(signal.SIGINT)
        time.sleep(0.02)  # so that they are two
        running.send_signal(signal.SIGINT)
        done = finish(running)
        assert done.returncode == 130, done.stderr
        assert "Traceback" not in done.stderr
        assert is_whole(place.run_folder() / "run.sqlite")
        assert run_value(place.run_folder(), "status") == "interrupted"
        assert place.leftovers() == []

    def test_before_there_is_a_plan_nothing_is_kept(self, place: Workplace) -> None:
        running = place.start("dry-run", *LONG)
        assert running.stdout is not None
        assert "broker:" in running.stdout.readline()
        os.killpg(running.pid, signal.SIGINT)  # what a terminal does
        done = finish(running)
        assert done.returncode == 130
        assert one_screen(done.stderr)
        assert "nothing is kept" in done.stderr
        assert list((place.folder / "runs").iterdir()) == []
        assert place.leftovers() == []

    def test_killed_outright(self, place: Workplace) -> None:
        running = place.start("dry-run", *LONG)
        wait_until(lambda: place.finished_rounds() >= 2, "two rounds")
        running.kill()
        finish(running)
        place.wait_for_silence()
        folder = place.run_folder()
        assert is_whole(folder / "run.sqlite")
        assert len(rows(folder / "run.sqlite", "SELECT number FROM round")) >= 2
        assert not list(place.temporary.glob("fimi-*"))
        report = place.run("report", str(folder))
        assert report.returncode == 0, report.stderr
        assert (folder / "report.html").exists()

    @pytest.mark.parametrize("name", ["generator", "devices-1"])
    def test_a_child_dies(self, place: Workplace, name: str) -> None:
        running = place.start("dry-run", *SMALL, "--rounds", "5000")
        wait_until(lambda: place.finished_rounds() >= 1, "a round")
        child(place, name).kill()
        done = finish(running)
        assert done.returncode == 5, done.stderr
        report, _, error = done.stderr.partition("\nfimi: ")
        assert one_screen(error)
        assert f"the process '{name}' ended by itself (exit code -9) and said nothing" in error
        folder = place.run_folder()
        assert f"report: runs/{folder.name}/report.html" in report
        assert is_whole(folder / "run.sqlite", everybody=name == "generator")
        assert run_value(folder, "status") == "failed"
        assert run_value(folder, "reason") == f"the process '{name}' ended by itself (exit code -9)"
        assert place.leftovers() == []


def numbers(run: SharedRun) -> dict[str, object]:
    """A result without what may differ."""
    return {
        key: value
        for key, value in run.result.items()
        if key not in ("run_dir", "wall_s", "insight_seconds")
    }


def assert_ended_in_order(place: Workplace) -> None:
    folder = place.run_folder()
    assert is_whole(folder / "run.sqlite")
    assert run_value(folder, "status") == "interrupted"
    assert (folder / "report.html").exists()
    assert (folder / "model.safetensors").exists()
    assert place.leftovers() == []


def child(place: Workplace, name: str) -> psutil.Process:
    """The child of a dry run that writes to the log of this name."""
    for process in place.processes():
        if any(file.path.endswith(f"/logs/{name}.log") for file in process.open_files()):
            return process
    raise AssertionError(f"no child {name}")


def a_free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def is_listening(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


class PseudoTerminal:
    """``fimi`` in a terminal of 40 lines and 120 columns."""

    def __init__(self, place: Workplace, *arguments: str) -> None:
        fcntl = pytest.importorskip("fcntl", reason="pseudo-terminals are a Unix thing")
        import pty
        import struct
        import termios

        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        os.set_blocking(self._master, False)
        self._process = place.start(
            *arguments,
            environment={"TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.said = ""

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def read(self) -> None:
        """Take what is on its way, so that the program can go on."""
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            if not data:
                return
            self.said += data.decode(errors="replace")

    def wait(self) -> int:
        """Read until the program has ended; its exit code."""
        try:
            wait_until(lambda: self.read() or self._process.poll() is not None, "end", PATIENCE_S)
            self.read()
        finally:
            os.close(self._master)
        return self._process.wait()
