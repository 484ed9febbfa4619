"""What reports of numbers are made of: Markdown tables, and panels of curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_row(cells: Iterable[object]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def markdown_table(header: Sequence[str], rows: Iterable[Iterable[object]] = ()) -> str:
    """A Markdown table; without rows, the two lines that it begins with."""
    return "\n".join(map(markdown_row, (header, ["---"] * len(header), *rows)))


def panels(count: int, width: float = 4.2, height: float = 3.4):
    """A matplotlib figure of ``count`` panels in a row, each ``width`` x ``height`` inches, and their axes."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * max(1, count), height), layout="constrained")
    axes = figure.subplots(1, max(1, count), squeeze=False)[0][:count]
    pairs = colormaps["tab20"].colors  # the usual ten colours, each with a lighter one
    for panel in axes:
        panel.set_prop_cycle(color=[*pairs[::2], *pairs[1::2]])
        panel.grid(alpha=0.3)
    return figure, axes


def legend_below(figure, axes, **options: object) -> None:
    """What ``axes`` name, below all panels, where it covers nothing."""
    names = axes.get_legend_handles_labels()
    figure.legend(*names, loc="outside lower center", fontsize="small", **options)
