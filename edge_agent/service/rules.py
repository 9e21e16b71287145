"""Rules that open kernel files to the agent's group, and the agent's configuration, as texts.

Permissions of kernel files are lost at every boot, and of a cluster's files whenever it is switched
off. So they are set by ``systemd-tmpfiles`` at boot (:func:`tmpfiles`), and again by ``udev``
whenever such a device comes back (:func:`udev`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fimi.edge_agent.service.needs import USER, Grant, Needs
from fimi.energy.toml_text import quoted

TMPFILES = "fimi-agent.conf"
UDEV = "70-fimi-agent.rules"

CLOSED = {"0664": 0o644, "0440": 0o400}
"""Permissions of a kernel file as it was before, by those that it was given."""

_SUBSYSTEMS = {"powercap": "powercap", "cpufreq": "cpu", "devfreq": "devfreq"}
"""Whose coming back makes files of a path anew."""

_COMMENTS = {
    "bundle": "Credentials of this board; read at every start.",
    "broker": "The broker, where there is no bundle.",
    "id": "Id of this device.",
    "fleet": "The fleet it belongs to.",
    "host_profile": "Calibrated cost parameters of this board, its meter and its control.",
    "calibrated": "Profiles that calibrations from afar find are kept here, and used.",
    "data": "Where its data lie.",
    "cache": "What is fetched once is kept here.",
    "allow": "What may be asked of it from afar: calibrate, restart, update.",
    "versions": "Versions of the agent that come over the broker.",
}


def tmpfiles(needs: Needs) -> str:
    """Rules for ``/etc/tmpfiles.d``; empty if none is needed."""
    if not needs.files:
        return ""
    lines = ["# Written by 'fimi agent install': kernel files that the agent of this board uses."]
    said = ""
    for grant in needs.files:
        if grant.why != said:
            said = grant.why
            lines.append(f"# {said[:1].upper()}{said[1:]}.")
        lines.append(f"z {grant.what} {grant.mode} root {USER} -")
    return "\n".join(lines) + "\n"


def udev(needs: Needs, tmpfiles_path: str) -> str:
    """Rules for ``/etc/udev/rules.d``; empty if none is needed."""
    lines = []
    subsystems = {
        subsystem: None
        for grant in needs.files
        for part, subsystem in _SUBSYSTEMS.items()
        if part in grant.what
    }
    if subsystems:
        lines.append("# Permissions of files that come anew, as when a cluster is switched on.")
    for subsystem in subsystems:
        lines.append(
            f'SUBSYSTEM=="{subsystem}", ACTION=="add|online", '
            f'RUN+="/usr/bin/systemd-tmpfiles --create {tmpfiles_path}"'
        )
    lines += _of_devices(needs.devices)
    if not lines:
        return ""
    head = "# Written by 'fimi agent install': device and kernel files that the agent uses."
    return "\n".join([head, *lines]) + "\n"


def _of_devices(devices: Sequence[Grant]) -> list[str]:
    """The firmware's device files are for a group; cards are open for everybody by their driver."""
    names = [each.what.removeprefix("/dev/") for each in devices if "vcio" in each.what]
    if not names:
        return []
    return [
        f"# {devices[0].why[:1].upper()}{devices[0].why[1:]}.",
        f'KERNEL=="{"|".join(names)}", GROUP="video", MODE="0660"',
    ]


def agent_toml(values: Mapping[str, Any]) -> str:
    """The agent's configuration: the options of ``fimi agent run`` as keys."""
    lines = [
        "# How the agent of this board is started: keys are the options of 'fimi agent run'.",
        "# After a change: sudo systemctl restart fimi-agent",
    ]
    for key, value in values.items():
        if key in _COMMENTS:
            lines += ["", f"# {_COMMENTS[key]}"]
        lines.append(f"{key} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(quoted(str(each)) for each in value) + "]"
    return quoted(str(value))
