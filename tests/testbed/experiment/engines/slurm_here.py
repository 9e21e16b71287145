"""A Slurm of one node on this machine, for tests: its own controller, daemon and key.

It needs neither systemd nor control groups, and nothing below ``/etc``. Debian has what it takes:
``apt-get install slurm-wlm munge``.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from commandline import wait_until

_NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")

_CONFIGURATION = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={controller}
SlurmdPort={daemon}
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
NodeName=here NodeHostname={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=here Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> str:
    """Why there can be no Slurm here; empty if there can."""
    absent = [name for name in _NEEDED if _found(name) is None]
    if absent:
        return f"no {', '.join(absent)} (apt-get install slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "a Slurm of one's own needs root"


@contextmanager
def running(folder: Path) -> Iterator[Path]:
    """A Slurm that takes jobs; gives the path of its configuration, for ``SLURM_CONF``."""
    controller, daemon = _free_port(), _free_port()
    (folder / "spool").mkdir()
    key, configuration = folder / "munge.key", folder / "slurm.conf"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    values = {"folder": folder, "controller": controller, "daemon": daemon}
    configuration.write_text(_CONFIGURATION.format(host=socket.gethostname(), **values))
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    socket_, rest = folder / "munge.socket", ("pid", "log", "seed")
    munged = [
        *("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket_}"),
        *(f"--{each}-file={folder}/munged.{each}" for each in rest),
    ]

    def answers(*command: str) -> bool:
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return said.returncode == 0 and "idle" in said.stdout

    with ExitStack() as stack:
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", "here"]):
            stack.enter_context(_process(command, environment, folder / f"{command[0]}.said"))
            if command is munged:
                wait_until(socket_.exists, "munge listens")
        wait_until(lambda: answers("sinfo", "--noheader", "--format=%T"), "the node is idle")
        yield configuration


@contextmanager
def _process(command: list[str], environment: dict[str, str], said: Path) -> Iterator[None]:
    name = _found(command[0])
    assert name is not None
    with said.open("wb") as file:
        process = subprocess.Popen(
            [name, *command[1:]],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _found(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
