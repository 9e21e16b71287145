"""The command line: what it writes, what it refuses, and how it says so."""

from __future__ import annotations

import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner
from commandline import SMALL, SharedRun, Workplace, finish, is_whole, one_screen, run_value

from fimi.energy.joules import format_joules
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.record.sums import Sum
from fimi.report.words import sum_cell
from fimi.testbed.cli import main
from fimi.testbed.commands.base import Branching, Command, Group
from fimi.testbed.configuration import load as configuration

QUICK = ("--strategy", "tfl", "--devices", "2", "--rounds", "1")


class TestInit:
    def test_what_it_writes_passes_the_check(self, place: Workplace) -> None:
        assert place.run("init").returncode == 0
        checked = place.run("check", "fimi.toml")
        assert checked.returncode == 0, checked.stderr
        assert "no value differs from its default" in checked.stdout

    def test_it_does_not_overwrite(self, place: Workplace) -> None:
        mine = place.folder / "mine.toml"
        mine.write_text("# mine\n")
        refused = place.run("init", "mine.toml")
        assert refused.returncode == 2
        assert "mine.toml exists; --force replaces it" in refused.stderr
        assert mine.read_text() == "# mine\n"
        assert place.run("init", "mine.toml", "--force").returncode == 0
        assert mine.read_text() == configuration.template()

    def test_a_place_that_cannot_be_written(self, place: Workplace) -> None:
        done = place.run("init", "none/fimi.toml")
        assert done.returncode == 3
        assert "cannot write none/fimi.toml: No such file or directory" in done.stderr


class TestCheck:
    def test_every_value_with_its_origin_and_what_differs(self, place: Workplace) -> None:
        (place.folder / "my.toml").write_text("[plan]\ndeadline_s = 20\n[run]\nseed = 0\n")
        done = place.run("check", "my.toml", "--set", "rounds.count=7")
        assert done.returncode == 0, done.stderr
        table, _, words = done.stdout.partition("\n\n")
        short = place.run("check", "-q", "my.toml", "--set", "rounds.count=7")
        assert short.stdout == words
        shown = {line[2:].split()[0]: line[:2] + line[36:] for line in table.splitlines()}
        assert set(shown) == {key for key, _ in configuration.fields()}
        squeezed = {key: " ".join(line.split()) for key, line in shown.items()}
        assert squeezed["plan.deadline_s"] == "* 20.0 my.toml, default 10.0"
        assert squeezed["rounds.count"] == "* 7 --set rounds.count, default 20"
        assert squeezed["run.seed"] == "0 my.toml"  # said, but no other value
        assert squeezed["fleet.devices"] == "10 default"
        words = " ".join(words.split())
        assert "file my.toml differing 2 of " in words
        assert "plan.deadline_s 20.0 (default 10.0, my.toml) rounds.count 7 (default 20, " in words
        assert (
            "digits: 1×8×8 images of 10 classes; 575 public (writers), 144 for validation, 719 "
            "private, 359 for tests"
        ) in words
        assert "10 devices with " in words
        assert "mean distance to the population" in words
        assert "there is one for the 10 emulated boards: " in words
        assert re.search(
            r"rounds of \S+ s, least \w+ energy .*\(modelled; bound .*found by ", words
        )

    def test_the_plan_is_that_of_the_dry_run(self, place: Workplace, reference: SharedRun) -> None:
        settings = ["--set", "fleet.devices=3", "--set", "plan.error_max=0.08"]
        done = place.run("check", *settings)
        plan = done.stdout.split("\nplan ")[1]
        assert f"energy {format_joules(reference.result['plan_energy_j'])} (modelled; bound" in plan
        assert f"{reference.result['synthetic_samples']} synthetic samples" in " ".join(
            plan.split()
        )

    def test_no_plan(self, place: Workplace) -> None:
        done = place.run("check", "--set", "plan.deadline_s=0.5")
        refused(done, 4, "device-03 needs", "feasible with plan.deadline_s of at least")
        assert "plan.deadline_s" in done.stdout  # the values are shown nevertheless

    def test_an_error_of_the_optimisation_names_keys_of_the_configuration(
        self, place: Workplace
    ) -> None:
        done = place.run("check", "-q", "--set", "plan.error_max=0.0401")
        refused(done, 4, "plan.error_max is 0.0401", "feasible with plan.error_max of at least")
        assert "generated_max" not in done.stderr

    def test_devices_that_do_not_train_need_none(self, place: Workplace) -> None:
        done = place.run("check", "--set", 'run.strategy="sst"', "--set", "fleet.devices=3")
        assert done.returncode == 0, done.stderr
        assert "\nplan " in done.stdout

    def test_the_file_of_the_working_folder_is_read_by_every_command(
        self, place: Workplace
    ) -> None:
        (place.folder / "fimi.toml").write_text("[fleet]\ndevices = 4\n[data]\nalpha = 10.0\n")
        done = place.run("check")
        assert "file       fimi.toml" in done.stdout
        assert "4 devices with " in done.stdout
        done = place.run("agent", "data", "--index", "4", "d.npz", "-v")
        refused(done, 2, "configuration: fimi.toml", "--index 4: there are 4 devices")
        done = place.run("agent", "data", "--index", "4", "d.npz", "--config", "other.toml")
        refused(done, 2, "other.toml: no such file")
        (place.folder / "fimi.toml").write_text("[fleet]\ndevises = 4\n")
        done = place.run("dry-run")
        refused(done, 2, "fimi.toml: unknown key 'devises' in [fleet]; did you mean 'devices'?")


def test_version(place: Workplace) -> None:
    done = place.run("--version")
    assert done.stdout.split() == ["fimi,", "version", metadata.version("fimi-testbed")]


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["dry-run", "--devices", "0"], "fleet.devices = 0: expected `int` >= 1"),
            (["dry-run", "--alpha", "0"], "data.alpha = 0.0: expected `float` > 0"),
            (["dry-run", "--alpha", "-1"], "data.alpha = -1.0: expected `float` > 0"),
            (["dry-run", "--strategy", "fedavg"], "run.strategy = 'fedavg'"),
            (["dry-run", "--set", "plan.deadline_s=20ms"], "a number without a unit"),
            (["dry-run", "--set", "plan.deadlines=20"], "did you mean 'deadline_s'?"),
            (["dry-run", "--set", "fleet.boards=['abacus']"], "there are raspberry-pi-4"),
            (["agent", "data", "d.npz"], "Missing option '--index', which device of the fleet"),
            (["broker", "--port", "99999"], "99999 is not in the range 0<=x<=65535"),
            (["dry-run", "--set", "generator.images_max=5"], "is below plan.synthetic_max 500"),
            (["dry-run", "--config", "none.toml"], "none.toml: no such file; 'fimi init'"),
            (["dry-run", "--config", "bad.toml"], "bad.toml: unknown key 'seeds' in [run]"),
            (["dry-run", "--devices", "1000"], "Keys: fleet.devices, data.alpha"),
            (["check", "--set", "data.public_fraction=0.0001"], "leave 0 public"),
            (["agent", "data", "--index", "10", "x.npz"], "there are 10 devices"),
            (
                ["agent", "run", "--index", "1", "--broker", "mqtt://[::1]"],
                "'--id NAME' names this",
            ),
            (["agent", "run", "--id", "a", "--broker", "http://x"], "not mqtt:// or mqtts://"),
            (
                ["generator", "run"],
                "'--broker', the URL of the broker, or '--bundle'",
            ),
            (["coordinator", "run"], "'fimi broker' starts a broker for a trial and prints a line"),
            (["agent", "run", "--id", "a"], "export FIMI_BROKER='mqtt://…'"),
            (["dryrun"], "No such command 'dryrun'. Did you mean 'dry-run'?"),
            (["agent", "docter"], "Did you mean 'doctor'?"),
            (["abacus"], "No such command 'abacus'."),
            (["dry-run", "--devics", "2"], "--devices"),
            (["dry-run", "--format", "xml"], "'xml' is not one of"),
            (["dry-run", "--format", "jsn"], "Did you mean 'json'?"),
            (["dry-run", "--strategy", "fimigenfl"], "did you mean 'fimi-genfl'?"),
            (["calibrate", "--emulated", "raspberrypi4"], "Did you mean 'raspberry-pi-4'?"),
        ],
    )
    def test_refused_before_anything_is_done(
        self, place: Workplace, arguments: list[str], said: str
    ) -> None:
        (place.folder / "bad.toml").write_text("[run]\nseeds = 1\n")
        done = place.run(*arguments)
        assert done.returncode == 2
        assert said in done.stderr.replace("\n", " ")
        assert one_screen(done.stderr)
        assert done.stdout == ""
        assert not (place.folder / "runs").exists()


def every_command(group: click.Group, *names: str) -> Iterator[tuple[str, ...]]:
    yield names
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every_command(command, *names, name)
        else:
            yield (*names, name)
            yield from ((*names, name, more) for more in getattr(command, "commands", ()))


class TestEverywhere:
    @pytest.mark.parametrize("command", [*every_command(main)], ids=" ".join)
    def test_help_and_what_is_said(self, command: tuple[str, ...]) -> None:
        short, long = (CliRunner().invoke(main, [*command, option]) for option in ("-h", "--help"))
        assert (short.exit_code, long.exit_code) == (0, 0)
        assert short.output == long.output
        for option in ("-q, --quiet", "-v, --verbose", "--log-file PATH", "-h, --help"):
            assert option in short.output

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["FILE"], "run FILE -"),
            (["FILE", "--to", "beside"], "run FILE beside"),
            (["-q", "./beside"], "run ./beside -"),
            (["beside", "A"], "beside A"),
            (["-v", "beside", "A"], "beside A"),
            (["--log-file", "beside", "-q", "beside", "A"], "beside A"),
            (["--log-file=beside", "FILE"], "run FILE -"),
            (["--to", "beside", "FILE"], "run FILE beside"),
            (["beside"], "Usage: whole a beside [OPTIONS] X\nTry 'whole a beside --help'"),
            (["-h"], "Commands in place of the first argument:\n  beside  Another one."),
        ],
    )
    def test_a_command_with_others_beside_it(
        self, words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)

        @click.command("a", cls=Branching)
        @click.argument("file")
        @click.option("--to", default="-")
        def itself(file: str, to: str) -> None:
            click.echo(f"run {file} {to}")

        @click.command(cls=Command)
        @click.argument("x")
        def beside(x: str) -> None:
            """Another one."""
            click.echo(f"beside {x}")

        itself.commands["beside"] = beside
        whole = Group("whole", commands={"a": itself})
        assert said in CliRunner().invoke(whole, ["a", *words]).output

    def test_a_group_by_itself_has_the_same_options(self) -> None:
        """The help option is made once, at first use: it must not hang on where that was."""
        child = (
            "from click.testing import CliRunner; from fimi.testbed.commands.nodes import agent; "
            "print(CliRunner().invoke(agent, ['run', '-h']).output)"
        )
        done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
        assert "-h, --help" in done.stdout, done.stdout + done.stderr

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], False),
            (["-v"], True),
            (["agent", "data", "-v"], True),
            (["-q", "agent", "-v", "data"], False),
        ],
    )
    def test_v_and_q_before_and_after_the_command(
        self, place: Workplace, arguments: list[str], said: bool
    ) -> None:
        words = [*arguments]
        words += [name for name in ("agent", "data") if name not in words]
        done = place.run(*words, "--index", "0", "d.npz", "--log-file", "fimi.log")
        assert done.returncode == 0, done.stderr
        assert ("configuration: defaults" in done.stderr) == said
        assert "configuration: defaults" in (place.folder / "fimi.log").read_text("utf-8")
        assert done.stdout.startswith("d.npz: ")  # the result, however little is said

    def test_a_dry_run_and_its_children_obey(self, place: Workplace) -> None:
        run = ("dry-run", *QUICK, "--log-file", "fimi.log")
        done = place.run(*run, "-v", "--name", "loud")
        assert done.returncode == 0, done.stderr
        phase = r"device-01, round 1: compute [\d.]+ virtual s, [\d.]+ J \(emulated, board\)"
        logs = {path.name: path.read_text("utf-8") for path in place.run_logs("loud")}
        assert any(re.search(phase, text) for text in logs.values())
        assert "configuration: defaults" in done.stderr
        (place.folder / "fimi.log").rename(place.folder / "loud.log")

        done = place.run("-q", *run, "--name", "quiet")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert done.stdout.startswith(" ")  # the table of the report comes first
        assert "report: runs/quiet/report.html" in done.stdout
        assert not (place.folder / "runs" / "quiet" / "logs").exists()
        for name in ("fimi.log", "loud.log"):  # the file is the same, whatever was shown
            lines = (place.folder / name).read_text("utf-8").splitlines()
            said = [re.fullmatch(r"\S+ (DEBUG|INFO) +(\w+) +(.*)", line) for line in lines]
            rooms = {match[2] for match in said if match}
            assert {"testbed", "edge_agent", "coordinator"} <= rooms
            text = "\n".join(match[3] for match in said if match)
            assert len(re.findall(phase, text)) == 1
            # who, with how much data, on which board, with which meter
            assert (
                len(re.findall(r"device-01: takes part in run (quiet|loud) with \d+ samples", text))
                == 1
            )
            assert (
                "on raspberry-pi-4 (emulated), joules from emulated:raspberry-pi-4:ina219" in text
            )
            assert text.count(": stopped after 1 round") == 2
            assert "round 1/1: accuracy " in text

    def test_a_log_file_that_cannot_be_written(self, place: Workplace) -> None:
        done = place.run("check", "--log-file", "none/fimi.log")
        refused(done, 3, "--log-file none/fimi.log cannot be written: No such file or directory")
        assert done.stderr.count("cannot be written") == 1
        assert done.stdout == ""

    def test_an_error_is_in_the_log_file(self, place: Workplace) -> None:
        done = place.run("--log-file", "fimi.log", "report", "runs/none")
        assert done.returncode == 3
        line = (place.folder / "fimi.log").read_text("utf-8")
        assert re.fullmatch(r"\S+ ERROR +testbed +runs/none: there is no run here; .*\n", line)


@pytest.mark.skipif(sys.platform != "linux", reason="opens a pseudo-terminal")
class TestTerminal:
    @pytest.mark.parametrize("columns", [80, 120])
    def test_a_report_fits_and_has_colours(
        self, place: Workplace, reference: SharedRun, columns: int
    ) -> None:
        run = str(reference.run_folder)
        code, shown = place.on_a_terminal("report", run, columns=columns)
        assert code == 0
        assert "\x1b[36memulated\x1b[39m" in shown
        plain = re.sub(r"\x1b\[\d+m", "", shown)
        assert "\x1b" not in plain
        lines = [line for line in plain.splitlines() if not line.startswith("report: ")]
        assert max(map(len, lines)) <= columns
        for device in ("device-01", "device-02", "device-03"):
            assert sum(line.startswith(device) for line in lines) == 1  # a row is one line
        if columns == 80:
            _, without = place.on_a_terminal("report", run, environment={"NO_COLOR": "1"})
            assert without == plain

    def test_a_pipe_gets_neither_colours_nor_control_characters(
        self, place: Workplace, reference: SharedRun
    ) -> None:
        done = place.run("report", str(reference.run_folder), environment={"COLUMNS": "200"})
        assert "\x1b" not in done.stdout + done.stderr
        lines = [line for line in done.stdout.splitlines() if not line.startswith("report: ")]
        assert max(map(len, lines)) <= 80

    def test_other_tables_fit_as_well(self, place: Workplace) -> None:
        _, example = place.on_a_terminal("optimise", "--example")
        (place.folder / "p.toml").write_text(example, encoding="utf-8")
        for arguments in (
            ("optimise", "p.toml", "--sweep", "t_max=5,20"),
            ("optimise", "p.toml", "--target-accuracy", "0.9"),
            ("check",),
        ):
            code, shown = place.on_a_terminal(*arguments)
            assert code == 0, shown
            plain = re.sub(r"\x1b\[\d+m", "", shown)
            assert max(map(len, plain.splitlines())) <= 80, arguments


class TestPipe:
    @pytest.mark.parametrize("output", ["text", "json"])
    def test_a_reader_that_leaves_is_no_error(
        self, place: Workplace, reference: SharedRun, output: str
    ) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        arguments = ("report", str(reference.run_folder), "--format", output)
        with os.fdopen(writing) as pipe:
            done = place.run(*arguments, stdout=pipe)
        assert (done.returncode, done.stderr) == (141, "")

    def test_of_a_command_that_prints_piece_by_piece(self, place: Workplace) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing) as pipe:
            done = place.run("check", stdout=pipe)
        assert (done.returncode, done.stderr) == (141, "")


class TestRunFolder:
    def test_a_name_that_is_taken(self, place: Workplace) -> None:
        (place.folder / "runs" / "mine").mkdir(parents=True)
        done = place.run("dry-run", *QUICK, "--name", "mine")
        refused(done, 3, "runs/mine exists; choose another --name or remove that run")
        assert list((place.folder / "runs" / "mine").iterdir()) == []

    def test_below_a_file(self, place: Workplace) -> None:
        (place.folder / "file").write_text("")
        done = place.run("dry-run", *QUICK, "--directory", "file/runs")
        refused(done, 3, "cannot create the run folder file/runs", "Not a directory", "--directory")

    def test_read_only(self, place: Workplace) -> None:
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        (place.folder / "runs").mkdir(mode=0o500)
        done = place.run("dry-run", *QUICK)
        refused(done, 3, "cannot create the run folder", "Permission denied", "--directory")

    @pytest.mark.parametrize(
        ("kilobytes", "said", "left"),
        [
            (8, "run.sqlite", set()),
            (60, "run.sqlite", set()),
            (110, "run.sqlite", {"run.sqlite", "run.sqlite-wal", "run.sqlite-shm"}),
            (
                1200,
                "report.html",
                {"run.sqlite", "model.safetensors", "model.onnx", "model-int8.onnx"},
            ),
        ],
    )
    def test_a_full_disk(self, place: Workplace, kilobytes: int, said: str, left: set[str]) -> None:
        """No file may grow beyond a limit: where that bites is where the disk is full."""

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024,) * 2)

        done = place.run(
            *("dry-run", *QUICK, "--name", "full"),
            environment={"PYTHONDONTWRITEBYTECODE": "1"},  # it would leave compiled halves
            preexec_fn=limit,
        )
        refused(done, 3, said)
        assert re.search("make room on that disk|File too large", done.stderr)
        folder = place.folder / "runs" / "full"
        found = {path.name for path in folder.iterdir()} if folder.exists() else set()
        assert found <= left, found
        if found:
            assert is_whole(folder / "run.sqlite")
            completed = run_value(folder, "status") == "completed"
            assert completed == ("model.safetensors" in found)
        assert place.leftovers() == []


class TestBroker:
    def test_a_taken_port(self, place: Workplace) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for command in (("dry-run", *QUICK), ("broker",)):
                done = place.run(*command, "--port", str(port))
                refused(done, 3, f"port {port} on 127.0.0.1 is taken by another program")
        assert not list((place.folder / "runs").iterdir())
        assert place.leftovers() == []

    @pytest.mark.parametrize(
        "command",
        [
            ("coordinator", "run", *QUICK),
            ("generator", "run"),
            ("agent", "run", "--id", "a", "--no-wait"),
        ],
        ids=lambda command: command[0],
    )
    def test_nobody_there_and_not_let_in(
        self, place: Workplace, command: tuple[str, ...], a_broker: EmbeddedBroker
    ) -> None:
        with socket.socket() as reserved:  # bound, but nobody listens
            reserved.bind(("127.0.0.1", 0))
            nowhere = f"mqtt://127.0.0.1:{reserved.getsockname()[1]}"
            away = place.start(*command, environment={"FIMI_BROKER": nowhere})
            wrong = f"mqtt://fimi:wrong@127.0.0.1:{a_broker.address.port}"
            locked_out = place.start(*command, environment={"FIMI_BROKER": wrong})
            refused(finish(away), 3, f"{nowhere}: cannot be reached", "check host and port")
            done = finish(locked_out)
        refused(done, 3, "check user name and password")
        assert "wrong" not in done.stdout + done.stderr
        assert not list((place.folder / "runs").glob("*"))
        assert place.leftovers() == []


def test_a_deadline_that_nobody_can_meet(place: Workplace) -> None:
    done = place.run("dry-run", *QUICK, "--set", "plan.deadline_s=0.5")
    refused(done, 4, "deadline", "plan.deadline_s is 0.5")
    enough = re.search(r"feasible with plan\.deadline_s of at least (\d+(?:\.\d+)?)", done.stderr)
    assert enough is not None, done.stderr
    assert list((place.folder / "runs").iterdir()) == []
    later = place.run("dry-run", *QUICK, "--set", f"plan.deadline_s={enough[1]}")
    assert later.returncode == 0, later.stderr
    assert len(list((place.folder / "runs").iterdir())) == 1
    assert place.leftovers() == []


class TestGenerator:
    def test_no_weights_there(self, place: Workplace) -> None:
        done = place.run("dry-run", *SMALL, "--set", "generator.weights=nowhere")
        refused(done, 3, "nowhere holds no generator.json", "fimi generator train")
        assert list((place.folder / "runs").iterdir()) == []
        assert place.leftovers() == []

    def test_weights_that_have_seen_other_data(self, place: Workplace) -> None:
        done = place.run("dry-run", *SMALL, "--set", "data.split=random", "--seed", "1")
        refused(done, 3, "may have seen validation, private or test images", "fimi generator train")
        assert list((place.folder / "runs").iterdir()) == []

    def test_training_does_not_overwrite(self, place: Workplace) -> None:
        shipped = Path(str(resources.files("generator_node"))) / "weights" / "digits-writers"
        shutil.copytree(shipped, place.folder / "mine")
        done = place.run("generator", "train", "--out", "mine", "--steps", "1")
        refused(done, 3, "mine holds a generator; choose another --out")


class TestReport:
    def test_of_nothing(self, place: Workplace) -> None:
        refused(place.run("report", "runs/none"), 3, "there is no run here")

    @pytest.mark.parametrize("asked", ["runs/miine", "miine", "mine/"])
    def test_of_a_name_that_is_nearly_right(self, place: Workplace, asked: str) -> None:
        (place.folder / "runs" / "mine").mkdir(parents=True)
        (place.folder / "runs" / "mine" / "run.sqlite").write_text("hello")
        meant = "not a readable run store" if asked == "mine/" else "did you mean runs/mine?"
        refused(place.run("report", asked), 3, meant)

    def test_its_joules_are_those_of_the_last_line_of_the_run(self, reference: SharedRun) -> None:
        lines = [line for line in reference.err.splitlines() if " so far" in line]
        energy = msgspec.convert(reference.result["energy"], Sum)
        assert f" {sum_cell(energy, bare=False)} so far" in lines[-1]

    def test_of_something_else(self, place: Workplace) -> None:
        (place.folder / "run.sqlite").write_text("hello")
        refused(place.run("report", "."), 3, "not a readable run store")


def refused(done: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    for text in said:
        assert text in done.stderr
    assert one_screen(done.stderr), done.stderr
