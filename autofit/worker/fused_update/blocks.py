"""A slice of a parameter as blocks of its matrices, none of them large."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from autofit.planning.fused_update import CHUNK_ELEMENTS


@dataclass(frozen=True)
class Block:
    """Some matrices of a parameter, or some rows of one of them, and which elements of a slice lie in it.

    The slice may begin or end within a row: `before` elements of the block come before its part.
    """

    matrices: slice
    rows: slice
    columns: int
    part: slice  # of the elements of the slice
    before: int

    def filled(self, elements: torch.Tensor) -> torch.Tensor:
        """A copy of a slice's elements in fp32, of shape (matrices, rows, columns); 0 where others keep them."""
        shape = torch.Size((_length(self.matrices), _length(self.rows), self.columns))
        if shape.numel() == _length(self.part):
            return elements[self.part].to(torch.float32, copy=True).view(shape)
        block = torch.zeros(shape, dtype=torch.float32, device=elements.device)
        self.own(block).copy_(elements[self.part])
        return block

    def own(self, block: torch.Tensor) -> torch.Tensor:
        """The elements of the slice in a block, flat."""
        return block.view(-1)[self.before : self.before + _length(self.part)]


def blocks(shape: torch.Size, first: int, count: int) -> Iterator[Block]:
    """The blocks in which `count` elements lie, from the element `first` on, of a parameter with two dimensions or
    more; its matrices are of the last two. Several whole matrices where they are small, else rows of one."""
    rows, columns = shape[-2:]
    end = first + count
    at = first
    while at < end:
        begin, last = _bounds(at, end, columns, rows * columns)
        yield _block(begin, last, slice(at - first, min(last, end) - first), at - begin, rows, columns)
        at = last


def _bounds(at: int, end: int, columns: int, matrix: int) -> tuple[int, int]:
    """The first element of the block of the element `at`, and the one after its last; `matrix` are the elements of
    one."""
    if at % matrix == 0 and matrix <= min(CHUNK_ELEMENTS, end - at):
        return at, at + min(CHUNK_ELEMENTS, end - at) // matrix * matrix
    begin = at // columns * columns
    last = begin + max(1, CHUNK_ELEMENTS // columns) * columns
    return begin, min(last, at // matrix * matrix + matrix, math.ceil(end / columns) * columns)


def _block(begin: int, last: int, part: slice, before: int, rows: int, columns: int) -> Block:
    matrix = begin // (rows * columns)
    count = max(1, (last - begin) // (rows * columns))
    row = begin // columns - matrix * rows
    return Block(
        matrices=slice(matrix, matrix + count),
        rows=slice(row, row + (last - begin) // columns // count),
        columns=columns,
        part=part,
        before=before,
    )


def _length(one: slice) -> int:
    return int(one.stop - one.start)
