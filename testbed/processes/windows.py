"""All that looks at a run while it goes on: the terminal, the dashboard, and what they share.

Every event goes to all of them. The dashboard may be there or not; the run does not notice.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fimi.coordinator.controls import Controls
from fimi.messaging.client import Peer
from fimi.messaging.looking import LOOKED_S
from fimi.monitor.metrics.otlp import OtlpSender
from fimi.monitor.metrics.settings import OtlpSettings
from fimi.monitor.tracing import drawing
from fimi.monitor.watcher import Watcher
from fimi.record.clean import clean
from fimi.record.events import Event, Listener
from fimi.record.interventions import GoOn
from fimi.record.reader import ReportError
from fimi.testbed.dashboards import open_dashboard
from fimi.testbed.run_folder import RunFolder

if TYPE_CHECKING:
    from fimi.testbed.commands.dashboard import Place


_NO_OTLP = OtlpSettings()
TELEMETRY_S = 10.0
"""Time between two messages in which an emulated device says how it is, if anybody may look, s."""


class Terminal(Protocol):
    """What is shown on the terminal.

    Attributes:
        wants_telemetry: whether it shows what devices say of themselves.
    """

    wants_telemetry: bool

    def watch(self, watcher: Watcher, folder: Path) -> None:
        """From now on the run can be seen as a state here; it is stored in this folder."""

    def __call__(self, event: Event) -> None:
        """Show an event."""

    def say(self, text: str) -> None:
        """Show what is going on."""

    def tell(self, text: str) -> None:
        """Show something that is for nobody but the person here, such as the dashboard's key."""


class Windows:
    """Looks at one run. A context manager: inside it, all of it is open.

    Args:
        folder: of the run.
        terminal: what is shown there.
        title: what was started, in words.
        dashboard: where it listens; ``None``: there is none.
        also: others that are told of every event.
        otlp: where metrics are sent.

    Attributes:
        controls: takes what people ask of the run; ``None``: there is no way to ask.
    """

    def __init__(
        self,
        folder: RunFolder,
        terminal: Terminal,
        title: str,
        dashboard: Place | None,
        *,
        also: tuple[Listener, ...] = (),
        otlp: OtlpSettings = _NO_OTLP,
    ) -> None:
        self._folder, self._terminal, self._place = folder, terminal, dashboard
        self._also, self._otlp = also, otlp
        self._stack = ExitStack()
        self.controls: Controls | None = None
        self.watcher = Watcher(folder.store.info, title)
        if folder.before is not None:
            self.watcher.recall(folder.before)
        terminal.watch(self.watcher, folder.path)

    @property
    def telemetry_s(self) -> float:
        """Time between two messages in which an emulated device says how it is, s; 0: none."""
        return TELEMETRY_S if self._may_look else 0.0

    @property
    def looked_s(self) -> float:
        """The same while somebody looks at the run."""
        return LOOKED_S if self._may_look else 0.0

    @property
    def _may_look(self) -> bool:
        looks = self._place is not None or self._terminal.wants_telemetry
        return looks or bool(self._otlp.endpoint)

    def __enter__(self) -> Windows:
        if self._place is not None:
            self._open(self._place)
        self._stack.enter_context(OtlpSender(self._otlp, partial(self.watcher.snapshot, "otlp")))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self, place: Place) -> None:
        controls = Controls()
        is_open = open_dashboard(
            self._stack,
            self.watcher,
            RunHooks(self._folder, self.watcher, controls),
            folder=self._folder.path,
            place=place,
            say=self.say,
            tell=self._terminal.tell,
            keeps_up=True,
            failed=lambda: _go_on(controls),
        )
        self.controls = controls if is_open else None

    def __call__(self, event: Event) -> None:
        """Show an event everywhere."""
        self.watcher(event)
        self._terminal(event)
        for listener in self._also:
            listener(event)

    def say(self, text: str) -> None:
        """Show what is going on everywhere."""
        self.watcher.say(text)
        self._terminal.say(text)

    def connect(self, peer: Peer, *, broker: str, exposed: str) -> None:
        """The coordinator has its connection: devices are asked how they are over it."""
        self.watcher.connect(peer, broker=broker, exposed=exposed)


def _go_on(controls: Controls) -> None:
    """The dashboard has ended by an error: a run that is paused would wait for ever."""
    controls.ask(GoOn(), "the coordinator, whose dashboard has ended")


class RunHooks:
    """What the dashboard asks of a run.

    Args:
        folder: of the run.
        watcher: of the run.
        controls: takes requests.
    """

    def __init__(self, folder: RunFolder, watcher: Watcher, controls: Controls) -> None:
        self._folder, self._watcher, self._controls = folder, watcher, controls

    def trace(self, device: str, number: int) -> Any:
        """The power of a device in a round, with its phases."""
        from fimi.monitor.server.hooks import NotNow

        if not self._watcher.knows(device):
            raise NotNow(f"run {self._folder.path.name} has no device {clean(device, 100)!r}")
        try:
            return drawing(self._folder.path, device, number)
        except ReportError as error:
            raise NotNow(str(error)) from error

    def control(self, body: bytes) -> Any:
        """Hand a request in, or say what became of one."""
        return self._controls.hear(body)

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """Figures for Prometheus."""
        from fimi.monitor.server.hooks import MetricHooks

        return MetricHooks(partial(self._watcher.snapshot, "metrics")).metrics(accept)
