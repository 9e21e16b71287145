"""The window of a convolution or a pooling: how a kernel moves over an image, and its pixels."""

from __future__ import annotations

import itertools

from msgspec import Struct

from fimi.learning.onnx.tape import Tape


class Window(Struct, frozen=True, kw_only=True):
    """How a kernel moves over an image; (vertical, horizontal) each.

    Attributes:
        kernel: size, pixels.
        stride: step, pixels.
        padding: zeros on either side, pixels.
        dilation: distance of the kernel's elements, pixels.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)

    @property
    def pads(self) -> list[int]:
        """Padding in ONNX's order: begin of both axes, then end of both."""
        return [*self.padding, *self.padding]

    def output(self, height: int, width: int) -> tuple[int, int]:
        """Size of the output."""
        high, wide = (
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, pad, dilation in zip(
                (height, width), self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        return high, wide

    def positions(self) -> list[tuple[int, int]]:
        """Offset of every element of the kernel, row by row."""
        return [
            (i * self.dilation[0], j * self.dilation[1])
            for i, j in itertools.product(range(self.kernel[0]), range(self.kernel[1]))
        ]


def shifted(
    tape: Tape,
    name: str,
    offset: tuple[int, int],
    size: tuple[int, int],
    window: Window,
    axes: tuple[int, int],
    full: tuple[int, int],
) -> str:
    """The size[0]×size[1] pixels under the kernel's element at ``offset``.

    Args:
        tape: the graph.
        name: the padded image.
        offset: offset of the element, see :meth:`Window.positions`.
        size: size of the output.
        window: the window whose stride is used.
        axes: axes of the image's rows and columns.
        full: size of the padded image.
    """
    if offset == (0, 0) and size == full and window.stride == (1, 1):
        return name
    graph = tape.graph
    ends = [o + s * (n - 1) + 1 for o, s, n in zip(offset, window.stride, size, strict=True)]
    return graph.op(
        "Slice",
        name,
        graph.integers(*offset),
        graph.integers(*ends),
        graph.integers(*axes),
        graph.integers(*window.stride),
    )
