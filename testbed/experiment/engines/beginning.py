"""Whether a cell's run is begun, or gone on with after it ended early.

A run that is gone on with gives the same results, to the last digit, as one that was never
disturbed; what was not finished of a round is done again. Where something decides results and is
not as it was (configuration, versions, data), or the store cannot be read, the run is begun anew.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from fimi.files import FileInUse
from fimi.record.reader import STORE_NAME, read_info
from fimi.record.store_file import StoreError, lock_store
from fimi.testbed.configuration.sections import Config, ConfigError
from fimi.testbed.experiment.cells import toml
from fimi.testbed.experiment.engines.base import GRACE_S, CommandLine
from fimi.testbed.resuming import BeginCommand, ResumeError, look
from fimi.testbed.run_folder import RunFolderError, write_atomically


def beginning(
    folder: Path,
    file: Path,
    config: Config,
    command: BeginCommand = "dry-run",
    options: tuple[str, ...] = (),
    discard: Callable[[Path], object] = shutil.rmtree,
) -> CommandLine:
    """The command that begins a run, or goes on with it.

    A run folder that cannot be gone on with, or is completed, is discarded.

    Args:
        folder: of the run.
        file: of the configuration, which is written.
        config: of the run.
        command: that runs it.
        options: of the command beside its configuration.
        discard: takes a run folder away.

    Raises:
        RunFolderError: another process writes the run.
        DatasetError: its data cannot be loaded; the run is left as it is.
        OSError: the folder or the file cannot be written.
    """
    write_config(file, config)
    words = (*command.split(), "--format", "json", *options)
    why = ""
    if (folder / STORE_NAME).exists():
        wait_until_unused(folder)
    if (folder / STORE_NAME).exists():  # whoever wrote it may have removed it at its end
        try:
            if read_info(folder)[0].status != "completed":
                look(str(folder), command, config_path=file)
                return CommandLine(arguments=(*words, "--resume", str(folder)))
        except (StoreError, ResumeError, ConfigError) as error:
            why = f"begun anew: {error}"
    if folder.exists():
        discard(folder)
    return CommandLine(arguments=(*words, "--config", str(file)), note=why)


def wait_until_unused(folder: Path) -> None:
    """Wait until nobody writes a run: a process whose parent was killed may still be ending.

    Raises:
        RunFolderError: somebody still does.
    """
    limit_s = time.monotonic() + GRACE_S
    while True:
        try:
            lock_store(folder / STORE_NAME).release()
            return
        except FileNotFoundError:
            return
        except FileInUse as error:
            if time.monotonic() > limit_s:
                raise RunFolderError(
                    f"{folder} is written by {error}; end that, and run the experiment again",
                    code="X004",
                ) from error
            time.sleep(0.5)


def write_config(file: Path, config: Config) -> None:
    """Write a configuration as a file that ``--config`` reads.

    Raises:
        RunFolderError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, toml(config))
