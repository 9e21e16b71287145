"""Runs a script: starts proxies and processes, lets faults begin and end, and writes down which.

Every fault has two lines in the log, when it begins and when it ends, so that what a run's report
says can be held against them. A fault whose like is still on is skipped, and one that cannot be
made has failed, for example because its process does not run: both have one line that says so.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fimi.messaging.address import BrokerAddress
from fimi.messaging.bundle import Bundle
from fimi.testbed.chaos.faults import (
    ClockJump,
    Cut,
    Delay,
    Fault,
    FileLimit,
    Freeze,
    FullDisk,
    HalfOpen,
    Kill,
    Messages,
    Slow,
    Stop,
    kind_of_fault,
    slower,
    target_of,
)
from fimi.testbed.chaos.frames import MessageFaults
from fimi.testbed.chaos.line import LinkShape
from fimi.testbed.chaos.processes import Target, through
from fimi.testbed.chaos.proxy import Proxy
from fimi.testbed.chaos.script import (
    Happening,
    ProcessPart,
    Script,
    ScriptError,
    needs,
    timeline,
)
from fimi.testbed.chaos.surroundings import FaultError, SecretFile, scratch_folder

Phase = Literal["start", "begin", "end", "skipped", "failed", "gone", "stop"]

_LOOK_S = 0.2
"""Time between two looks whether commands still run, s."""


class Incident(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the log.

    Attributes:
        time: time of day, ISO 8601, UTC.
        at_s: time since the start, s.
        phase: the script starts or stops; a fault begins, ends, is skipped or has failed; a command
            has ended by itself (``"gone"``).
        kind: of the fault.
        target: name of its proxy or process.
        fault: which ``[[fault]]`` of the script, from 0.
        number: how-manyth of that, from 1.
        for_s: how long it is to last, s; ``None``: to the end, or no time.
        what: what it did, for example how many connections were cut.
    """

    time: str
    at_s: float
    phase: Phase
    kind: str = ""
    target: str = ""
    fault: int | None = None
    number: int | None = None
    for_s: float | None = None
    what: dict[str, Any] = {}


class Chaos:
    """A script that runs. A context manager: leaving it ends all faults, proxies and processes.

    Args:
        script: the script.
        broker: URL of the broker, for proxies that name none, and for processes; may be empty.
        log: file with a line of JSON for each incident; appended.
        told: called with each incident, on the thread of :meth:`run`.

    Raises:
        ScriptError: an address in it cannot be used.
        fimi.messaging.bundle.BundleError: the bundle of a process cannot be used.
        fimi.errors.SurroundingsError: a proxy or a process cannot be started.
    """

    def __init__(
        self,
        script: Script,
        *,
        broker: str = "",
        log: Path | None = None,
        told: Callable[[Incident], None] = lambda incident: None,
    ) -> None:
        self._script = script
        self._told = told
        self._stack = contextlib.ExitStack()
        self._file: IO[bytes] | None = None
        self._began_s = time.monotonic()
        self._active: dict[tuple[str, str], Callable[[], None]] = {}
        self._gone: set[str] = set()
        self._ending = False
        self.proxies: dict[str, Proxy] = {}
        self.targets: dict[str, Target] = {}
        with contextlib.ExitStack() as stack:
            if log is not None:
                self._file = stack.enter_context(log.open("ab"))
            folder = stack.enter_context(scratch_folder())
            for name, part in script.proxy.items():
                messages, slow = needs(script, name)
                host, port = _place(part.listen, f"proxy.{name}.listen")
                if messages and not part.broker and broker.startswith("mqtts:"):
                    raise ScriptError(
                        f"proxy.{name}: its connections are encrypted (mqtts://), so messages can "
                        "neither be repeated nor put out of order there: leave that fault out"
                    )
                proxy = Proxy(
                    _broker_of(part.broker, broker, f"proxy.{name}.broker"),
                    bind=host,
                    port=port,
                    up=part.up,
                    down=part.down,
                    messages=messages,
                    slow=slow,
                    seed=script.seed,
                )
                self.proxies[name] = stack.enter_context(proxy)
            for name, one in script.process.items():
                secret = self._bundle(name, one, folder)
                if secret is not None:
                    stack.callback(secret.close)
                environment = self._reaching(name, one, broker, secret)
                handles = () if secret is None else secret.handles
                self.targets[name] = Target(name, one, environment, folder, handles)
                stack.callback(self.targets[name].close)
            self._stack = stack.pop_all()

    def _bundle(self, name: str, one: ProcessPart, folder: Path) -> SecretFile | None:
        """The bundle of a command with the address of its proxy; ``None`` if it needs none."""
        if not (one.bundle and one.through):
            return None
        host, port = _from_here(self.proxies[one.through].address)
        moved = replace(Bundle.read(Path(one.bundle)), host=host, port=port)
        return SecretFile(
            moved.text(),
            folder / f"{name}.bundle",
            own_users=one.disk is not None and os.geteuid() != 0,
        )

    def _reaching(
        self, name: str, one: ProcessPart, broker: str, secret: SecretFile | None
    ) -> dict[str, str]:
        """The variables by which a command reaches the broker; empty ones are taken away."""
        proxy = self.proxies[one.through] if one.through else None
        place = ("", 0) if proxy is None else _from_here(proxy.address)
        if one.bundle:
            file = str(Path(one.bundle).absolute()) if secret is None else secret.path
            return {"FIMI_BUNDLE": file, "FIMI_BROKER": ""}
        if proxy is None:
            named = broker and not os.environ.get("FIMI_BUNDLE")
            return {"FIMI_BROKER": broker} if named else {}
        if not broker:
            raise ScriptError(
                f"process.{name}.through: which broker? give --broker, FIMI_BROKER or a bundle"
            )
        return {"FIMI_BROKER": through(broker, place), "FIMI_BUNDLE": ""}

    def __enter__(self) -> Chaos:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all faults, proxies and processes; may be called again."""
        self._ending = True
        for key in tuple(self._active):
            self._finish(key)
        self._stack.close()

    def run(self, over: Callable[[], bool], *, for_s: float = float("inf")) -> None:
        """Let faults happen until ``over()``, or for so long, s.

        Raises:
            FaultError: a process cannot be started.
        """
        self._began_s = time.monotonic()
        places = {name: "{}:{}".format(*proxy.address) for name, proxy in self.proxies.items()}
        self._say("start", what={"seed": self._script.seed, "proxies": places})
        for target in self.targets.values():
            if target.part.start_s == 0.0:
                target.start()
        coming = self._events()
        ends: list[tuple[float, int, tuple[str, str]]] = []
        count = itertools.count()
        pending = next(coming, None)
        try:
            while not over() and (now_s := self._now_s()) < for_s:
                while ends and ends[0][0] <= now_s:
                    self._finish(heapq.heappop(ends)[2])
                while pending is not None and pending[0] <= now_s:
                    if isinstance(pending[1], Target):
                        pending[1].start()
                    elif (end := self._happen(pending[1])) is not None:
                        heapq.heappush(ends, (end[0], next(count), end[1]))
                    pending = next(coming, None)
                self._look()
                next_s = min(ends[0][0] if ends else for_s, pending[0] if pending else for_s)
                time.sleep(max(0.0, min(next_s - self._now_s(), _LOOK_S)))
        finally:
            self._ending = True
            for key in tuple(self._active):
                self._finish(key)
            self._say("stop", what=self._summary())

    def _now_s(self) -> float:
        return time.monotonic() - self._began_s

    def _events(self) -> Iterator[tuple[float, Happening | Target]]:
        """Starts of processes, and faults, in the order of time."""
        late: list[tuple[float, Happening | Target]] = [
            (each.part.start_s, each) for each in self.targets.values() if each.part.start_s > 0.0
        ]
        faults: Iterator[tuple[float, Happening | Target]] = (
            (each.at_s, each) for each in timeline(self._script)
        )
        late.sort(key=lambda each: each[0])
        yield from heapq.merge(late, faults, key=lambda each: each[0])

    def _happen(self, happening: Happening) -> tuple[float, tuple[str, str]] | None:
        """Let a fault begin; returns when it ends, and its key."""
        fault = self._script.fault[happening.index]
        key = (kind_of_fault(fault), target_of(fault))
        about: dict[str, Any] = {
            "kind": key[0],
            "target": key[1],
            "fault": happening.index,
            "number": happening.number,
            "for_s": happening.for_s,
        }
        if key in self._active:
            self._say("skipped", **about, what={"why": f"{key[1]} still has a {key[0]}"})
            return None
        try:
            what, undo = self._begin(fault, happening.for_s)
        except FaultError as error:
            self._say("failed", **about, what={"why": str(error)})
            return None
        self._say("begin", **about, what=what)

        def finish() -> None:
            try:
                said = undo() or {}
            except FaultError as error:
                self._say("failed", **about, what={"why": str(error)})
            else:
                self._say("end", **about, what=said)

        if happening.for_s is None and isinstance(fault, Cut | HalfOpen | Kill):
            return None  # nothing is to be undone
        self._active[key] = finish
        if happening.for_s is None:
            return None
        return self._now_s() + happening.for_s, key

    def _finish(self, key: tuple[str, str]) -> None:
        if (finish := self._active.pop(key, None)) is not None:
            finish()

    def _begin(
        self, fault: Fault, for_s: float | None
    ) -> tuple[dict[str, Any], Callable[[], dict[str, Any] | None]]:
        """Make a fault; returns what it did, and what undoes it."""
        match fault:
            case Cut():
                cut = self.proxies[fault.proxy].cut(for_s=for_s or 0.0, how=fault.how)
                return {"connections": cut, "how": fault.how}, lambda: None
            case HalfOpen():
                lasts = float("inf") if for_s is None else for_s
                count = self.proxies[fault.proxy].go_silent(fault.way, for_s=lasts)
                return {"connections": count, "way": fault.way}, lambda: None
            case Freeze():
                proxy = self.proxies[fault.proxy]
                proxy.freeze(fault.way)
                return {"way": fault.way}, lambda: proxy.thaw()
            case Slow() | Delay():
                return self._reshape(fault)
            case Messages():
                proxy = self.proxies[fault.proxy]
                before = [msgspec.structs.replace(each) for each in proxy.frames]
                proxy.disturb(fault.faults())

                def calm() -> dict[str, Any]:
                    proxy.disturb(MessageFaults())
                    return {
                        name: sum(getattr(each, name) for each in proxy.frames)
                        - sum(getattr(each, name) for each in before)
                        for name in ("published", "duplicated", "reordered")
                    }

                return {"duplicate": fault.duplicate, "reorder": fault.reorder}, calm
            case _:
                return self._begin_process(fault)

    def _reshape(
        self, fault: Slow | Delay
    ) -> tuple[dict[str, Any], Callable[[], dict[str, Any] | None]]:
        proxy = self.proxies[fault.proxy]
        before = proxy.shapes
        up, down = slower(before, fault)
        proxy.shape(up=up, down=down)
        names = ("rate_bps",) if isinstance(fault, Slow) else ("delay_s", "jitter_s")

        def restore() -> None:
            """Set back what this fault has changed, and nothing else."""
            made = [
                replace(now, **{name: getattr(was, name) for name in names})
                for now, was in zip(proxy.shapes, before, strict=True)
            ]
            proxy.shape(up=made[0], down=made[1])

        return {"up": _words(up), "down": _words(down)}, restore

    def _begin_process(
        self, fault: Fault
    ) -> tuple[dict[str, Any], Callable[[], dict[str, Any] | None]]:
        target = self.targets[target_of(fault)]
        match fault:
            case Kill():
                pid = target.kill()

                def again() -> dict[str, Any]:
                    if self._ending:
                        return {}
                    target.start()
                    return {"pid": target.pid}

                return {"pid": pid}, again
            case Stop():
                return {"pid": target.stop()}, target.go_on
            case FullDisk():
                disk = target.disk
                assert disk is not None
                return {"bytes": disk.fill()}, disk.free
            case FileLimit():
                target.limit_files(fault.limit_bytes)

                def lift() -> None:
                    with contextlib.suppress(FaultError):  # it was killed meanwhile
                        target.limit_files(None)

                return {"pid": target.pid, "limit_bytes": fault.limit_bytes}, lift
            case ClockJump():
                clock = target.clock
                assert clock is not None
                clock.jump(fault.jump_s)
                return {"jump_s": fault.jump_s}, lambda: clock.jump(0.0)
        raise AssertionError(fault)

    def _look(self) -> None:
        """Say once that a command has ended by itself."""
        for name, target in self.targets.items():
            if not target.part.words or target.starts == 0 or ("kill", name) in self._active:
                continue
            if target.alive:
                self._gone.discard(name)
            elif name not in self._gone:
                self._gone.add(name)
                self._say("gone", target=name, what={"code": target.code})

    def _summary(self) -> dict[str, Any]:
        return {
            name: {
                **msgspec.to_builtins(proxy.counters),
                "published": sum(each.published for each in proxy.frames),
                "duplicated": sum(each.duplicated for each in proxy.frames),
                "reordered": sum(each.reordered for each in proxy.frames),
            }
            for name, proxy in self.proxies.items()
        }

    def _say(self, phase: Phase, **about: Any) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        said = Incident(time=now, at_s=round(self._now_s(), 3), phase=phase, **about)
        if self._file is not None:
            self._file.write(msgspec.json.encode(said) + b"\n")
            self._file.flush()
        self._told(said)


def _place(text: str, where: str) -> tuple[str, int]:
    """``host:port`` as its parts; IPv6 in brackets.

    Raises:
        ScriptError: it is not of this form.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isdecimal() and int(port) <= 65535) or "://" in text:
        raise ScriptError(f'{where} = "{text}": write it as host:port, "127.0.0.1:1883"')
    return host, int(port)


def _broker_of(own: str, url: str, where: str) -> tuple[str, int]:
    """Where a proxy finds its broker."""
    if own:
        return _place(own, where)
    if not url:
        raise ScriptError(
            f"{where} is left out, and there is neither --broker nor FIMI_BROKER: name the broker"
        )
    try:
        address = BrokerAddress.parse(url)
    except ValueError as error:
        raise ScriptError(str(error)) from error
    return address.host, address.port


def _from_here(place: tuple[str, int]) -> tuple[str, int]:
    """Where a process of this machine finds a proxy, also one that listens on all addresses."""
    host, port = place
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def _words(shape: LinkShape) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(shape)
    return found
