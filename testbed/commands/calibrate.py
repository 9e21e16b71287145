"""``fimi calibrate``: measure what a board costs, write the profile that its agent publishes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from fimi.files import write_whole
from fimi.testbed.commands.base import Command
from fimi.testbed.commands.interrupts import EXIT_INTERRUPTED, stop_on_signals
from fimi.testbed.commands.shared import (
    EXIT_CONFIG,
    EXIT_SURROUNDINGS,
    ROOT,
    WordChoice,
    code_of,
    errors,
    fail,
    result_format,
)

MAKES = ("raspberry-pi-4", "raspberry-pi-5", "jetson-nano", "jetson-orin-nano", "mini-pc")


@click.command(cls=Command)
@click.option("--emulated", type=WordChoice(MAKES), help="Calibrate an emulated board.")
@click.option(
    "--host-profile",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Calibrate this machine. FILE is its profile, or a draft with name and [board.link].",
)
@ROOT
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Profile to write. Left out: --host-profile's, or <make>.toml.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--frequencies", type=click.IntRange(1, 50), default=13, show_default=True)
@click.option(
    "--cores",
    metavar="N,...",
    help="Fewer cores to try as well. Left out: powers of two below the training's threads.",
)
@click.option(
    "--gpu-clocks",
    type=click.IntRange(0, 50),
    help="Clocks of the GPU to try, at most. Left out: 6 if the GPU trains, else none.",
)
@click.option("--modes/--no-modes", default=True, help="Try a Jetson's power modes.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The fleet's configuration: its network, data, threads and device are trained.",
)
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=10.0, show_default=True)
@click.option("--settle", type=click.FloatRange(0, 600), default=3.0, show_default=True)
@click.option("--repeats", type=click.IntRange(1, 50), default=2, show_default=True)
@click.option(
    "--graphs",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Training graph to time (an agent's --cache keeps them).",
)
@click.option("--traffic", metavar="HOST:PORT", help="Send paced traffic there, to be discarded.")
@click.option(
    "--rates",
    default="1e6,4e6,16e6",
    show_default=True,
    metavar="BIT/S,...",
    help="Rates of that traffic.",
)
@click.option("--voltages", metavar="MHZ:V,...", help="Core voltages, for the fit with V² f.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw the fit: a self-contained HTML page.",
)
@click.option(
    "--emulation",
    type=WordChoice(["physical", "model"]),
    default="physical",
    show_default=True,
    help="With --emulated: how the board is emulated.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="With --emulated: which board of its make.",
)
@click.option("--progress", is_flag=True, hidden=True, help="Lines of progress beside JSON.")
@result_format("table", "json")
def calibrate(emulated: str | None, host_profile: Path | None, **given: Any) -> None:
    """Measure a board's cost parameters: operating points, law, idle power, radio."""
    if (emulated is None) == (host_profile is None):
        fail("calibrate: give either --emulated MAKE or --host-profile FILE", EXIT_CONFIG, "U001")
    out = given.pop("out") or host_profile or Path(f"{emulated}.toml")
    if out.exists() and not given["force"]:
        fail(f"{out} exists; --force replaces it, --out writes another file", EXIT_CONFIG, "U002")
    if not out.resolve().parent.is_dir():
        fail(f"{out}: there is no folder {out.resolve().parent}", EXIT_SURROUNDINGS, "U003")
    from fimi.energy.calibration.sweep_plan import (
        CalibrationAbortedError,
        CalibrationImpossibleError,
    )
    from fimi.energy.meters import MeterUnavailableError

    kept_settings = given["settings"] = _KeptSettings(out)
    with errors(), stop_on_signals() as stop:
        try:
            if emulated is not None:
                found, board, kept, declared = _emulated(emulated, stop, **given)
            else:
                found, board, kept, declared = _host(host_profile, stop, **given)
            target = out
            if found.stopped:  # a whole profile is never replaced by a part of one
                target = out.with_name(f"{out.stem}.partial{out.suffix}")
            _show(found, board, kept, declared, target, **given)
            if found.stopped:
                fail(
                    f"{found.stopped}; the board is as it was. What was measured until then is in "
                    f"{target}; {kept_settings.said()}",
                    EXIT_INTERRUPTED if stop.is_set() else EXIT_SURROUNDINGS,
                    "M006",
                )
            kept_settings.remove()
        except CalibrationAbortedError as error:
            fail(f"{error}\n{kept_settings.said()}", EXIT_INTERRUPTED, "M006")
        except CalibrationImpossibleError as error:
            fail(f"{error}\n{kept_settings.said()}", EXIT_SURROUNDINGS, "M005")
        except MeterUnavailableError as error:
            said = f"this board cannot be calibrated:\n- a meter: {error}"
            fail(said, EXIT_SURROUNDINGS, error.code)
        except ValueError as error:
            fail(str(error), EXIT_CONFIG, code_of(error, "M005"))


class _KeptSettings:
    """What was measured so far, in a file beside the profile: a line of JSON for each setting.

    Each line is on the disk before the next setting begins, so that not even a power cut loses it.
    The file goes when the profile is written; one of an earlier run stays as it is.
    """

    def __init__(self, out: Path) -> None:
        names = (f"{out.stem}.settings{k}.jsonl" for k in ("", *range(2, 10_000)))
        self._path = next(path for name in names if not (path := out.with_name(name)).exists())
        self._count = 0
        self._failed = False

    def add(self, setting: Any) -> None:
        """Keep a setting."""
        import msgspec

        try:
            with self._path.open("ab" if self._count else "wb") as file:
                file.write(msgspec.json.encode(setting) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # no reason to end a sweep that can still be measured
            if not self._failed:
                click.echo(f"fimi: {self._path} cannot be written: {error.strerror}", err=True)
            self._failed = True
            return
        self._count += 1

    def said(self) -> str:
        """Where it is, as a sentence."""
        if not self._count:
            return "Nothing was written."
        many = f"all {self._count} settings are" if self._count > 1 else "the one setting is"
        return f"{many} in {self._path}"

    def remove(self) -> None:
        """Remove the file: the profile has been written."""
        self._path.unlink(missing_ok=True)  # a name that was free when this began


def _emulated(
    make: str, stop: threading.Event, **given: Any
) -> tuple[Any, Any, dict[str, Any], Any]:
    from fimi.energy.calibration.emulated import calibrate as run
    from fimi.energy.calibration.emulated import sweep_plan
    from fimi.energy.calibration.fitted import calibrated
    from fimi.energy.emulation.board import Disturbance, EmulatedBoard, VirtualBoard
    from fimi.energy.emulation.boards import declare_board
    from fimi.energy.emulation.physical_board import PhysicalBoard
    from fimi.learning.networks.cost import model_cost

    kind: type[VirtualBoard] = PhysicalBoard if given["emulation"] == "physical" else EmulatedBoard
    board = kind(
        declare_board(
            make,
            seed=given["seed"],
            index=0,
            cycles_per_sample=model_cost("small-cnn", 10, (1, 8, 8)).cycles_per_sample(),
        ),
        seed=given["seed"],
        index=0,
        disturbance=Disturbance(profile_error=0.2),
    )
    plan = sweep_plan(
        board.model(),
        frequencies=given["frequencies"],
        seconds=given["seconds"],
        settle_s=given["settle"],
        repeats=given["repeats"],
    )
    found = run(
        board,
        plan,
        progress=_progress(given["output"], given["progress"]),
        cancelled=stop.is_set,
        measured=given["settings"].add,
    )
    return found, calibrated(found, board.model()), {"meter": "auto"}, board.model()


def _host(
    path: Path | None, stop: threading.Event, **given: Any
) -> tuple[Any, Any, dict[str, Any], Any]:
    from fimi.energy.calibration.candidates import TrialChoice
    from fimi.energy.calibration.fitted import analyse_sweep, calibrated
    from fimi.energy.calibration.sweep import sweep
    from fimi.energy.calibration.sweep_plan import CalibrationImpossibleError, SweepPlan
    from fimi.energy.host import HostHardware
    from fimi.testbed.tools import calibrate_host as host

    assert path is not None
    training, classes, shape = _training(given["config"])
    clocks = given["gpu_clocks"]
    choice = TrialChoice(
        frequencies=given["frequencies"],
        cores=_cores(given["cores"], training.threads),
        gpu_clocks=(0 if training.device == "cpu" else 6) if clocks is None else clocks,
        modes=host.power_modes(given["root"]) if given["modes"] else (),
    )
    draft = host.read_draft(path, root=given["root"], choice=choice)
    sink = _address(given["traffic"])
    work = host.load_trainer(given["graphs"], training, classes, shape)
    load = host.HostLoad(work, stop, sink)
    rates = [float(word) for word in given["rates"].split(",")] if sink else []
    lowest_hz = min(point.frequency_hz for point in draft.points)
    voltages = _voltages(given["voltages"])
    try:
        with HostHardware(draft.profile, root=given["root"], uplink=load) as board:
            if not (points := host.sweep_points(draft.profile, board.model())):
                reasons = "; ".join(dict.fromkeys(board.left_out.values()))
                raise CalibrationImpossibleError(
                    [f"control over the CPU frequency, or any other operating point: {reasons}"]
                )
            plan = SweepPlan(
                points=points,
                uploads=host.paced(draft.profile.board.link, rates, lowest_hz),
                seconds=given["seconds"],
                settle_s=given["settle"],
                repeats=given["repeats"],
            )
            if given["output"] == "table":
                click.echo(
                    f"{len(points)} operating points, about {plan.total_s / 60:.1f} minutes; "
                    "Ctrl-C puts everything back and keeps what was measured until then",
                    err=True,
                )
            swept = sweep(
                board,
                load,
                plan,
                voltage_v=voltages,
                progress=_progress(given["output"], given["progress"]),
                cancelled=stop.is_set,
                measured=given["settings"].add,
            )
            notes = (*_left_out(board.left_out), *swept.notes)
            found = analyse_sweep(swept._replace(notes=notes), board.describe(), board.model())
    finally:
        load.close()
    return found, calibrated(found, draft.profile.board), draft.kept, None


def _training(path: Path | None) -> tuple[Any, int, tuple[int, int, int]]:
    """The training of a fleet by its configuration, the number of classes and an image's shape."""
    from fimi.learning.training.trainer import TrainingSettings

    if path is None:
        return TrainingSettings(), 10, (1, 8, 8)
    from fimi.testbed.configuration.load import load

    scenario = load(path)
    contract = scenario.undivided
    return scenario.config.training, len(contract.class_names), contract.image_shape


def _cores(text: str | None, threads: int) -> tuple[int, ...]:
    """The numbers of cores to try besides all of them."""
    from fimi.energy.calibration.candidates import fewer_cores

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if text is None:
        return fewer_cores(threads, allowed)
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ValueError(f"--cores {text!r}: write numbers of cores, for example 1,2")
    if too_many := [word for word in words if int(word) > allowed]:
        raise ValueError(f"--cores {too_many[0]}: this process may use {allowed} cores")
    return tuple(sorted({int(word) for word in words}))


def _left_out(reasons: Mapping[str, str]) -> list[str]:
    """Why points could not be tried, one sentence for each reason."""
    grouped: dict[str, list[str]] = {}
    for name, why in reasons.items():
        grouped.setdefault(why, []).append(name)
    return [f"not measured: {', '.join(names)} ({why})" for why, names in grouped.items()]


def _show(
    found: Any, board: Any, kept: dict[str, Any], declared: Any, out: Path, **given: Any
) -> None:
    import msgspec

    from fimi.report.layout import Paper
    from fimi.testbed.tools import calibrate_show as show

    plot: Path | None = given["plot"]
    page = ""
    if plot is not None:
        try:
            from fimi.testbed.tools.calibrate_page import calibration_page

            page = calibration_page(found, declared)
        except ImportError:
            click.echo(
                "fimi: no picture: it needs plotly; pip install 'fimi-testbed[coordinator]'",
                err=True,
            )
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    write_whole(out, show.profile(found, board, kept=kept, at=now))
    if plot is not None and page:
        write_whole(plot, page)
    if given["output"] == "json":
        body = {"calibration": found, "board": board, "profile": str(out)}
        click.echo(msgspec.json.encode(body))
        return
    click.echo(show.table(found, declared, Paper.of(sys.stdout)))
    click.echo(f"profile: {out}")
    if page:
        click.echo(f"picture: {plot}")


def _progress(output: str, asked: bool) -> Callable[[Any], None]:
    """One line that is written over on a terminal, one line each elsewhere.

    Beside JSON only where that is asked for.
    """
    terminal = sys.stderr.isatty()

    def tell(progress: Any) -> None:
        left = f"{progress.left_s:.0f} s left"
        text = f"[{progress.done}/{progress.total}] {progress.doing}, {left}"
        if terminal:
            end = "\n" if progress.done == progress.total else ""
            click.echo(f"\r\x1b[K{text}{end}", nl=False, err=True)
        elif output == "table" or asked:
            click.echo(text, err=True)

    return tell


def _voltages(text: str | None) -> Callable[[float], float | None]:
    if not text:
        return lambda frequency_hz: None
    try:
        pairs = sorted(
            (float(a) * 1e6, float(b)) for a, b in (w.split(":") for w in text.split(","))
        )
    except ValueError:
        raise ValueError(
            f"--voltages {text!r}: write MHZ:V,MHZ:V, for example 600:0.8,1800:0.94"
        ) from None
    import numpy as np

    known, volts = zip(*pairs, strict=True)
    return lambda frequency_hz: float(np.interp(frequency_hz, known, volts))


def _address(text: str | None) -> tuple[str, int] | None:
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(f"--traffic {text!r}: write HOST:PORT, for example 192.0.2.7:9000")
    return host, int(port)
