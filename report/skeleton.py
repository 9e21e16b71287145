"""One self-contained page, and the frames that all pages share: run, study, sweep, calibration.

* :func:`page`      the document: style, pictures, script
* :func:`header`, :func:`notice`, :func:`section`, :func:`details`, :func:`badge`  its parts
* :func:`picture`, :func:`pair`  places of pictures, alone or side by side

plotly.js comes from the installed package. It stands in the page once, as the base64 of its gzip,
and so do the pictures: a browser unpacks both (decision 0101). The page forbids itself to load
anything (Content-Security-Policy) and runs no script but the two whose digests it names, so that no
text from a device can become code.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
from collections.abc import Iterable, Mapping
from importlib import resources

import msgspec

from fimi.report import tokens
from fimi.report.markup import Child, Html, element, join
from fimi.report.plot_style import Picture


def page(title: str, content: Html, drawn: Mapping[str, Picture]) -> str:
    """A self-contained page.

    Args:
        title: of the window.
        content: what it shows; each picture has its place in it.
        drawn: the pictures, by name.
    """
    style, script = tokens.CSS + _asset("page.css"), _asset("page.js")
    library, packed = _library() if drawn else ("", "")
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'unsafe-inline'; "
        f"img-src data: blob:; script-src {library} {_digest(script)}"
    )
    head = element(
        "head",
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<link rel="icon" href="data:,">'),
        element("title", title),
        element("style", Html(style)),
    )
    scripts = (
        element("script", Html(_pack(_figures(drawn))), type="application/gzip", id="figures"),
        element("script", Html(packed), type="application/gzip", id="library"),
        element("script", Html(script)),
    )
    body = element("body", element("main", content), *(scripts if drawn else ()))
    return f'<!DOCTYPE html>\n<html lang="en">{head}{body}</html>\n'


def header(kicker: str, title: str, *below: Child, lead: str = "") -> Html:
    """The title of a page.

    Args:
        kicker: what kind of page it is.
        title: its name.
        below: facts in one line; those that are HTML already may be badges.
        lead: one sentence.
    """
    facts = [
        each if isinstance(each, Html) else element("span", each)
        for each in below
        if each is not None
    ]
    return element(
        "header",
        element("p", f"FIMI testbed · {kicker}", class_="kicker"),
        element("h1", title),
        element("p", lead, class_="lead") if lead else None,
        element("div", *facts, class_="meta") if facts else None,
    )


def badge(word: str, looks: str = "") -> Html:
    """How a number came to be, or how a run ended.

    Args:
        word: what it says.
        looks: the kind that it looks like, where that is not the word.
    """
    return element("span", word, class_=f"badge {looks or word}")


def notice(head: str, *rest: Child) -> Html:
    """What a reader must know before any number."""
    return element("div", element("strong", head), *rest, class_="notice")


def noscript() -> Html:
    """Said where the pictures cannot be drawn, by browsers without scripts and by old ones."""
    return join(
        [
            element(
                "noscript",
                Html("<style>.plot{display:none}</style>"),
                notice(
                    "No pictures. ",
                    "They need JavaScript, which this page contains; the tables hold the numbers.",
                ),
            ),
            element(
                "div",
                element("strong", "No pictures. "),
                "This browser cannot unpack them: it needs DecompressionStream (Chrome 80, Firefox "
                "113, Safari 16.4). The tables hold the numbers.",
                class_="notice",
                id="too-old",
                hidden="",
            ),
        ]
    )


def footer(*said: Child) -> Html:
    """What the page was made from."""
    return element("footer", *said, " This page loads nothing from anywhere.")


def picture(drawn: Picture | None) -> Html | None:
    """A figure with its words; the script fills it."""
    if drawn is None:
        return None
    return element(
        "figure",
        element(
            "figcaption",
            element("h3", drawn.title),
            element("p", drawn.caption, class_="how") if drawn.caption else None,
        ),
        element(
            "div",
            id=drawn.name,
            class_="plot",
            style=f"min-height:{drawn.figure.layout.height}px",
            role="img",
            aria_label=f"{drawn.title}. {drawn.caption}",
        ),
    )


def pair(*panels: Html | None) -> Html | None:
    """Panels side by side, one alone over the whole width."""
    there = [panel for panel in panels if panel is not None]
    if not there:
        return None
    return element("div", *there, class_="pair" if len(there) > 1 else "single")


def section(title: str, lede: str, *parts: Html | None) -> Html | None:
    """A section, if there is anything in it."""
    if not any(parts):
        return None
    return element(
        "section", element("h2", title), element("p", lede, class_="lede") if lede else None, *parts
    )


def details(title: str, content: Html | None) -> Html | None:
    """A part of the page that is closed until it is clicked."""
    if content is None:
        return None
    return element("details", element("summary", title), content)


def items(lines: Iterable[Child]) -> Html:
    """A list."""
    return element("ul", *(element("li", line) for line in lines))


def _figures(drawn: Mapping[str, Picture]) -> bytes:
    """The pictures as JSON, with the names of the colours that they use."""
    figures = {
        name: {**each.figure.to_plotly_json(), "narrow": each.narrow}
        for name, each in drawn.items()
    }
    return msgspec.json.encode({"colours": tokens.PICTURE, "figures": figures})


@functools.cache
def _library() -> tuple[str, str]:
    """The digest of plotly's script for the policy, and the script packed."""
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return _digest(script), _pack(script.encode())


def _pack(data: bytes) -> str:
    """Bytes as text that a browser unpacks and no HTML parser can misread."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def _asset(name: str) -> str:
    return (resources.files("fimi.report") / "assets" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"
