"""Tables of reports."""

from __future__ import annotations

from lgcvd.reports import markdown_row, markdown_table


def test_a_table_may_be_told_row_by_row():
    header, rows = ["name", "number"], [["a", 1], ["b", 2.5]]
    assert markdown_table(header, rows) == "| name | number |\n| --- | --- |\n| a | 1 |\n| b | 2.5 |"
    assert markdown_table(header, rows) == "\n".join([markdown_table(header), *map(markdown_row, rows)])
