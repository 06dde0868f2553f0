import pytest

from tutorlib.tables import number, table, with_error


def test_columns_are_aligned_where_nothing_renders_them():
    shown = repr(table(["model", "bits"], [["5-gram", "1.70"], ["GPT", "1.31 ± .01"]]))
    assert shown == "model   bits\n5-gram  1.70\nGPT     1.31 ± .01"


def test_a_notebook_gets_markdown_in_which_a_bar_is_a_letter():
    shown = table(["p(y|x)", "n"], [["a", "1"]])._repr_markdown_()
    assert shown == "| p(y\\|x) | n |\n| --- | --- |\n| a | 1 |"


@pytest.mark.parametrize("rows, message", [
    ([["a", "1"], ["b"]], r"rows\[1\] has 1 cells; the header has 2"),
    ([["a", 0.123456]], "a cell of a table is 0.123456; expected a string"),
])
def test_what_is_no_table_of_strings_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        table(["model", "bits"], rows)


@pytest.mark.parametrize("value, digits, text", [
    (0.456, 2, ".46"), (-0.456, 2, "−.46"), (-0.001, 2, ".00"), (1.0, 2, "1.00"), (10.05, 1, "10.1"), (-10.0, 0, "−10"),
    (0.0, 0, "0"), (-0.9996, 3, "−1.000"),
])
def test_a_number(value, digits, text):
    assert number(value, digits) == text


def test_mean_and_standard_error_by_hand():
    """Of 1, 2, 3, 6: mean 3, variance 14/3, error the root of 14/12."""
    assert with_error([1, 2, 3, 6]) == "3.00\u00a0±\u00a01.08"
    assert with_error([0.1, -0.3], 3) == "−.100\u00a0±\u00a0.200"


def test_one_value_has_no_error():
    with pytest.raises(ValueError, match="values must be at least two, for an error, got 1"):
        with_error([1.0])
