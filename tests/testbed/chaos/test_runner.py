"""Scripts that run: real processes, real sockets, a real disk that is full."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import psutil
import pytest
from click.testing import CliRunner

from fimi.messaging.bundle import Bundle
from fimi.testbed.chaos.processes import Target
from fimi.testbed.chaos.runner import Chaos, Incident
from fimi.testbed.chaos.script import Disk, ProcessPart, ScriptError, parse_script
from fimi.testbed.chaos.surroundings import (
    FaultError,
    OwnClock,
    OwnDisk,
    SecretFile,
    limit_files,
    scratch_folder,
)
from fimi.testbed.cli import main

TICKER = """
import os, sys, time
while True:
    try:
        with open(sys.argv[1], "ab") as file:
            file.write(b"x" * 5000)
        said = "written"
    except OSError as error:
        said = os.strerror(error.errno)
    os.write(1, f"{time.time():.3f} {time.monotonic():.3f} {said}\\n".encode())
    time.sleep(0.02)
"""


def run(text: str, folder: Path, **options) -> list[Incident]:
    """Run a script to its end; what it has logged."""
    log = folder / "faults.jsonl"
    with Chaos(parse_script(text, "script"), log=log, **options) as chaos:
        chaos.run(lambda: False, for_s=1.2)
    return [msgspec.json.decode(line, type=Incident) for line in log.read_bytes().splitlines()]


def test_a_killed_process_is_started_again_and_a_stopped_one_goes_on(tmp_path):
    seen = run(
        """
        [process.a]
        command = "sleep 99"
        [[fault]]
        kind = "kill"
        process = "a"
        at_s = 0.3
        for_s = 0.2
        [[fault]]
        kind = "stop"
        process = "a"
        at_s = 0.6
        for_s = 0.5
        [[fault]]
        kind = "stop"
        process = "a"
        at_s = 0.65
        for_s = 0.2
        """,
        tmp_path,
    )
    assert [(each.phase, each.kind) for each in seen] == [
        ("start", ""), ("begin", "kill"), ("end", "kill"), ("begin", "stop"), ("skipped", "stop"),
        ("end", "stop"), ("stop", ""),
    ]  # fmt: skip
    killed, back, stopped = seen[1].what["pid"], seen[2].what["pid"], seen[3].what["pid"]
    assert killed != back == stopped
    assert not psutil.pid_exists(killed) and not psutil.pid_exists(back)
    assert seen[1].at_s >= 0.3 and seen[1].at_s + 0.2 <= seen[2].at_s + 0.002


def test_what_it_has_started_ends_with_it(tmp_path):
    """It is killed itself: a leash kills its commands."""
    script = tmp_path / "s.toml"
    script.write_text('[process.a]\ncommand = "sleep 99"\n')
    words = [sys.executable, "-m", "fimi.testbed.cli", "chaos", "run", str(script)]
    chaos = psutil.Popen(words, stdout=subprocess.DEVNULL)
    limit_s = time.monotonic() + 30.0
    while not (found := [p for p in chaos.children(recursive=True) if p.name() == "sleep"]):
        assert time.monotonic() < limit_s
        time.sleep(0.05)
    chaos.kill()
    chaos.wait()
    assert psutil.wait_procs(found, timeout=10.0)[1] == []


def test_a_process_by_its_id_is_never_another_one(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
    try:
        seen = run(
            f"[process.a]\npid = {child.pid}\n"
            '[[fault]]\nkind = "stop"\nprocess = "a"\nat_s = 0.0\nfor_s = 0.3\n'
            '[[fault]]\nkind = "kill"\nprocess = "a"\nat_s = 0.5\n'
            '[[fault]]\nkind = "kill"\nprocess = "a"\nat_s = 0.8\n',
            tmp_path,
        )
        assert child.wait(10) == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()
    assert [each.phase for each in seen] == ["start", "begin", "end", "begin", "failed", "stop"]


def test_links_are_cut_slowed_and_restored_and_it_is_all_logged(tmp_path):
    server = socket.create_server(("127.0.0.1", 0))
    text = f"""
    [proxy.wifi]
    broker = "127.0.0.1:{server.getsockname()[1]}"
    up = {{rate_bps = 5e6, delay_s = 0.25}}
    [[fault]]
    kind = "slow"
    proxy = "wifi"
    up_bps = 1e6
    at_s = 0.1
    [[fault]]
    kind = "delay"
    proxy = "wifi"
    delay_s = 0.5
    at_s = 0.2
    for_s = 0.2
    [[fault]]
    kind = "messages"
    proxy = "wifi"
    duplicate = 1.0
    at_s = 0.1
    [[fault]]
    kind = "half-open"
    proxy = "wifi"
    at_s = 0.3
    [[fault]]
    kind = "freeze"
    proxy = "wifi"
    at_s = 0.5
    for_s = 0.1
    [[fault]]
    kind = "cut"
    proxy = "wifi"
    every_s = 0.4
    """
    shapes = []
    with Chaos(
        parse_script(text, "script"),
        told=lambda incident: shapes.append((incident, chaos.proxies["wifi"].shapes[0])),
    ) as chaos:
        wifi = chaos.proxies["wifi"]
        client = socket.create_connection(wifi.address)
        chaos.run(lambda: False, for_s=1.0)
        assert wifi.shapes[0].rate_bps == 5e6 and wifi.shapes[0].delay_s == 0.25
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    client.close()
    server.close()
    found = {(each.kind, each.phase): (each, shape) for each, shape in shapes}
    assert {kind for kind, phase in found if phase == "begin"} == {
        "slow", "delay", "messages", "half-open", "freeze", "cut",
    }  # fmt: skip
    assert {kind for kind, phase in found if phase == "end"} == {
        "slow", "delay", "messages", "freeze",
    }  # fmt: skip
    assert found["slow", "begin"][1].rate_bps == 1e6
    assert found["delay", "begin"][1].delay_s == 0.5
    ended = found["delay", "end"][1]
    assert (ended.rate_bps, ended.delay_s) == (1e6, 0.25)  # the link is still slow
    assert found["half-open", "begin"][0].what["connections"] == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="namespaces are of Linux")
def test_a_full_disk_a_file_limit_and_a_clock_are_what_the_process_sees(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    try:
        OwnDisk(inside, 65536).close()
        OwnClock(tmp_path, "probe")
    except FaultError as error:
        pytest.skip(str(error))
    ticker, said = tmp_path / "ticker.py", tmp_path / "said"
    ticker.write_text(TICKER)
    reader, writer = os.pipe()  # what it prints goes to no file, which would be limited as well
    cat = subprocess.Popen(["cat"], stdin=reader, stdout=said.open("wb"))
    os.close(reader)
    part = ProcessPart(
        command=(sys.executable, str(ticker), str(inside / "data")),
        output=f"/proc/{os.getpid()}/fd/{writer}",
        own_clock=True,
        disk=Disk(folder=str(inside), size_bytes=4_000_000),
    )
    target = Target("a", part, {}, tmp_path)

    def await_line(wanted: str, days: int = 0) -> None:
        """Wait for a line that it prints from now on."""
        seen, deadline_s = len(said.read_text().splitlines()), time.monotonic() + 30.0
        while True:
            lines = [line.split(" ", 2) for line in said.read_text().splitlines()[seen:]]
            shifts = [(float(line[0]) - time.time()) / 86400 for line in lines if len(line) == 3]
            if any(
                line[2] == wanted and round(shift) == days
                for line, shift in zip(lines, shifts, strict=False)
            ):
                return
            assert time.monotonic() < deadline_s, (wanted, lines[-3:])
            time.sleep(0.02)

    try:
        target.start()
        assert target.disk is not None and target.clock is not None
        await_line("written")
        assert target.disk.fill() > 3_000_000
        await_line("No space left on device")
        target.kill()
        target.start()  # it finds its disk again, as full as it was
        await_line("No space left on device")
        target.disk.free()
        await_line("written")
        target.limit_files(0)
        await_line("File too large")
        target.limit_files(None)
        await_line("written")
        target.clock.jump(-86400.0)
        await_line("written", days=-1)
        target.clock.jump(0.0)
        await_line("written")
    finally:
        target.close()
        os.close(writer)
        cat.wait(10)
    assert target.starts == 2 and not target.alive
    assert not list(inside.iterdir())  # it was on a disk of its own
    ticks = [float(line.split(" ")[1]) for line in said.read_text().splitlines()]
    assert ticks == sorted(ticks)


def test_a_command_reaches_the_broker_through_the_link_by_url_or_bundle(tmp_path, monkeypatch):
    monkeypatch.setenv("FIMI_BUNDLE", "of-this-process")
    bundle = Bundle(fleet="f", name="d1", role="device", host="broker", port=1883, password="p")
    bundle.write(tmp_path / "d1.bundle")
    code = (
        "import os, pathlib, sys\n"
        "bundle = os.environ.get('FIMI_BUNDLE', 'none')\n"
        "text = pathlib.Path(bundle).read_text() if bundle != 'none' else ''\n"
        "print(os.environ.get('FIMI_BROKER', 'none'), bundle, text, file=open(sys.argv[1], 'w'))\n"
    )
    (tmp_path / "look.py").write_text(code)
    parts = {
        name: f'command = "{sys.executable} {tmp_path}/look.py {tmp_path}/{name}"\n{more}'
        for name, more in (
            ("url", 'through = "wifi"'),
            ("bundled", f'through = "wifi"\nbundle = "{tmp_path}/d1.bundle"'),
            ("near", f'bundle = "{tmp_path}/d1.bundle"'),
        )
    }
    text = "\n".join(f"[process.{name}]\n{part}" for name, part in parts.items())
    script = parse_script(f'[proxy.wifi]\nbroker = "127.0.0.1:1"\n{text}', "script")
    with Chaos(script, broker="mqtt://u:p@127.0.0.1:1") as chaos:
        port = chaos.proxies["wifi"].address[1]
        deadline_s = time.monotonic() + 30.0
        chaos.run(
            lambda: (
                not any(each.alive for each in chaos.targets.values())
                or time.monotonic() > deadline_s
            )
        )
    assert (tmp_path / "url").read_text().split() == [f"mqtt://u:p@127.0.0.1:{port}", "none"]
    bundled, near = ((tmp_path / name).read_text() for name in ("bundled", "near"))
    assert bundled.startswith("none /") and f"port = {port}" in bundled
    assert 'host = "127.0.0.1"' in bundled and 'password = "p"' in bundled
    assert near.startswith(f"none {tmp_path}/d1.bundle") and 'host = "broker"' in near


@pytest.mark.skipif(sys.platform != "linux", reason="files without a name")
def test_no_key_outlives_a_chaos_that_is_killed(tmp_path):
    """Its commands and their children read the bundle; the disk never sees it."""
    secret = "only-in-memory-9f3c"
    folder = tmp_path / "tmp"
    folder.mkdir()
    bundle = Bundle(fleet="f", name="d1", role="device", host="b", port=1883, password=secret)
    bundle.write(tmp_path / "d1.bundle")
    (tmp_path / "read.py").write_text(
        "import os, subprocess, sys, time\n"
        "subprocess.run(['cp', os.environ['FIMI_BUNDLE'], sys.argv[1]])\n"
        "time.sleep(99)\n"
    )
    (tmp_path / "s.toml").write_text(
        '[proxy.wifi]\nbroker = "127.0.0.1:1"\n[process.d1]\nthrough = "wifi"\n'
        f'command = "{sys.executable} {tmp_path}/read.py {tmp_path}/copy"\n'
        f'bundle = "{tmp_path}/d1.bundle"\n'
    )
    words = [sys.executable, "-m", "fimi.testbed.cli", "chaos", "run", str(tmp_path / "s.toml")]
    chaos = subprocess.Popen(words, env={**os.environ, "TMPDIR": str(folder)})
    try:
        copy, deadline_s = tmp_path / "copy", time.monotonic() + 60.0
        while not copy.exists() or secret not in copy.read_text():
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        copy.unlink()
    finally:
        chaos.kill()
        chaos.wait()
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in left if secret in path.read_text()] == ["d1.bundle"]


def test_what_a_killed_chaos_has_left_goes_with_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "import sys, time, tempfile\n"
        "from fimi.testbed.chaos.surroundings import scratch_folder\n"
        "tempfile.tempdir = sys.argv[1]\n"
        "with scratch_folder() as folder:\n"
        "    (folder / 'x').write_text('x')\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(99)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    killed, lives = (subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in "ab")
    try:
        folders = [Path(each.stdout.readline().strip()) for each in (killed, lives)]
        for folder in folders:
            os.utime(folder / "running", (1.0, 1.0))
        killed.kill()
        killed.wait()
        precious = tmp_path / "precious"
        precious.write_text("of mine")
        os.utime(precious, (1.0, 1.0))
        trap = tmp_path / "fimi-chaos-trap"  # a folder that others can write into
        trap.mkdir()
        trap.chmod(0o777)
        (trap / "running").symlink_to(precious)
        with scratch_folder() as own:
            left = set(tmp_path.iterdir())
            assert left == {own, folders[1], trap, precious}
            assert precious.read_text() == "of mine"
            assert (folders[1] / "x").exists()
        assert not own.exists()
    finally:
        for each in (killed, lives):
            each.kill()
            each.communicate()


@pytest.mark.skipif(os.geteuid() != 0 or not hasattr(os, "memfd_create"), reason="becomes another")
def test_a_secret_is_for_its_user_and_can_be_handed_into_a_namespace(tmp_path):
    def shown(user: int, file: SecretFile, *before: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*before, "cat", file.path],
            user=user, pass_fds=file.handles, capture_output=True, text=True, cwd="/",
        )  # fmt: skip

    file = SecretFile("of root", tmp_path / "spare")
    assert shown(0, file).stdout == "of root"
    assert shown(4711, file).returncode != 0
    file.close()
    assert not Path(file.path).exists()
    handed = SecretFile("handed over", tmp_path / "spare", own_users=True)
    assert shown(0, handed, "unshare", "--user", "--map-root-user").stdout == "handed over"
    handed.close()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_done_says_why(tmp_path, monkeypatch):
    with pytest.raises(FaultError, match="no such folder"):
        OwnDisk(tmp_path / "nowhere", 65536)
    with pytest.raises(FaultError, match=r"process 999999999 cannot be limited|Linux only"):
        limit_files(999_999_999, 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FaultError, match="C compiler"):
        OwnClock(tmp_path, "a")
    with pytest.raises(FaultError, match=r"process\.a cannot be started: there is no program"):
        run('[process.a]\ncommand = "no-such-program"', tmp_path)
    with pytest.raises(ScriptError, match="neither --broker nor FIMI_BROKER"):
        Chaos(parse_script("[proxy.wifi]", "x"))
    for place in ("127.0.0.1", "mqtts://desk:8883"):
        with pytest.raises(ScriptError, match="write it as host:port"):
            Chaos(parse_script(f'[proxy.wifi]\nbroker = "{place}"', "x"))


def test_the_command_runs_another_one_and_ends_with_its_status(tmp_path):
    script, log = tmp_path / "s.toml", tmp_path / "log"
    script.write_text('[proxy.wifi]\n[[fault]]\nkind = "cut"\nproxy = "wifi"\nat_s = 0.1\n')
    code = "import os, time; time.sleep(0.4); raise SystemExit(len(os.environ['FIMI_BROKER']))"
    words = ["chaos", "run", str(script), "--broker", "mqtt://u:p@127.0.0.1:1", "--log", str(log)]
    done = CliRunner().invoke(main, [*words, "--", sys.executable, "-c", code])
    assert done.exit_code == len("mqtt://u:p@127.0.0.1:1"), done.output
    assert "export FIMI_BROKER='mqtt://u:p@127.0.0.1:" in done.output
    assert b'"kind":"cut"' in log.read_bytes()
    plan = CliRunner().invoke(main, ["chaos", "plan", str(script)])
    assert plan.output.split() == ["0.1", "s", "cut", "wifi"]
    shown = CliRunner().invoke(main, ["chaos", "example"]).output
    script.write_text(shown)
    assert CliRunner().invoke(main, ["chaos", "plan", str(script)]).exit_code == 0
    wrong = CliRunner().invoke(main, ["chaos", "plan", str(tmp_path / "none.toml")])
    assert wrong.exit_code == 2 and "fimi chaos example" in wrong.output
