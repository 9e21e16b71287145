from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boards_of_files
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from fimi.energy.calibration import emulated, fitted, sweep, sweep_plan
from fimi.energy.calibration.candidates import TrialChoice
from fimi.energy.calibration.fit import Setting
from fimi.energy.cost_model import ComputeSetting, LinkModel, uplink_rate_bps
from fimi.energy.emulation.presets import PRESETS
from fimi.energy.host import HostHardware
from fimi.energy.host_profile import load_profile
from fimi.energy.meters import Look
from fimi.energy.meters.sampler import Sampler
from fimi.learning.training.trainer import TrainingSettings
from fimi.testbed.cli import main
from fimi.testbed.commands import calibrate as calibrate_command
from fimi.testbed.tools import calibrate_host, calibrate_show
from fimi.testbed.tools.calibrate_host import HostLoad
from fimi.testbed.tools.calibrate_page import calibration_page

FAST = ("--seconds", "4", "--settle", "1")
DRAFT = """
name = "desk"

[board.link]
channel_gain = 1e-10
noise_density_w_per_hz = 4e-21
transmit_power_max_w = 0.1
downlink_rate_bps = 2e7
"""


def run(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["calibrate", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


class TestEmulated:
    def test_table_profile_and_picture(self, tmp_path: Path) -> None:
        out, plot = tmp_path / "pi.toml", tmp_path / "fit.html"
        code, said, progress = run(
            "--emulated", "raspberry-pi-4", "--out", out, "--plot", plot, *FAST
        )
        assert code == 0
        for name in (
            "P_idle",
            "κ  ",
            "W/Hz³",
            "cycles a sample",
            "nJ/bit",
            "held out",
            "uncalibrated",
        ):
            assert name in said
        assert max(map(len, said.split("profile: ")[0].splitlines())) <= 80
        assert "s left" in progress
        profile = load_profile(out)
        assert profile.name == "raspberry-pi-4"
        preset = PRESETS["raspberry-pi-4"]
        assert profile.board.compute.frequency_steps_hz == preset.frequency_steps_hz
        assert profile.board.link.electronics_power_w > 0.2
        assert "emulated" in out.read_text()
        assert "http" not in plot.read_text().split("<body>")[1].split("<script")[0]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["fit.html", "pi.toml"]

    def test_json(self, tmp_path: Path) -> None:
        code, said, _ = run(
            "--emulated", "mini-pc", "--out", tmp_path / "a.toml", "--format", "json", *FAST
        )
        body = json.loads(said)
        assert code == 0
        power = body["calibration"]["power"]
        assert power["slope"]["low"] < power["slope"]["value"] < power["slope"]["high"]
        assert body["board"]["compute"]["capacitance_w_per_hz3"] == power["slope"]["value"]

    def test_an_existing_file_stays(self, tmp_path: Path) -> None:
        out = tmp_path / "kept.toml"
        out.write_text("mine")
        code, _, error = run("--emulated", "mini-pc", "--out", out, *FAST)
        assert (code, out.read_text()) == (2, "mine")
        assert "--force" in error

    @pytest.mark.parametrize("begun", [0, 1, 3, 12])
    def test_ctrl_c_keeps_what_was_measured_and_restores(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: int
    ) -> None:
        boards = []

        def stopped_at_the_third(board: object, plan: object, **hooks: object) -> object:
            boards.append(board)

            def tell(progress: sweep.SweepProgress) -> None:
                if progress.done == begun:
                    signal.raise_signal(signal.SIGINT)

            return calibrate(board, plan, **{**hooks, "progress": tell})  # type: ignore[arg-type]

        calibrate = emulated.calibrate
        monkeypatch.setattr(emulated, "calibrate", stopped_at_the_third)
        handler = signal.getsignal(signal.SIGINT)
        out = tmp_path / "x.toml"
        out.write_text("of last week")
        code, said, error = run("--emulated", "jetson-nano", "--out", out, "--force", *FAST)
        assert code == 130
        assert f"stopped after {begun} of " in error
        assert out.read_text() == "of last week", "a part never replaces a whole profile"
        kept = tmp_path / "x.settings.jsonl"
        if begun == 0:
            assert "Nothing was written" in error
            assert not kept.exists()
        else:
            lines = [json.loads(line) for line in kept.read_text().splitlines()]
            assert [line["activity"] for line in lines[:3]] == ["idle", "compute", "compute"][
                :begun
            ]
            assert len(lines) == begun
            assert str(kept) in error.replace("\n", "")
        part = tmp_path / "x.partial.toml"
        assert part.exists() == (begun >= 3)
        if begun >= 3:
            assert "ms a" in said, "the table of what there is"
            points = load_profile(part).board.compute.points
            assert len(points) == begun - 1
            assert f"# stopped after {begun} of " in part.read_text()
        top_hz = PRESETS["jetson-nano"].frequency_max_hz
        assert boards[0]._frequency_hz == top_hz
        assert signal.getsignal(signal.SIGINT) is handler

    def test_what_an_earlier_run_has_kept_stays(self, tmp_path: Path) -> None:
        earlier = tmp_path / "pi.settings.jsonl"
        earlier.write_text("of last week\n")
        code, _, _ = run("--emulated", "raspberry-pi-4", "--out", tmp_path / "pi.toml", *FAST)
        assert code == 0
        assert earlier.read_text() == "of last week\n"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["pi.settings.jsonl", "pi.toml"]

    def test_a_file_that_cannot_be_kept_ends_no_calibration(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(file: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("fimi.testbed.commands.calibrate.os.fsync", full)
        monkeypatch.setattr(
            calibrate_command, "write_whole", lambda path, text: path.write_text(text)
        )
        code, _, error = run("--emulated", "mini-pc", "--out", tmp_path / "a.toml", *FAST)
        assert code == 0
        assert error.count("cannot be written: No space left") == 1
        assert [path.name for path in tmp_path.iterdir()] == ["a.toml"]
        assert load_profile(tmp_path / "a.toml").board.compute.points

    def test_a_killed_calibration_leaves_what_it_had(self, tmp_path: Path) -> None:
        """SIGKILL in the middle of a real process; every line that is there is whole."""
        out = tmp_path / "x.toml"
        script = (
            "import os, signal, sys\n"
            "from fimi.energy.calibration import sweep\n"
            "from fimi.testbed.cli import main\n"
            "measure = sweep._Sweep._measure\n"
            "def dying(self, *args, **more):\n"
            "    if self._number == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
            "    return measure(self, *args, **more)\n"
            "sweep._Sweep._measure = dying\n"
            "main(sys.argv[1:])\n"
        )
        arguments = ["calibrate", "--emulated", "mini-pc", "--out", str(out), *FAST]
        done = subprocess.run([sys.executable, "-c", script, *arguments], check=False)
        assert done.returncode == -signal.SIGKILL
        lines = (tmp_path / "x.settings.jsonl").read_bytes().splitlines()
        settings = [msgspec.json.decode(line, type=Setting) for line in lines]
        assert [each.activity for each in settings] == ["idle", *["compute"] * 4]
        assert not out.exists()

    @pytest.mark.parametrize("make", ["raspberry-pi-4", "mini-pc"])
    def test_both_errors_are_stated_and_the_smaller_one_chooses(
        self, tmp_path: Path, make: str
    ) -> None:
        out = tmp_path / "a.toml"
        code, said, _ = run("--emulated", make, "--out", out, "--format", "json", *FAST)
        assert code == 0
        found = json.loads(said)["calibration"]
        mean = {
            name: 100 * float(np.mean(np.abs(list(found[key].values()))))
            for name, key in (("table", "held_out_table"), ("law", "held_out"))
        }
        chosen = min(mean, key=lambda name: mean[name])
        assert found["between_points"] == chosen
        assert load_profile(out).board.compute.between_points == chosen
        text = out.read_text()
        assert f"predictions use the {chosen}" in text
        for value in mean.values():
            assert f"{value:.2g} %" in text

    def test_without_plotly_it_says_how_to_get_the_picture(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "fimi.testbed.tools.calibrate_page", None)
        out = tmp_path / "a.toml"
        code, _, error = run(
            "--emulated", "mini-pc", "--out", out, "--plot", tmp_path / "p.html", *FAST
        )
        assert code == 0
        assert "pip install 'fimi-testbed[coordinator]'" in error
        assert [p.name for p in tmp_path.iterdir()] == ["a.toml"]

    @pytest.mark.parametrize(
        ("arguments", "code", "says"),
        [
            ((), 2, "either --emulated MAKE or --host-profile FILE"),
            (("--emulated", "toaster"), 2, "raspberry-pi-4"),
            (("--emulated", "mini-pc", "--out", "/nowhere/a.toml"), 3, "no folder"),
        ],
    )
    def test_wrong_usage(self, arguments: tuple[str, ...], code: int, says: str) -> None:
        exit_code, _, error = run(*arguments)
        assert exit_code == code
        assert says in error

    def test_offers_every_make(self) -> None:
        assert set(calibrate_command.MAKES) == set(PRESETS)


def cpufreq(root: Path, **files: str) -> Path:
    policy = root / "sys/devices/system/cpu/cpufreq/policy0"
    policy.mkdir(parents=True)
    for name, text in files.items():
        (policy / name).write_text(text)
    return root


class Metered:
    """Counts a power, W, in real time, from when a work begins until it ends."""

    def __init__(self, power_w: Callable[[bool], float]) -> None:
        self._power_w = power_w
        self.busy = False
        self._lock = threading.Lock()
        self._energy_j, self._last_s = 0.0, time.monotonic()

    def tick(self) -> None:
        """The board did the same since the last call."""
        self.look(time.monotonic())

    def look(self, time_s: float) -> Look:
        """The joules up to a time, as a meter's reading."""
        with self._lock:
            self._energy_j += self._power_w(self.busy) * max(0.0, time_s - self._last_s)
            self._last_s = max(self._last_s, time_s)
            return Look(counter_j=self._energy_j)


def held(file: Path) -> int:
    """The number in a file that another thread may be writing: never the empty moment between."""
    while not (text := file.read_text().strip()):
        time.sleep(0)
    return int(text)


def with_rapl(root: Path) -> None:
    """A RAPL counter below a root."""
    zone = root / "sys/class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("262143328850\n")
    (zone / "energy_uj").write_text("0\n")


class Watched(HostLoad):
    """Really trains, on a board whose counter is told so."""

    def __init__(self, work: calibrate_host.TimedTraining, meter: Metered) -> None:
        super().__init__(work, threading.Event())
        self._meter = meter

    def begin(self, number: int, setting: ComputeSetting) -> None:
        self._meter.tick()  # before a clock changes
        super().begin(number, setting)

    def compute(self, duration_s: float) -> int:
        self._meter.tick()
        self._meter.busy = True
        samples = super().compute(duration_s)
        self._meter.tick()
        self._meter.busy = False
        return samples


def swept(
    root: Path, draft: calibrate_host.Draft, work: Any, meter: Metered, *, repeats: int
) -> fitted.Calibration:
    """A whole sweep of the points of a draft."""
    with_rapl(root)
    load = Watched(work, meter)
    with HostHardware(draft.profile, root=root, state=root / "state", uplink=load) as hardware:
        assert isinstance(hardware.recorder, Sampler)
        hardware.recorder.meter.look = meter.look  # type: ignore[method-assign]
        hardware.recorder.mark()
        points = calibrate_host.sweep_points(draft.profile, hardware.model())
        plan = sweep_plan.SweepPlan(points=points, seconds=0.2, settle_s=0.05, repeats=repeats)
        done = sweep.sweep(hardware, load, plan)
        return fitted.analyse_sweep(done, hardware.describe(), hardware.model())


@pytest.fixture(scope="module")
def trainer() -> Any:
    """The network as a graph; exporting it loads PyTorch, which takes seconds."""
    return calibrate_host.load_trainer(None, TrainingSettings())


class TestHost:
    def test_draft_and_frequencies(self, tmp_path: Path) -> None:
        (tmp_path / "d.toml").write_text(DRAFT)
        cpufreq(tmp_path, scaling_available_frequencies="600000 1500000 1000000\n")
        draft = calibrate_host.read_draft(tmp_path / "d.toml", root=tmp_path)
        assert [point.frequency_hz for point in draft.points] == [6e8, 1e9, 1.5e9]
        assert draft.points[0].setting.cpu_hz == {"policy0": 6e8}
        assert draft.profile.board.compute.frequency_steps_hz == (6e8, 1e9, 1.5e9)

    def test_a_continuous_processor(self, tmp_path: Path) -> None:
        cpufreq(tmp_path, cpuinfo_min_freq="800000", cpuinfo_max_freq="3400000")
        assert calibrate_host.settable_frequencies(tmp_path) == ((8e8, 3.4e9), False)

    def test_everything_that_is_missing_is_said_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "d.toml").write_text("meter = 'auto'\n")
        with pytest.raises(sweep.CalibrationImpossibleError) as caught:
            calibrate_host.read_draft(tmp_path / "d.toml", root=tmp_path)
        assert len(caught.value.missing) == 3
        for word in ("name", "[board.link]", "cpufreq"):
            assert word in str(caught.value)

    def test_a_machine_that_cannot_be_calibrated(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "d.toml").write_text(DRAFT)
        monkeypatch.setattr(calibrate_host, "settable_frequencies", lambda root: ((), False))
        out = tmp_path / "out.toml"
        code, _, error = run("--host-profile", tmp_path / "d.toml", "--out", out)
        assert code == 3
        assert "cannot be calibrated" in error
        assert "Nothing was written" in error
        assert not out.exists()

    def test_a_whole_sweep_finds_what_the_machine_draws(self, tmp_path: Path, trainer: Any) -> None:
        """Real time, real training, real files; only who writes the files is the test."""
        policy = cpufreq(
            tmp_path,
            scaling_available_frequencies="600000 1000000 1500000 1800000\n",
            scaling_max_freq="1800000\n",
        ) / ("sys/devices/system/cpu/cpufreq/policy0")
        (tmp_path / "d.toml").write_text("replay = 'kept'\n" + DRAFT)
        draft = calibrate_host.read_draft(tmp_path / "d.toml", root=tmp_path)

        def draw(busy: bool) -> float:
            hz = 1e3 * held(policy / "scaling_max_freq")
            return 2.0 + (1.0 + 5e-28 * hz**3 if busy else 0.0)

        found = swept(tmp_path, draft, trainer, Metered(draw), repeats=1)
        assert found.power is not None
        assert found.power.idle_w.value == pytest.approx(2.0, rel=0.1)
        assert found.cubic is not None
        assert found.cubic.slope.value == pytest.approx(5e-28, rel=0.25)
        points = sorted(found.points, key=lambda point: point.setting.cpu_hz["policy0"])
        for point, hertz in zip(points, (0.6e9, 1e9, 1.5e9, 1.8e9), strict=True):
            assert point.setting.cpu_hz == {"policy0": hertz}
            assert point.power_w.value == pytest.approx(1.0 + 5e-28 * hertz**3, rel=0.25)
        assert found.hardware.meter.kind == "measured"
        assert (policy / "scaling_max_freq").read_text() == "1800000\n"
        board = fitted.calibrated(found, draft.profile.board)
        text = calibrate_show.profile(found, board, kept=draft.kept, at="now")
        (tmp_path / "out.toml").write_text(text)
        assert load_profile(tmp_path / "out.toml").replay == "kept"

    def test_a_jetsons_gpu_clocks_are_measured(self, tmp_path: Path, trainer: Any) -> None:
        """Real time and training; the board of files draws what its two clocks say."""
        folder = boards_of_files.policy(tmp_path, 0, 600_000, 1_400_000)
        graphics = boards_of_files.gpu(tmp_path, "17000000.gpu", boards_of_files.ORIN_GPU_HZ)
        files = (folder / "scaling_max_freq", graphics / "max_freq")
        before = [file.read_text() for file in files]

        def power_w(cpu_hz: float, gpu_hz: float) -> float:
            return 1.0 + 0.5e-9 * cpu_hz + 4e-9 * gpu_hz

        (tmp_path / "d.toml").write_text(DRAFT)
        draft = calibrate_host.read_draft(
            tmp_path / "d.toml", root=tmp_path, choice=TrialChoice(gpu_clocks=3)
        )

        def draw(busy: bool) -> float:
            cpu_hz, gpu_hz = 1e3 * held(files[0]), float(held(files[1]))
            return 2.0 + (power_w(cpu_hz, gpu_hz) if busy else 0.0)

        found = swept(tmp_path, draft, trainer, Metered(draw), repeats=2)
        assert [file.read_text() for file in files] == before
        board = fitted.calibrated(found, draft.profile.board)
        (tmp_path / "out.toml").write_text(
            calibrate_show.profile(found, board, kept=draft.kept, at="now")
        )
        measured = load_profile(tmp_path / "out.toml").board.compute.points
        assert len(measured) == 2 + 2 * 2
        for point in measured:
            cpu_hz = point.setting.cpu_hz["policy0"]
            gpu_hz = point.setting.gpu_hz or boards_of_files.ORIN_GPU_HZ[-1]
            # Ticks of a machine under load come late.
            assert point.power_w == pytest.approx(power_w(cpu_hz, gpu_hz), rel=0.12)

    def test_a_machine_without_control_is_measured_as_it_is(
        self, tmp_path: Path, trainer: Any
    ) -> None:
        draft_file = tmp_path / "d.toml"
        draft_file.write_text(DRAFT + "\n[board.compute]\nfrequency_max_hz = 2e9\n")
        draft = calibrate_host.read_draft(draft_file, root=tmp_path)
        assert [point.name for point in draft.points] == ["as it is"]
        meter = Metered(lambda busy: 5.0 if busy else 2.0)
        found = swept(tmp_path, draft, trainer, meter, repeats=2)
        assert found.power is None
        assert "no law, operating points only" in found.notes[0]
        board = fitted.calibrated(found, draft.profile.board)
        text = calibrate_show.profile(found, board, kept=draft.kept, at="now")
        assert "no law could be fitted" in text
        (tmp_path / "out.toml").write_text(text)
        (point,) = load_profile(tmp_path / "out.toml").board.compute.points
        assert point.power_w == pytest.approx(3.0, rel=0.05)
        assert "as it is" in calibrate_show.table(found)
        assert "as it is" in calibration_page(found)

    def test_fewer_cores_train_with_fewer_threads(self, trainer: Any) -> None:
        made: list[int] = []

        def make(threads: int) -> Any:
            made.append(threads)
            return trainer.make(threads)

        settings = TrainingSettings(threads=4)
        load = HostLoad(trainer._replace(make=make, settings=settings), threading.Event())
        for cores in (None, 2, 1, 8):
            load.begin(1, ComputeSetting(cores=cores))
            load.compute(0.01)
        assert made == [4, 2, 1, 4]

    def test_the_fleets_configuration_says_what_is_trained(self, tmp_path: Path) -> None:
        config = tmp_path / "fimi.toml"
        config.write_text('[training]\nmodel = "small-cnn"\nthreads = 3\n')
        training, classes, shape = calibrate_command._training(config)
        assert (training.threads, classes, shape) == (3, 10, (1, 8, 8))
        assert calibrate_command._cores("2, 1", 1) == (1, 2)
        with pytest.raises(ValueError, match="--cores"):
            calibrate_command._cores("none", 1)
        with pytest.raises(ValueError, match="may use"):
            calibrate_command._cores("99999", 1)

    def test_no_draft(self, tmp_path: Path) -> None:
        code, _, error = run("--host-profile", tmp_path / "none.toml")
        assert code == 2
        assert "Write a draft" in error

    def test_points_carry_the_rates_they_are_for(self) -> None:
        link = LinkModel(
            channel_gain=1e-10,
            noise_density_w_per_hz=4e-21,
            transmit_power_max_w=0.1,
            downlink_rate_bps=2e7,
        )
        for point, rate in zip(
            calibrate_host.paced(link, (1e6, 2e7), 1e9), (1e6, 2e7), strict=True
        ):
            reached = uplink_rate_bps(point.bandwidth_hz, 0.1, 1e-10, 4e-21)
            assert float(reached) == pytest.approx(rate, rel=1e-6)

    def test_load_trains_the_real_network_and_sends_real_traffic(self, trainer: Any) -> None:
        received = []
        with socket.create_server(("127.0.0.1", 0)) as server:

            def sink() -> None:
                connection, _ = server.accept()
                with connection:
                    while data := connection.recv(1 << 16):
                        received.append(len(data))

            thread = threading.Thread(target=sink)
            thread.start()
            address = server.getsockname()
            load = HostLoad(trainer, threading.Event(), (address[0], address[1]))
            samples = load.compute(0.1)
            assert samples > 0
            assert samples % 200 == 0
            paced = load.set_pacing(8e6) == "socket-pacing"
            bits = load.send(0.3)
            load.close()
            thread.join()
        assert bits == 8.0 * np.sum(received)
        if paced:  # Linux only
            assert bits < 2e7  # the kernel lets a burst through; loopback alone carries 1e9

    def test_stopping_ends_whatever_it_does(self, trainer: Any) -> None:
        stop = threading.Event()
        stop.set()
        load = HostLoad(trainer, stop)
        load.rest(100.0)
        assert load.compute(100.0) == 1
        assert load.set_pacing(1e6) == ""
        assert load.pacing_bps() is None

    @pytest.mark.parametrize(
        ("option", "value"), [("--voltages", "600=0.8"), ("--traffic", "nowhere")]
    )
    def test_unreadable_options(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str
    ) -> None:
        (tmp_path / "d.toml").write_text(DRAFT)
        monkeypatch.setattr(
            calibrate_host, "settable_frequencies", lambda root: ((6e8, 1e9, 1.8e9), True)
        )
        code, _, error = run(
            "--host-profile", tmp_path / "d.toml", "--out", tmp_path / "o.toml", option, value
        )
        assert code == 2
        assert option in error
