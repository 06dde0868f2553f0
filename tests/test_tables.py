import pytest

from tutorlib.tables import table


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
