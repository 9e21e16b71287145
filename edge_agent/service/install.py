"""Makes a machine a board: user, configuration, rules and unit; and takes all of it away again.

* :func:`install`    all of it; once more, it updates what is there
* :func:`uninstall`  leaves configuration and state, with ``purge`` nothing

Everything is written below a root, so that the image of a card can be made on another machine; on
the running machine the service is started as well. The agent's own folders (``/var/lib/fimi``,
``/var/cache/fimi``, ``/run/fimi``) are made by the service manager.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from fimi.edge_agent.service.needs import USER, Grant, Needs, in_home, needs_of
from fimi.edge_agent.service.placing import RECORD, Placing, read_record
from fimi.edge_agent.service.roots import NotRootsError, Roots, own_kernel_file, part_name
from fimi.edge_agent.service.rules import CLOSED, TMPFILES, UDEV, agent_toml, tmpfiles, udev
from fimi.edge_agent.service.unit import UNIT, Service, unit
from fimi.edge_agent.service.versions import Trust, write_trust
from fimi.energy.control.programs import Run, run_program
from fimi.energy.host_profile import load_profile
from fimi.errors import InputError, SurroundingsError
from fimi.messaging.address import BrokerAddress
from fimi.messaging.bundle import Bundle
from fimi.messaging.questions import Allowed

CONFIG = "etc/fimi/agent.toml"
BUNDLE = "etc/fimi/agent.bundle"
PROFILE = "etc/fimi/profile/board.toml"
UNIT_FILE = f"etc/systemd/system/{UNIT}"
_LINK = f"etc/systemd/system/multi-user.target.wants/{UNIT}"
_TMPFILES_FILE = f"etc/tmpfiles.d/{TMPFILES}"
_UDEV_FILE = f"etc/udev/rules.d/{UDEV}"
CACHE = "/var/cache/fimi"
CALIBRATED = "/var/lib/fimi/calibrated"
VERSIONS = "/var/lib/fimi-versions"
_STATE = ("var/lib/fimi", VERSIONS.lstrip("/"))


class InstallError(SurroundingsError):
    """The agent cannot be installed or removed; the message says why and what to do."""

    code = "F009"


class InstallInputError(InputError, ValueError):
    """What was given for an installation cannot be used."""

    code = "F008"


class InstallOrder(Struct, frozen=True, kw_only=True):
    """What is known of a board when its agent is installed; ``None``: as it was installed before.

    Attributes:
        bundle: file with its credentials.
        broker: URL of the broker, in place of a bundle.
        host_profile: file of its profile.
        data: where its data lie.
        allow: what may be asked of it from afar.
        options: further options of ``fimi agent run``, by key.
    """

    bundle: Path | None = None
    broker: str | None = None
    host_profile: Path | None = None
    data: Path | None = None
    allow: tuple[Allowed, ...] | None = None
    options: Mapping[str, Any] = {}


def install(
    board: InstallOrder,
    *,
    root: Path = Path("/"),
    force: bool = False,
    start: bool = True,
    run: Run = run_program,
) -> list[str]:
    """Install the agent of this board as a service, or update what is installed.

    Args:
        board: what is known of it.
        root: root of the file system.
        force: whether files that were changed by hand are replaced.
        start: whether the service is started.
        run: runs programs.

    Returns:
        What was done, a line each.

    Raises:
        InstallInputError: neither bundle nor broker is known, or a file cannot be used.
        InstallError: not root, or a program failed.
        NotRootsError: somebody else can change what root relies on.
        ProfileError, BundleError: as their modules say.
    """
    _require_root(root)
    placing = Placing(root, force=force)
    before = _values(root)
    bundle = _bundle(board, root)
    values = _together(before, _given(board, before))
    if "bundle" not in values and "broker" not in values:
        raise InstallInputError(
            "give the board's credentials: --bundle FILE ('fimi fleet enroll NAME' makes one)"
        )
    _require_protection(values, bundle)
    allow = tuple(values.get("allow", ()))
    profile_data = None if board.host_profile is None else board.host_profile.read_bytes()
    if board.host_profile is not None:
        load_profile(board.host_profile)
    if "update" in allow and (bundle is None or not bundle.update_key):
        raise InstallInputError(
            "--allow update: the bundle names no key for updates (update_key); enroll the board in "
            "a fleet that has one"
        )
    _service(values, root, board.host_profile)  # what cannot stand in a unit changes nothing
    owner = _user(root, placing, run)
    try:
        if board.bundle is not None:
            placing.put(BUNDLE, board.bundle.read_bytes(), mode=0o640, owner=(0, owner[1]))
        if profile_data is not None:
            placing.put(PROFILE, profile_data, mode=0o640, owner=(0, owner[1]))
        if values != before or not (root / CONFIG).exists():
            placing.put(CONFIG, agent_toml(values), mode=0o640, owner=(0, owner[1]))
        service = _service(values, root)
        _place_rules(placing, service.needs)
        placing.put(UNIT_FILE, unit(service))
        _link(placing)
        if bundle is not None and "update" in allow:
            placing.folder(VERSIONS.lstrip("/"))
            trust = Trust(fleet=bundle.fleet, update_key=bundle.update_key)
            write_trust(root / VERSIONS.lstrip("/"), trust)
    finally:
        placing.close()
    said = [*placing.said, *(f"note: {words}" for words in service.needs.without)]
    if root == Path("/") and service.updates is not None:
        said += _code_of_others()
    said += _start(root, run) if start else []
    if root != Path("/") and not (program := root / service.fimi[0].lstrip("/")).exists():
        said.append(
            f"note: the unit starts {service.fimi[0]}, and there is no {program}: install fimi "
            "there at that path, or run this command with the fimi of that system"
        )
    return said


def uninstall(*, root: Path = Path("/"), purge: bool = False, run: Run = run_program) -> list[str]:
    """Remove the agent's service; with ``purge`` its configuration, state and user as well.

    Returns:
        What was done and what stays, a line each.

    Raises:
        InstallError: not root, or nothing is installed.
    """
    _require_root(root)
    record = read_record(root)
    if not record.files and not (root / UNIT_FILE).exists():
        raise InstallError("no agent is installed here")
    said = []
    if _runs_systemd(root):
        said += _told(run, ["systemctl", "disable", "--now", UNIT])
    _close(root)
    for path in (_LINK, UNIT_FILE, _TMPFILES_FILE, _UDEV_FILE):
        if Roots(root).remove(path):
            said.append(f"/{path} removed")
        record.files.pop(path, None)
    shutil.rmtree(root / CACHE.lstrip("/"), ignore_errors=True)
    if _runs_systemd(root):
        said += _told(run, ["systemctl", "daemon-reload"])
        said += _told(run, ["udevadm", "control", "--reload"])
    if purge:
        said += _purge(root, list(record.files), run, made_user=record.made_user)
        record.files.clear()
    for folder in sorted(record.folders, key=len, reverse=True):
        with contextlib.suppress(OSError):  # others have put something into it
            (root / folder).rmdir()
    if not purge:
        placing = Placing(root)
        placing.record = record
        placing.close()
        said.append(
            f"/etc/fimi, /{_STATE[0]} and the user {USER} stay: credentials, configuration and "
            "what is not reported yet; 'fimi agent uninstall --purge' removes them"
        )
    return said


def preview(board: InstallOrder, *, root: Path = Path("/")) -> str:
    """The unit that an installation would write; nothing is changed.

    Raises:
        ProfileError, BundleError, InstallInputError: as :func:`install`.
    """
    before = _values(root)
    values = _together(before, _given(board, before))
    if board.host_profile is not None:
        return unit(_service(values, root, board.host_profile))
    return unit(_service(values, root))


def fimi_command() -> tuple[str, ...]:
    """The words that start this fimi."""
    script = Path(sys.prefix) / "bin" / "fimi"
    if script.exists():
        return (str(script),)
    return (sys.executable, "-m", "fimi.testbed.cli")


def _service(values: Mapping[str, Any], root: Path, profile_file: Path | None = None) -> Service:
    """How the agent is run; its profile is the installed one if none is given."""
    named = values.get("host_profile")
    if named is not None and profile_file is None:
        profile_file = root / str(named).lstrip("/")
        Roots(root).read(str(named))  # else its owner decides what the agent is granted
    profile = None if profile_file is None else load_profile(profile_file)
    allow = values.get("allow", ())
    code = Path(str(importlib.resources.files("fimi"))).resolve().parent
    needs = needs_of(profile, root)
    if in_home(Path(values.get("data", "/"))):
        seen = Grant(what=str(values["data"]), why="its data lie there")
        needs = msgspec.structs.replace(needs, visible=(*needs.visible, seen))
    prefix = tuple(dict.fromkeys((Path(sys.prefix), Path(sys.base_prefix).resolve(), code)))
    command = fimi_command()
    for text in (*command, *map(str, prefix), *(each.what for each in needs.visible)):
        _require_plain(text)
    return Service(
        fimi=command,
        config=Path("/", CONFIG),
        needs=needs,
        updates=Path(VERSIONS) if "update" in allow else None,
        prefix=prefix,
        compiles=importlib.util.find_spec("torch") is not None,
    )


def _code_of_others() -> list[str]:
    """That somebody but root can change the code that root runs around the agent."""
    try:
        with Roots(Path("/")).folder(str(Path(sys.prefix).resolve())):
            return []
    except NotRootsError as error:
        return [f"note: root runs code in {sys.prefix} before each start of the agent: {error}"]


def _require_plain(path: str) -> None:
    """Refuse a path that would be more than a path in a unit.

    Raises:
        InstallInputError: it has a space, a line break, or what systemd reads in another way.
    """
    if not path.isprintable() or set(path) & set(" %:;\"'\\"):
        raise InstallInputError(
            f"the path {path!r} cannot stand in a systemd unit: choose one without spaces, quotes "
            "and the characters % : ; \\"
        )


def _values(root: Path) -> dict[str, Any]:
    """What the installed configuration says; nothing if there is none.

    Raises:
        InstallInputError: it cannot be read.
    """
    try:
        if (data := Roots(root).read(CONFIG)) is None:
            return {}
        return dict(msgspec.toml.decode(data, type=dict[str, Any]))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InstallInputError(f"/{CONFIG}: {error}; mend it or remove it") from error


def _given(board: InstallOrder, before: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that follow from what was given."""
    values: dict[str, Any] = dict(board.options)
    if board.bundle is not None:
        values["bundle"] = f"/{BUNDLE}"
    if board.broker is not None:
        values["broker"] = board.broker
    if board.host_profile is not None:
        values["host_profile"] = f"/{PROFILE}"
    if "host_profile" in {**before, **values} and "calibrated" not in before:
        values["calibrated"] = CALIBRATED
    if board.data is not None:
        values["data"] = str(board.data.absolute())
    if "cache" not in before:
        values["cache"] = CACHE
    if board.allow is not None:
        values["allow"] = list(board.allow)
        if "update" in board.allow:
            values["versions"] = VERSIONS
    return values


def _together(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, and what was there before and still holds: a broker is named in one way."""
    replaced: tuple[str, ...] = ()
    if "bundle" in given:
        replaced = ("broker", "id", "fleet", "insecure")
    elif "broker" in given:
        replaced = ("bundle",)
        if given["broker"] != before.get("broker"):
            replaced = ("bundle", "insecure")  # which was said of another one
    return {**{key: value for key, value in before.items() if key not in replaced}, **given}


def _bundle(board: InstallOrder, root: Path) -> Bundle | None:
    """The credentials that are given, or those that are installed."""
    path = board.bundle
    if path is None:
        path = root / BUNDLE if (root / BUNDLE).exists() else None
    if path is None:
        return None
    bundle = Bundle.read(path)
    if bundle.role != "device":
        raise InstallInputError(
            f"{path} is the bundle of the {bundle.role} {bundle.name}, not of a device: 'fimi "
            "fleet enroll NAME' makes one"
        )
    return bundle


def _require_protection(values: Mapping[str, Any], bundle: Bundle | None) -> None:
    """Refuse a broker that the agent would refuse at each of its starts.

    Raises:
        InstallInputError: what is sent to it is exposed, or its URL is wrong.
    """
    try:
        address = None if "broker" not in values else BrokerAddress.parse(str(values["broker"]))
    except ValueError as error:
        raise InstallInputError(str(error)) from error
    if "bundle" in values and bundle is not None:
        address = bundle.address()
    if address is not None and (why := address.exposed()) and not values.get("insecure"):
        raise InstallInputError(
            f"{address}: {why}. Give the board a bundle ('fimi fleet enroll NAME'), or say "
            "--insecure on a network that you trust"
        )


def _user(root: Path, placing: Placing, run: Run) -> tuple[int, int]:
    """Numbers of the agent's user and group, which are made if needed."""
    if (found := _numbers(root)) is not None:
        return found
    elsewhere = [] if root == Path("/") else ["--prefix", str(root)]
    done = run(
        [
            *("useradd", *elsewhere, "--system", "--user-group", "--no-create-home"),
            *("--home-dir", "/var/lib/fimi", "--shell", "/usr/sbin/nologin"),
            *("--comment", "FIMI edge agent", USER),
        ]
    )
    if (found := _numbers(root)) is None:
        raise InstallError(f"the user {USER} could not be made: {done.error or 'useradd'}")
    placing.record.made_user = True
    placing.said.append(f"user {USER} made")
    return found


def _numbers(root: Path) -> tuple[int, int] | None:
    """Numbers of the user and its group in the system below a root."""
    try:
        lines = (root / "etc/passwd").read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        parts = line.split(":")
        if parts[0] == USER and len(parts) > 3:
            return int(parts[2]), int(parts[3])
    return None


def _has_group(root: Path) -> bool:
    """Whether the agent's group is in the system below a root."""
    try:
        lines = (root / "etc/group").read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return False
    return any(line.startswith(f"{USER}:") for line in lines)


def _place_rules(placing: Placing, needs: Needs) -> None:
    texts = {_TMPFILES_FILE: tmpfiles(needs), _UDEV_FILE: udev(needs, f"/{_TMPFILES_FILE}")}
    for path, text in texts.items():
        if text:
            placing.put(path, text)
        else:
            placing.drop(path)


def _link(placing: Placing) -> None:
    """Let the service begin at every boot."""
    placing.link(_LINK, f"../{UNIT}")


def _start(root: Path, run: Run) -> list[str]:
    """Put rules and unit into force on the running machine."""
    if not _runs_systemd(root):
        return ["systemd does not run here: the agent begins at the next boot"]
    said = []
    if (root / _TMPFILES_FILE).exists():
        said += _told(run, ["systemd-tmpfiles", "--create", f"/{_TMPFILES_FILE}"])
    said += _told(run, ["udevadm", "control", "--reload"])
    said += _told(run, ["systemctl", "daemon-reload"])
    failed = _told(run, ["systemctl", "restart", "--no-block", UNIT])
    said += failed or [f"{UNIT} started: systemctl status {UNIT}; journalctl -u {UNIT} -f"]
    return said


def _told(run: Run, words: list[str]) -> list[str]:
    """Run a program of the system; what it says if it fails."""
    done = run(words)
    return [f"{' '.join(words)}: {done.error}"] if done.code else []


def _runs_systemd(root: Path) -> bool:
    return root == Path("/") and Path("/run/systemd/system").is_dir()


def _close(root: Path) -> None:
    """Give kernel files the permissions back that they had."""
    try:
        lines = (root / _TMPFILES_FILE).read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        parts = line.split()
        if len(parts) < 3 or parts[0] != "z" or parts[2] not in CLOSED:
            continue
        for path in root.glob(parts[1].lstrip("/")):
            with contextlib.suppress(OSError):
                own_kernel_file(path, CLOSED[parts[2]], (0, 0))


def _purge(root: Path, files: list[str], run: Run, *, made_user: bool) -> list[str]:
    """Remove configuration, state and user."""
    said = []
    for path in (*files, RECORD):
        place = root / path
        for name in (*(place.name + end for end in ("", ".new", ".old")), part_name(place.name)):
            place.with_name(name).unlink(missing_ok=True)
    for folder in (*_STATE, "run/fimi"):
        shutil.rmtree(root / folder, ignore_errors=True)
    for folder in (str(Path(PROFILE).parent), "etc/fimi"):
        with contextlib.suppress(FileNotFoundError):
            try:
                (root / folder).rmdir()
            except OSError:
                left = ", ".join(sorted(each.name for each in (root / folder).iterdir()))
                said.append(f"/{folder} stays: {left} is not of the agent")
    if made_user and _numbers(root) is not None:
        elsewhere = [] if root == Path("/") else ["--prefix", str(root)]
        done = run(["userdel", *elsewhere, USER])
        if _has_group(root):  # where the system does not remove it with its user
            run(["groupdel", *elsewhere, USER])
        said.append(f"user {USER} removed" if done.code == 0 else f"userdel: {done.error}")
    return said


def _require_root(root: Path) -> None:
    if root == Path("/") and os.geteuid() != 0:
        raise InstallError("this changes the system: run it as root (sudo)")
