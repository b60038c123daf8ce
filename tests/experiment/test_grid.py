from rm_robustness.experiment.grid import neighbouring_sizes


def test_the_neighbour_of_a_size_is_the_next_one_that_is_trained():
    families = [["q-1", "q-2", "q-3", "q-4"], ["l-1", "l-3"]]
    assert neighbouring_sizes(families, ["q-4", "q-3", "q-1", "l-3"]) == [
        ("q-1", "q-3"),
        ("q-3", "q-4"),
    ]
