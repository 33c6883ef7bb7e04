"""What torch's caching allocator reserves for rows of varying lengths, by what they hold at most.

python benchmarks/allocator_growth.py [--steps N] [--date 2026-11-26]

Prints one JSON object. No GPU: the allocator's rules for large blocks (c10/cuda/CUDACachingAllocator.cpp: best fit,
split where more than 1 MiB is left, merged with free neighbours, new segments of 20 MiB or rounded up to 2) play the
large tensors of a checkpointed micro-step with whole logits, for lengths drawn like ms-swift's data (3234 ± 2547
tokens, longer rows dropped). Half a minute.
"""

from __future__ import annotations

import argparse
import bisect
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from _machine import add_date, header

MIB = 2**20
MEAN_TOKENS, STD_TOKENS = 3234, 2547
LEAST_TOKENS = 32


@dataclass(eq=False)
class Block:
    size: int
    before: Block | None = None
    after: Block | None = None
    is_used: bool = True


@dataclass
class Allocator:
    """The pool of blocks above 1 MiB; smaller ones hardly count."""

    reserved_bytes: int = 0
    held_bytes: int = 0
    peak_bytes: int = 0
    _free: list[tuple[int, int, Block]] = field(default_factory=list)  # by size, with a number that tells equals apart

    def take(self, size: int) -> Block:
        at = bisect.bisect_left(self._free, (size,))
        if at < len(self._free):
            block = self._free.pop(at)[-1]
        else:
            block = Block(20 * MIB if size < 10 * MIB else -(-size // (2 * MIB)) * 2 * MIB)
            self.reserved_bytes += block.size
        self._split(block, size)
        block.is_used = True
        self.held_bytes += block.size
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)
        return block

    def give_back(self, *blocks: Block) -> None:
        for block in blocks:
            self.held_bytes -= block.size
            block.is_used = False
            if block.before is not None and not block.before.is_used:
                block = self._merge(block.before, block, freed=block.before)
            if block.after is not None and not block.after.is_used:
                block = self._merge(block, block.after, freed=block.after)
            bisect.insort(self._free, (block.size, id(block), block))

    def _split(self, block: Block, size: int) -> None:
        if block.size - size <= MIB:
            return
        rest = Block(block.size - size, block, block.after, is_used=False)
        if block.after is not None:
            block.after.before = rest
        block.after, block.size = rest, size
        bisect.insort(self._free, (rest.size, id(rest), rest))

    def _merge(self, first: Block, second: Block, freed: Block) -> Block:
        self._free.pop(bisect.bisect_left(self._free, (freed.size, id(freed))))
        first.size += second.size
        first.after = second.after
        if second.after is not None:
            second.after.before = first
        return first


@dataclass(frozen=True)
class Shape:
    name: str
    hidden: int
    intermediate: int
    layers: int
    vocabulary: int = 151_936


CASES = tuple(
    (shape, longest)
    for shape, lengths in (
        (Shape("1.8B", 2048, 5504, 24), (1024, 4096)),
        (Shape("7B", 4096, 11008, 32), (512, 2048, 8192)),
        (Shape("14B", 5120, 13696, 40), (1024, 4096)),
    )
    for longest in lengths
)


def step(allocator: Allocator, shape: Shape, tokens: int) -> None:
    """The large tensors of one micro-step, in 16 bits but for norms and the loss."""
    hidden, logits = 2 * shape.hidden * tokens, 2 * shape.vocabulary * tokens
    kept = []
    for _ in range(shape.layers):
        kept.append(allocator.take(hidden))
        allocator.give_back(*layer(allocator, shape, tokens))
    gradient = loss(allocator, hidden, logits)
    for block in reversed(kept):
        inner = layer(allocator, shape, tokens)
        inner += [allocator.take(2 * shape.intermediate * tokens) for _ in range(2)]
        earlier = allocator.take(hidden)
        allocator.give_back(*inner, gradient, block)
        gradient = earlier
    allocator.give_back(gradient)


def layer(allocator: Allocator, shape: Shape, tokens: int) -> list[Block]:
    """What a layer keeps for its backward pass: both halves begin with a norm in fp32."""
    hidden, wide = 2 * shape.hidden * tokens, 2 * shape.intermediate * tokens
    kept: list[Block] = []
    for sizes in ([3 * hidden, hidden, hidden, hidden, hidden, hidden], [wide, wide, wide, wide, hidden]):
        normed, passing = allocator.take(2 * hidden), allocator.take(2 * hidden)
        kept += [normed, allocator.take(hidden)]
        allocator.give_back(passing)
        kept += [allocator.take(size) for size in sizes]
    return kept


def loss(allocator: Allocator, hidden: int, logits: int) -> Block:
    """Whole logits, in 16 bits and in fp32, forward and backward; leaves the gradient of the hidden states."""
    take, give_back = allocator.take, allocator.give_back
    last, own, shifted, wide, softmax = (take(size) for size in (hidden, logits, logits, 2 * logits, 2 * logits))
    give_back(wide, shifted, own)
    outer, inner = take(2 * logits), take(2 * logits)
    give_back(outer, softmax)
    narrow = take(logits)
    give_back(inner)
    gradient = take(hidden)
    give_back(narrow, last)
    return gradient


def growth(shape: Shape, longest_tokens: int, steps: int) -> float:
    """Reserved by held bytes after so many steps."""
    draw, allocator = random.Random(0), Allocator()
    spread = math.sqrt(math.log(1 + (STD_TOKENS / MEAN_TOKENS) ** 2))
    done = 0
    while done < steps:
        tokens = int(draw.lognormvariate(math.log(MEAN_TOKENS) - spread**2 / 2, spread))
        if LEAST_TOKENS <= tokens <= longest_tokens:
            step(allocator, shape, tokens)
            done += 1
    return allocator.reserved_bytes / allocator.peak_bytes


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="micro-steps of each case")
    add_date(parser)
    options = parser.parse_args(arguments)
    found = {
        f"{shape.name}, rows of at most {longest} tokens": round(growth(shape, longest, options.steps), 2)
        for shape, longest in CASES
    }
    print(
        json.dumps(header("allocator_growth", options.date) | {"growth": found, "worst": max(found.values())}, indent=2)
    )


if __name__ == "__main__":
    main()
