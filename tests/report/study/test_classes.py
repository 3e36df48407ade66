"""Numbers by class: which classes are shown, and what of them."""

import numpy as np

from labelsmooth.report.study.classes import MOST_CLASSES, Classes


def classes(num_classes, rows_each=4):
    """Two arms of two seeds; of the second arm only class 7 is ever wrong, in all rows but one."""
    labels = np.repeat(np.arange(num_classes), rows_each)
    right = np.ones((2, 2, len(labels)))
    right[1, :, labels == 7] = 0
    right[1, 0, np.flatnonzero(labels == 7)[0]] = 1
    return Classes(
        class_names=[f"class {label}" for label in range(num_classes)],
        labels=labels,
        arms=["hard", "smoothed"],
        numbers={"accuracy": right, "mean_confidence": np.full_like(right, 0.5)},
    )


def test_of_many_classes_those_are_shown_in_which_the_arms_differ():
    found = classes(30)
    assert len(found.shown) == MOST_CLASSES
    assert found.shown[0] == 7
    assert set(found.figure().columns["class"]) == {f"class {label}" for label in range(30)}
    assert classes(MOST_CLASSES).shown == list(range(MOST_CLASSES))


def test_a_class_without_test_rows_is_left_out():
    found = classes(8)
    lacking = Classes(**{**vars(found), "class_names": [*found.class_names, "none"]})
    assert lacking.shown == list(range(8))
    assert "none" not in lacking.figure().columns["class"]


def test_the_table_has_an_interval_where_something_varies():
    table = classes(8).table()
    assert table.sections == {0: "accuracy (%)", 8: "mean confidence (%)"}
    assert table.rows[0] == ["class 0 (4)", "100.00", "100.00"]
    name, hard, smoothed = table.rows[7]
    assert (name, hard) == ("class 7 (4)", "100.00")
    assert smoothed == "12 (0 to 100)"  # one right of eight, of two seeds
    assert table.rows[15][1] == "50.00"
