"""Batches of sequences of equal length, so that nothing is ever padded or masked."""

from collections import defaultdict
from collections.abc import Iterator, Sequence


def equal_length_batches(
    lengths: Sequence[int], batch_tokens: int, longest_first: bool = False
) -> Iterator[list[int]]:
    """Yield row numbers in batches of one length, by length and then by row.

    A batch holds at most `batch_tokens` tokens, or one sequence that alone has more (0: one
    sequence at a time). Longest first, a batch that does not fit the memory fails at once.
    """
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, length in enumerate(lengths):
        rows_of[length].append(row)
    for length in sorted(rows_of, reverse=longest_first):
        rows, size = rows_of[length], max(1, batch_tokens // length)
        for start in range(0, len(rows), size):
            yield rows[start : start + size]
