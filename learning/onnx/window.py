"""The window of a convolution or a pooling: how a kernel moves over an image, and its pixels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.learning.onnx.tape import Tape


class Window(Struct, frozen=True, kw_only=True):
    """How a kernel moves over an image; (vertical, horizontal) each.

    Attributes:
        kernel: size, pixels.
        stride: step, pixels.
        padding: zeros on either side, pixels.
        dilation: distance of the kernel's elements, pixels.
        rest: zeros more at the end, pixels, for a last window that reaches beyond the padding.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)
    rest: tuple[int, int] = (0, 0)

    @property
    def ends(self) -> tuple[int, int]:
        """Zeros at the end of both axes, pixels."""
        return self.padding[0] + self.rest[0], self.padding[1] + self.rest[1]

    @property
    def attributes(self) -> dict[str, object]:
        """Stride, padding and dilation as ONNX's operators want them.

        Padding is the begin of both axes, then the end of both.
        """
        pads = [*self.padding, *self.ends]
        return {"strides": self.stride, "pads": pads, "dilations": self.dilation}

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Size of an image with its padding."""
        return (
            height + self.padding[0] + self.ends[0],
            width + self.padding[1] + self.ends[1],
        )

    def output(self, height: int, width: int) -> tuple[int, int]:
        """Size of the output."""
        high, wide = (
            (full - dilation * (kernel - 1) - 1) // stride + 1
            for full, kernel, stride, dilation in zip(
                self.padded(height, width), self.kernel, self.stride, self.dilation, strict=True
            )
        )
        return high, wide

    def reads(self, height: int, width: int) -> NDArray[np.float32]:
        """1 where an element of the kernel reads a pixel for a pixel of the output, else 0.

        (kernel height, kernel width, height, width, output height, output width).
        """
        down, across = (
            np.array(
                [
                    [
                        [made * step - pad + tap * apart == seen for made in range(count)]
                        for seen in range(side)
                    ]
                    for tap in range(kernel)
                ],
                np.float32,
            )
            for side, count, kernel, step, pad, apart in zip(
                (height, width),
                self.output(height, width),
                self.kernel,
                self.stride,
                self.padding,
                self.dilation,
                strict=True,
            )
        )
        both: NDArray[np.float32] = np.einsum("ahi,bwj->abhwij", down, across)
        return both

    def views(
        self, tape: Tape, name: str, shape: tuple[int, int], *, axis: int, rank: int
    ) -> Iterator[str]:
        """The pixels under every element of the kernel, row by row, with padding.

        Args:
            tape: the graph.
            name: the images.
            shape: height and width of the images.
            axis: axis of their rows; that of the columns is the next one.
            rank: number of axes.
        """
        graph, size = tape.graph, self.output(*shape)
        full = self.padded(*shape)
        if full != shape:
            before, after = [0] * axis, [0] * (rank - axis - 2)
            pads = [*before, *self.padding, *after, *before, *self.ends, *after]
            name = graph.op("Pad", name, graph.integers(*pads))
        for element in itertools.product(range(self.kernel[0]), range(self.kernel[1])):
            offset = [i * d for i, d in zip(element, self.dilation, strict=True)]
            if offset == [0, 0] and size == full and self.stride == (1, 1):
                yield name
                continue
            steps = zip(offset, self.stride, size, strict=True)
            yield graph.op(
                "Slice",
                name,
                graph.integers(*offset),
                graph.integers(*(start + step * (count - 1) + 1 for start, step, count in steps)),
                graph.integers(axis, axis + 1),
                graph.integers(*self.stride),
            )
