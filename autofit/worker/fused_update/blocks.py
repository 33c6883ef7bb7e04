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
    more; its matrices are of the last two. Whole matrices where they are small, else rows of one."""
    rows, columns = shape[-2:]
    unit = columns if rows * columns > CHUNK_ELEMENTS else rows * columns
    end = first + count
    at = first
    while at < end:
        begin = at // unit * unit
        last = _block_end(begin, end, unit, rows * columns)
        yield _block(begin, last, slice(at - first, min(last, end) - first), at - begin, rows, columns)
        at = last


def _block_end(begin: int, end: int, unit: int, matrix: int) -> int:
    """The element after a block that begins with whole units: as many of them as are no more than a chunk, and in the
    same matrix where it is larger than that."""
    last = begin + max(1, CHUNK_ELEMENTS // unit) * unit
    if unit < matrix:
        last = min(last, begin // matrix * matrix + matrix)
    return min(last, math.ceil(end / unit) * unit)


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
