"""Damaged messages as Hypothesis strategies: valid ones, changed as bytes or as structure."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

HUGE: tuple[Any, ...] = (
    10**400,
    2**63,
    -(2**63) - 1,
    -1,
    0,
    1.7e308,
    float("nan"),
    float("inf"),
    True,
    None,
    "",
    "x" * 100_000,
    "\x00\x1b[2J\u202e",
    [],
    [[[[[[]]]]]],
    {},
    {"type": "state"},
    [0] * 10_000,
)


def nested(depth: int) -> bytes:
    return b'{"type":' * depth + b"1" + b"}" * depth


@st.composite
def spoilt_bytes(draw: st.DrawFn, good: bytes) -> bytes:
    """Cut, flipped, repeated, overwritten, or nested."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 5)):
            case 0:
                del data[at:]
            case 1 if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 2:
                data[at:at] = data[: draw(st.integers(0, 200))]
            case 3:
                data[at : at + draw(st.integers(0, 20))] = draw(st.binary(max_size=20))
            case 4:
                data = data + data
            case _:
                data[at:at] = nested(draw(st.sampled_from([3, 50, 3000])))
    return bytes(data)


def _places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    pairs = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in pairs:
        found += _places(value, (*path, key))
    return found


@st.composite
def spoilt_tree(draw: st.DrawFn, good: Any) -> Any:
    """A JSON value with another value, without a key, or with one more somewhere."""
    tree = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        places = _places(tree)
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        at: Any = tree
        for key in way:
            at = at[key]
        what = draw(st.integers(0, 3))
        if what == 0 and isinstance(at, dict):
            del at[last]
        elif what == 1 and isinstance(at, dict):
            at[draw(st.sampled_from(["more", "type", ""]))] = copy.deepcopy(
                draw(st.sampled_from(HUGE))
            )
        else:
            at[last] = copy.deepcopy(draw(st.sampled_from(HUGE)))
    return tree


@st.composite
def spoilt_json(draw: st.DrawFn, good: bytes) -> bytes:
    """A message whose structure is changed; sometimes with keys that stand twice."""
    text = json.dumps(draw(spoilt_tree(json.loads(good))))
    if draw(st.booleans()):
        text = text.replace("{", '{"run":"a","device":"b","type":"state",', 1)
    return text.encode()
