"""Tables and panels of reports."""

from __future__ import annotations

from lgcvd.reports import markdown_row, markdown_table, panels


def test_a_table_may_be_told_row_by_row():
    header, rows = ["name", "number"], [["a", 1], ["b", 2.5]]
    assert markdown_table(header, rows) == "| name | number |\n| --- | --- |\n| a | 1 |\n| b | 2.5 |"
    assert markdown_table(header, rows) == "\n".join([markdown_table(header), *map(markdown_row, rows)])


def test_twenty_curves_have_twenty_colours():
    _, (axes,) = panels(1)
    lines = [axes.plot([0, 1])[0] for _ in range(20)]
    assert len({line.get_color() for line in lines}) == 20
