"""Headless Chromium over the pipe of its debugging protocol: no driver, no port.

:class:`Browser` opens a page with a width, light or dark, evaluates JavaScript in it, takes
pictures of it, and keeps what the console complained about.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
Json = dict[str, Any]


class Browser:
    """A browser with one page; a context manager."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        options = ["--headless", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
        options += ["--disable-background-networking", "--disable-component-update"]
        options += ["--disable-sync", "--remote-debugging-pipe"]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []
        options += [f"--user-data-dir={self._folder.name}", "about:blank"]
        # The protocol's ends are descriptors 3 and 4 of the browser.
        tie = f'exec 3<&{theirs_in} 4>&{theirs_out}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", tie, "chromium", str(CHROMIUM), *options],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer, self._number = b"", 0
        self._session: str | None = None
        self.complaints: list[str] = []
        targets = self._call("Target.getTargets")["targetInfos"]
        page = next(each for each in targets if each["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        os.close(self._in)
        self._folder.cleanup()

    def look(self, *, width: int = 1400, height: int = 900, dark: bool = False) -> None:
        """How the page is seen."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, page: Path) -> None:
        """Open a page and wait until all of its pictures are drawn, if it has places for some."""
        self._call("Page.navigate", url=page.resolve().as_uri())
        self.wait("document.readyState === 'complete'")
        self.wait(
            "!document.querySelector('.plot') || "
            "document.documentElement.dataset.pictures === 'drawn'"
        )

    def visit(self, url: str) -> None:
        """Open an address and wait until its document is there."""
        self._call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def press(self, key: str) -> None:
        """Press and let go of a key, by its name in events: ``ArrowDown``, ``Tab``, ``/``."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = {"Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowUp": 38}
        code |= {"ArrowDown": 40, "PageDown": 34, "PageUp": 33}
        parts: Json = {"key": key, "windowsVirtualKeyCode": code.get(key, 0)}
        self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **parts)
        self._call("Input.dispatchKeyEvent", type="keyUp", **parts)

    def wait(self, condition: str, seconds: float = 60.0) -> None:
        """Wait until an expression is true."""
        self.run(
            f"""new Promise((then, no) => {{
                const until = performance.now() + {1000 * seconds};
                const look = () => ({condition}) ? then(true)
                    : performance.now() > until ? no(new Error("timeout")) : setTimeout(look, 20);
                look();
            }})"""
        )

    def run(self, expression: str) -> Any:
        """The value of an expression, awaited."""
        result = self._call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"])[:2000])
        return result["result"].get("value")

    def busy_s(self) -> float:
        """Processor time of the page's main thread, s; only differences of two calls count."""
        self._call("Performance.enable", timeDomain="threadTicks")
        found = self._call("Performance.getMetrics")["metrics"]
        return float(next(each["value"] for each in found if each["name"] == "TaskDuration"))

    def picture(self, target: Path, *, top: int = 0, height: int | None = None) -> None:
        """The page as a PNG, also what is below the window."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": top, "width": size["width"], "scale": 1}
        clip["height"] = min(height or size["height"], size["height"] - top)
        shot = self._call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        target.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, target: Path) -> None:
        """The page as it is printed."""
        made = self._call("Page.printToPDF", printBackground=True)
        target.write_bytes(base64.b64decode(made["data"]))

    def _call(self, method: str, **params: Any) -> Json:
        self._number += 1
        order: Json = {"id": self._number, "method": method, "params": params}
        if self._session:
            order["sessionId"] = self._session
        os.write(self._out, json.dumps(order).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return dict(message["result"])
            self._note(message)

    def _note(self, message: Json) -> None:
        method, said = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(said["exceptionDetails"])[:500])
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(said["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning"):
            self.complaints.append(json.dumps(said["args"])[:500])

    def _read(self) -> Json:
        while b"\0" not in self._buffer:
            more = os.read(self._in, 1 << 20)
            if not more:
                raise RuntimeError("the browser has gone")
            self._buffer += more
        one, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(one))
