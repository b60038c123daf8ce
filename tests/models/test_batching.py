"""Batches of equal lengths."""

import itertools

import pytest

from rm_robustness.models.batching import equal_length_batches

LENGTHS = [3, 5, 3, 3, 5, 1]


def test_batches_hold_one_length_each_and_every_row_once():
    batches = list(equal_length_batches(LENGTHS, 8))
    assert batches == [[5], [0, 2], [3], [1], [4]]
    assert sorted(itertools.chain(*batches)) == list(range(6))


def test_the_longest_batches_come_first_on_request():
    assert list(equal_length_batches(LENGTHS, 8, longest_first=True)) == [
        [1],
        [4],
        [0, 2],
        [3],
        [5],
    ]


@pytest.mark.parametrize("batch_tokens", [0, 4])
def test_a_sequence_longer_than_a_batch_is_read_alone(batch_tokens):
    assert list(equal_length_batches([5, 5], batch_tokens)) == [[0], [1]]
