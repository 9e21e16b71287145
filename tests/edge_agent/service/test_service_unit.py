"""Units for all kinds of boards: what each grants, and that systemd finds them little exposed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from boards_of_files import ORIN_GPU_HZ, gpu, policy
from worlds import Ina226, LaptopBattery, OrinNano, TwoPackages, write

import fimi.energy.host_profile
from fimi.edge_agent.service import rules
from fimi.edge_agent.service.needs import Needs, every_grant, needs_of
from fimi.edge_agent.service.unit import Service, unit
from fimi.energy.clock import VirtualClock
from fimi.energy.cost_model import ComputePoint, ComputeSetting
from fimi.energy.host_profile import HostProfile, load_profile

EXAMPLE = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]
ROOT = Path(__file__).parents[3]
MOST_EXPOSED = 3.0


@pytest.fixture
def profile(tmp_path: Path) -> HostProfile:
    file = tmp_path / "example.toml"
    file.write_text("\n".join(line.strip() for line in EXAMPLE.splitlines()))
    return load_profile(file)


def point(name: str, **setting: object) -> ComputePoint:
    made = msgspec.convert(setting, ComputeSetting)
    return ComputePoint(name=name, seconds_per_sample=0.1, power_w=1.0, setting=made)


def with_points(profile: HostProfile, *points: ComputePoint) -> HostProfile:
    compute = msgspec.structs.replace(profile.board.compute, points=points)
    return msgspec.structs.replace(
        profile, board=msgspec.structs.replace(profile.board, compute=compute)
    )


def emulated(root: Path, profile: HostProfile) -> HostProfile | None:
    return None


def fixed(root: Path, profile: HostProfile) -> HostProfile:
    Ina226(root, VirtualClock())
    return msgspec.structs.replace(profile, meter="hwmon:ina226", frequency_control="none")


def pi_5(root: Path, profile: HostProfile) -> HostProfile:
    write(root / "dev/vcio", "")
    policy(root, 0, 600_000, 1_500_000)
    return msgspec.structs.replace(profile, meter="pmic")


def mini_pc(root: Path, profile: HostProfile) -> HostProfile:
    TwoPackages(root, VirtualClock())
    policy(root, 0, 800_000, 3_000_000)
    write(root / "proc/sys/kernel/perf_event_paranoid", 4)
    return msgspec.structs.replace(profile, meter="auto")


def ina_board(root: Path, profile: HostProfile) -> HostProfile:
    Ina226(root, VirtualClock())
    policy(root, 0, 600_000, 1_500_000)
    policy(root, 4, 600_000, 2_000_000)
    return msgspec.structs.replace(profile, meter="hwmon:ina226")


def jetson(root: Path, profile: HostProfile) -> HostProfile:
    OrinNano(root, VirtualClock())
    policy(root, 0, 115_200, 1_510_400)
    gpu(root, "17000000.gpu", ORIN_GPU_HZ)
    points = (point("a", gpu_hz=306e6, cpu_hz={"policy0": 1.5e9}), point("b", power_mode=1))
    return with_points(msgspec.structs.replace(profile, meter="ina3221"), *points)


def card(root: Path, profile: HostProfile) -> HostProfile:
    for name in ("nvidiactl", "nvidia0", "nvidia1", "nvidia-uvm"):
        write(root / "dev" / name, "")
    return msgspec.structs.replace(profile, meter="nvml:0", frequency_control="none")


def plugged(root: Path, profile: HostProfile) -> HostProfile:
    return msgspec.structs.replace(profile, meter="plug", frequency_control="none")


def laptop(root: Path, profile: HostProfile) -> HostProfile:
    LaptopBattery(root, VirtualClock())
    policy(root, 0, 400_000, 4_000_000)
    changed = msgspec.structs.replace(profile, meter="battery", rate_control="tc")
    return msgspec.structs.replace(changed, replay="/home/lab/power.csv")


def counters(root: Path, profile: HostProfile) -> HostProfile:
    TwoPackages(root, VirtualClock())
    return msgspec.structs.replace(profile, meter="rapl", frequency_control="none")


def everything(root: Path, profile: HostProfile) -> HostProfile:
    write(root / "dev/vcio", "")
    card(root, mini_pc(root, profile))
    changed = msgspec.structs.replace(profile, meter=("rapl", "nvml:0"), rate_control="tc")
    return msgspec.structs.replace(changed, frequency_control="auto")


Make = Callable[[Path, HostProfile], HostProfile | None]
CPU = {f"/sys/devices/system/cpu/cpufreq/policy*/scaling_{end}_freq" for end in ("min", "max")}
GPU = {f"/sys/devices/17000000.gpu/devfreq/17000000.gpu/{end}_freq" for end in ("min", "max")}
BOARDS: dict[str, tuple[Make, dict[str, set[str]]]] = {
    "emulated": (emulated, {}),
    "ina226, fixed clock": (fixed, {"system_calls": {"perf_event_open"}}),
    "raspberry pi 5": (
        pi_5,
        {"devices": {"/dev/vcio"}, "groups": {"video"}, "files": CPU},
    ),
    "mini-pc, rapl": (mini_pc, {"capabilities": {"CAP_PERFMON"}}),
    "ina226": (ina_board, {"files": CPU, "devices": set(), "capabilities": set()}),
    "jetson": (jetson, {"files": CPU | GPU, "devices": set(), "capabilities": set()}),
    "nvidia card": (
        card,
        {"devices": {"/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia1"}, "files": set()},
    ),
    "plug": (plugged, {"devices": set(), "files": set(), "capabilities": set()}),
    "rapl, fixed clock": (counters, {"devices": set(), "capabilities": set()}),
    "everything": (everything, {"capabilities": {"CAP_NET_ADMIN", "CAP_PERFMON"}}),
    "laptop": (laptop, {"capabilities": {"CAP_NET_ADMIN"}, "visible": {"/home/lab/power.csv"}}),
}


ROWS = {
    "emulated": "no board",
    "plug": "a plug or a topic",
    "ina226, fixed clock": "an INA219",
    "rapl, fixed clock": "RAPL, and",
    "nvidia card": "NVIDIA",
    "ina226": "a clock that can be set",
    "jetson": "a clock that can be set",
    "mini-pc, rapl": "RAPL and a clock",
    "raspberry pi 5": "a Raspberry Pi",
    "laptop": "a clock, and",
    "everything": "all of this",
}
"""Where each of them stands in the table of ``docs/boards.md``."""


def documented(board: str) -> float:
    """The exposure of a kind of board, as the table says."""
    (line,) = (
        line
        for line in (ROOT / "docs/boards.md").read_text().splitlines()
        if line.startswith(f"| {ROWS[board]}")
    )
    return float(line.split("|")[-2])


def granted(needs: Needs, kind: str) -> set[str]:
    return {grant.what for grant in getattr(needs, kind)}


@pytest.mark.parametrize("board", BOARDS)
def test_a_board_is_granted_what_it_needs_and_why(
    board: str, tmp_path: Path, profile: HostProfile
) -> None:
    make, wanted = BOARDS[board]
    root = tmp_path / "root"
    root.mkdir()
    made = make(root, profile)
    needs = needs_of(made, root)
    for kind, what in wanted.items():
        assert granted(needs, kind) == what, kind
    if board == "emulated":
        assert needs == Needs()
    service = Service(
        fimi=("/bin/true",),
        config=Path("/etc/fimi/agent.toml"),
        needs=needs,
        updates=Path("/var/lib/fimi-versions"),
        prefix=(Path("/home/pi/venv"), Path("/usr")),
    )
    text = unit(service)
    for grant in every_grant(needs):
        if grant in needs.files:  # they stand in the rules
            assert f"z {grant.what} {grant.mode} root fimi -" in rules.tmpfiles(needs)
            continue
        line = next(
            line for line in text.splitlines() if re.search(rf"=.*{re.escape(grant.what)}", line)
        )
        before = text[: text.index(line)].splitlines()
        comments = [each for each in before if each.startswith("#")]
        assert any(grant.why[1:] in each for each in comments), grant
    assert ("CapabilityBoundingSet=\n" in text) == (not needs.capabilities)
    assert "BindReadOnlyPaths=/home/pi/venv" in text
    assert ("PrivateDevices=yes" in text) == (not needs.devices)
    assert ("\nPrivateUsers=yes\n" in text) == (
        board in ("emulated", "plug", "ina226, fixed clock")
    )
    assert ("# PrivateUsers is left out" in text) == ("\nPrivateUsers=yes\n" not in text)
    verify(text, tmp_path)
    plain = Service(fimi=("/bin/true",), config=service.config, needs=needs)
    (tmp_path / "fimi-agent.service").write_text(unit(plain))
    said = exposure(tmp_path / "fimi-agent.service")
    if systemd() == 252:  # another version may count in another way
        assert said == documented(board)


def systemd() -> int:
    """The version of systemd here."""
    said = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True)
    return int(said.stdout.split()[1])


def exposure(file: Path) -> float:
    """What systemd says of a unit, 0 to 10."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(file)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"exposure level for fimi-agent.service: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return float(found[1])


def verify(text: str, folder: Path) -> None:
    """What systemd says of a unit: it takes it without a word, and it is not much exposed."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    file = folder / "fimi-agent.service"
    file.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(file)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if str(file) in line or "fimi" in line]
    assert said == [], done.stderr
    assert done.returncode == 0, done.stderr
    assert exposure(file) <= MOST_EXPOSED


def test_power_modes_and_a_share_of_the_time_are_named_as_missing(
    tmp_path: Path, profile: HostProfile
) -> None:
    made = with_points(profile, point("a", power_mode=2), point("b", duty_cycle=0.5))
    said = needs_of(made, tmp_path).without
    assert any("nvpmodel -m" in words for words in said)
    assert any("cgroup" in words for words in said)


def test_counters_are_opened_by_their_real_paths(tmp_path: Path, profile: HostProfile) -> None:
    world = TwoPackages(tmp_path, VirtualClock())
    made = msgspec.structs.replace(profile, meter="rapl", frequency_control="none")
    needs = needs_of(made, tmp_path)
    opened = {tmp_path / each.what.lstrip("/") for each in needs.files}
    assert opened >= {file.resolve() for file in world.files()}
    assert all(each.mode == "0440" for each in needs.files)
    assert 'SUBSYSTEM=="powercap"' in rules.udev(needs, "/etc/tmpfiles.d/fimi-agent.conf")
    assert "CVE-2020-8694" in rules.tmpfiles(needs)
    closed = msgspec.structs.replace(profile, meter="plug", frequency_control="none")
    assert needs_of(closed, tmp_path).files == ()
    assert rules.tmpfiles(needs_of(closed, tmp_path)) == ""


def test_nothing_of_root_is_in_a_unit_without_updates() -> None:
    text = unit(Service(fimi=("/usr/bin/fimi",), config=Path("/etc/fimi/agent.toml")))
    assert "=+" not in text
    assert "PYTHONPATH" not in text
    assert "MemoryDenyWriteExecute=yes" in text
    assert "ProtectHome=yes" in text
