"""The addresses of a dashboard.

=========================  ==========================================================
``GET /``                  the page; with ``?key=`` it gives the browser its cookie
``GET /assets/NAME``       its styles and modules
``GET /plotly.js``         plotly's script, from the installed package
``GET /feed``              server-sent events: ``whole``, then ``change``
``GET /snapshot``          the present snapshot as JSON, and whether the asker may act
``GET /devices/ID/trace``  power of a device in a round (``?round=``), with its phases
``POST /control``          a request of an experimenter
``GET /metrics``           figures for other tools
=========================  ==========================================================
"""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from fimi.monitor.feed import Feed
from fimi.monitor.server.access import Access
from fimi.monitor.server.hooks import Hooks, NotNow

mimetypes.add_type("text/javascript", ".js")

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
"""What the page may load: only what this server has. plotly sets styles of its own elements."""
TOKENS = "tokens.css"
"""Colours and type, which pages share with reports."""
_MOST_BYTES = 65_536
KEYLESS_MOST = 50
"""Feeds at a time of those who have no key: who has it gets in all the same."""

Handler = Callable[[Request], Awaitable[Response]]


def app(feed: Feed, access: Access, hooks: Hooks) -> Starlette:
    """The application.

    Args:
        feed: of the run.
        access: decides who may do what.
        hooks: what the run gives, beside snapshots.
    """

    def looking(handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            if not access.may_look(request):
                return _refused(request, access)
            return _safe(await handler(request))

        return guarded

    async def page(request: Request) -> Response:
        if access.is_key(request.query_params.get("key")):
            # No redirect: browsers keep such a cookie from one that begins at another site's link.
            opened = _safe(_asset("index.html"))
            opened.set_cookie(access.cookie, access.key, httponly=True, samesite="strict")
            return opened
        if not access.may_look(request):
            return _refused(request, access)
        return _safe(_asset("index.html"))

    async def asset(request: Request) -> Response:
        return _asset(request.path_params["name"])

    async def plotly(request: Request) -> Response:
        from plotly.offline import get_plotlyjs

        script = await asyncio.to_thread(get_plotlyjs)
        return Response(script, media_type="text/javascript", headers=_KEPT)

    keyless: set[object] = set()

    async def events(request: Request) -> Response:
        if access.has_key(request):
            return StreamingResponse(feed.listen(), media_type="text/event-stream")
        if len(keyless) >= KEYLESS_MOST:
            return _problem(
                503,
                f"{KEYLESS_MOST} others look at this dashboard without its key, and it takes no "
                "more of them: open the address that the coordinator has printed, with ?key=…, or "
                "try again later",
            )
        return _Counted(feed.listen(), keyless)

    async def snapshot(request: Request) -> Response:
        return JSONResponse({**await feed.now(), "may_act": access.may_act(request)})

    async def trace(request: Request) -> Response:
        device, number = request.path_params["device"], request.query_params.get("round", "")
        if not number.isascii() or not number.isdigit() or len(number) > 9:
            return _problem(400, f"round={number!r} is no number of a round")
        try:
            found = await asyncio.to_thread(hooks.trace, device, int(number))
        except NotNow as why:
            return _problem(404, str(why))
        return Response(msgspec.json.encode(found), media_type="application/json")

    async def control(request: Request) -> Response:
        if not access.may_act(request):
            return _refused(request, access, acts=True)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MOST_BYTES:
                return _problem(413, f"a request of more than {_MOST_BYTES} B")
        try:
            answer = await asyncio.to_thread(hooks.control, body)
        except (NotNow, ValueError) as why:
            return _problem(409 if isinstance(why, NotNow) else 400, str(why))
        return _safe(Response(msgspec.json.encode(answer), media_type="application/json"))

    async def metrics(request: Request) -> Response:
        try:
            accept = request.headers.get("accept", "")
            body, media = await asyncio.to_thread(hooks.metrics, accept)
        except NotNow as why:
            return _problem(404, str(why))
        return Response(body, media_type=None, headers={"Content-Type": media})

    return Starlette(
        routes=[
            Route("/", page),
            Route("/assets/{name}", looking(asset)),
            Route("/plotly.js", looking(plotly)),
            Route("/feed", looking(events)),
            Route("/snapshot", looking(snapshot)),
            Route("/devices/{device}/trace", looking(trace)),
            Route("/control", control, methods=["POST"]),
            Route("/metrics", looking(metrics)),
        ]
    )


class _Counted(StreamingResponse):
    """Events that are among those without a key from now on until they end."""

    def __init__(self, chunks: AsyncIterator[bytes], among: set[object]) -> None:
        super().__init__(chunks, media_type="text/event-stream")
        self._among = among
        among.add(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._among.discard(self)


_KEPT: Mapping[str, str] = {"Cache-Control": "max-age=86400"}


def _asset(name: str) -> Response:
    """A file of the pages, or the tokens of the reports; only names that are there."""
    folder = (
        files("fimi.report") / "assets"
        if name == TOKENS
        else files("fimi.monitor.server") / "pages"
    )
    found: Any = next((f for f in folder.iterdir() if f.name == name and f.is_file()), None)
    if found is None:
        return _problem(404, f"there is no {name!r} here")
    media = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(found.read_bytes(), media_type=media)


def _safe(response: Response) -> Response:
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _problem(status: int, text: str) -> Response:
    return _safe(JSONResponse({"error": text}, status))


def _refused(request: Request, access: Access, *, acts: bool = False) -> Response:
    if not access.is_at_home(request):
        host = request.headers.get("host", "")
        return _problem(
            403,
            f"this dashboard listens on its machine only and does not answer to {host!r}: open it "
            "as 127.0.0.1 or localhost, or start the run with --dashboard HOST",
        )
    what = "acts on the run" if acts else "looks at the run from another machine"
    return _problem(
        403,
        f"only who has the key {what}: open the address that the coordinator has printed, "
        "with ?key=…",
    )
