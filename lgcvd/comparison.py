"""Results files side by side: a table, figures, and paired tests over the clips."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lgcvd.errors import UserError
from lgcvd.files import draft
from lgcvd.measures import MEASURES, METRICS, PAIRWISE
from lgcvd.reports import legend_below, markdown_table, panels
from lgcvd.results import read_results
from lgcvd.settings import differences
from lgcvd.statistics import paired_test

COLUMNS = {(name, which): f"{MEASURES[name].title}, {which}" for name in PAIRWISE for which in ("mean", "best")}
COLUMNS |= {(name, "mean"): MEASURES[name].title for name in METRICS if name not in PAIRWISE}
"""(measure, which) -> title."""

BLANK = "blank-frame"
"""A row that is often so far from all others that it must not decide what a figure's axes show."""


@dataclass(frozen=True)
class Comparison:
    """Results of the same clips by the same protocol."""

    results: dict[str, dict]
    """Name -> content of a results file; the first is what the others are tested against."""

    def table(self) -> str:
        """A row each, as Markdown: values with 95 % intervals, the best of each column in bold."""
        columns = self._columns()
        header, rows = ["", *map(COLUMNS.get, columns), "sampler", "seconds a prediction"], []
        for name, results in self.results.items():
            cells = [self._cell(results, column) for column in columns]
            settings = results["settings"]
            steps = settings["steps"]
            sampler = f"{settings['sampler']}, {steps} step{'s' * (steps != 1)}" if settings["sampler"] else "-"
            rows.append([name, *cells, sampler, f"{results['seconds']['prediction']:.2g}"])
        return markdown_table(header, rows)

    def tests(self) -> str:
        """How the others differ from the first, clip by clip, as Markdown."""
        first, *others = self.results
        columns = [column for column in self._columns() if column[0] in PAIRWISE]
        rows = []
        for other in others:
            cells = []
            for column in columns:
                test = paired_test(*(self._per_clip(name, column) for name in (other, first)))
                told = MEASURES[column[0]].told(test.difference, test.low, test.high, sign="+")
                cells.append(f"{told}, p {_p(test.p)}")
            rows.append([other, *cells])
        return markdown_table([f"difference from {first}", *map(COLUMNS.get, columns)], rows)

    def markdown(self) -> str:
        """Tables, with what was measured and what the numbers are worth."""
        settings = next(iter(self.results.values()))["settings"]
        protocol, data = settings["protocol"], settings["data"]
        n = max(results["settings"]["trajectories"] for results in self.results.values())
        parts = [
            f"{data['clips']} clips of {data['name']}, {data['split']} split; protocol {protocol['name']}: "
            f"{protocol['context']} -> {protocol['frames']} frames, {n} trajectories a clip, seed {settings['seed']}. "
            f"{protocol['what']} In brackets 95 % intervals.",
            self.table(),
        ]
        if len(self.results) > 1:
            parts += [
                "Differences clip by clip, with 95 % bootstrap intervals and the p of a sign-flip test over clips, not "
                "corrected for the number of tests:",
                self.tests(),
            ]
        parts += ["\n".join(f"- {line}" for line in [*self._measures(), *self._notes()])]
        return "\n\n".join(parts) + "\n"

    def csv(self) -> str:
        """Every value in a line."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "sampler", "steps", "measure", "of", "value", "low", "high"])
        for name, results in self.results.items():
            settings = results["settings"]
            for measure, which in self._columns():
                value = results["summary"][measure].get(which)
                if value:
                    writer.writerow([name, settings["sampler"], settings["steps"], measure, which, *value.values()])
        return file.getvalue()

    def frames_figure(self):
        """Quality against the frame number, as a matplotlib figure."""
        measures = [name for name in PAIRWISE if all(name in r["per_frame"] for r in self.results.values())]
        figure, all_axes = panels(len(measures))
        for axes, measure in zip(all_axes, measures, strict=True):
            for name, results in self._drawn_on(axes):
                curve, first = results["per_frame"][measure], results["per_frame"]["first"]
                numbers = range(first, first + len(curve["mean"]))
                (line,) = axes.plot(numbers, curve["mean"], label=name)
                axes.fill_between(numbers, curve["low"], curve["high"], color=line.get_color(), alpha=0.15, linewidth=0)
            axes.set(title=COLUMNS[measure, "mean"], xlabel="frame")
        if measures:
            legend_below(figure, all_axes[0], ncols=4)
        return figure

    def seconds_figure(self):
        """Quality against the time that a prediction takes, as a matplotlib figure."""
        columns = [column for column in self._columns() if column[1] == "mean"]
        columns = [column for column in columns if MEASURES[column[0]].higher_is_better is not None]
        figure, all_axes = panels(len(columns))
        for axes, column in zip(all_axes, columns, strict=True):
            for name, results in self._drawn_on(axes):
                if value := results["summary"][column[0]].get(column[1]):
                    reach = np.abs([[value["value"] - value["low"]], [value["high"] - value["value"]]])
                    axes.errorbar(results["seconds"]["prediction"], value["value"], reach, fmt="o", label=name)
            axes.set(title=COLUMNS[column], xlabel="seconds a prediction", xscale="log")
        if columns:
            legend_below(figure, all_axes[0], ncols=4)
        return figure

    def save(self, folder: Path) -> Path:
        """Write ``table.md``, ``table.csv``, ``frames.png`` and ``seconds.png`` into ``folder``, and return it."""
        for name, text in (("table.md", self.markdown()), ("table.csv", self.csv())):
            with draft(folder / name) as part:
                part.write_text(text)
        for name, figure in (("frames.png", self.frames_figure()), ("seconds.png", self.seconds_figure())):
            with draft(folder / name) as part:
                figure.savefig(part, dpi=120)
        return folder

    def _columns(self) -> list[tuple[str, str]]:
        """What all results have."""
        shared = set.intersection(*(set(results["summary"]) for results in self.results.values()))
        return [column for column in COLUMNS if column[0] in shared]

    def _cell(self, results: dict, column: tuple[str, str]) -> str:
        value, measure = results["summary"][column[0]].get(column[1]), MEASURES[column[0]]
        if not value:
            return "-"
        there = [r["summary"][column[0]].get(column[1]) for r in self.results.values()]
        shown, _, interval = measure.told(*value.values()).partition(" ")
        judged = measure.higher_is_better is not None and len(there) > 1
        if judged and value["value"] == measure.best(other["value"] for other in there if other):
            shown = f"**{shown}**"
        return f"{shown} {interval}"

    def _drawn_on(self, axes) -> Iterator[tuple[str, dict]]:
        """The rows as a figure draws them: ``axes`` are fitted to all but a blank frame, which comes last."""
        for name, results in sorted(self.results.items(), key=lambda item: item[0] == BLANK):
            limits = axes.get_ylim()
            yield name, results
            if name == BLANK and len(self.results) > 1:
                axes.set_ylim(limits)

    def _per_clip(self, name: str, column: tuple[str, str]) -> np.ndarray:
        return np.array([clip[column[0]][column[1]] for clip in self.results[name]["clips"]])

    def _measures(self) -> Iterator[str]:
        for what in next(iter(self.results.values()))["settings"]["protocol"]["measures"].values():
            yield f"{what}."

    def _notes(self) -> list[str]:
        names: dict[str, list[str]] = {}
        for name, results in self.results.items():
            for note in results["notes"]:
                names.setdefault(note, []).append(name)
        notes = [note if len(who) == len(self.results) else f"{', '.join(who)}: {note}" for note, who in names.items()]
        shared = {measure for measure, _ in self._columns()}
        if left_out := sorted({name for results in self.results.values() for name in results["summary"]} - shared):
            notes.append(f"Not in all results, and so left out: {', '.join(left_out)}.")
        machines = Counter(
            "{processor}, {threads} threads, {device}, torch {torch}".format(**results["machine"])
            for results in self.results.values()
        )
        notes.append(f"Made on: {'; '.join(machines)}.")
        if len(machines) > 1:
            notes.append("The seconds are of different machines: do not compare them.")
        return notes


def compare(paths: Sequence[Path]) -> Comparison:
    """The results files as one comparison; ``UserError`` with the reason if their numbers do not belong together."""
    read = [read_results(path) for path in paths]
    if not read:
        raise UserError("there is nothing to compare: give results files of lgcvd evaluate.")
    for path, results in zip(paths[1:], read[1:], strict=True):
        _check_comparable(paths[0], read[0], path, results)
    # where nothing is random, one trajectory is the best of any number
    drawn = {
        path: r["settings"]["trajectories"] for path, r in zip(paths, read, strict=True) if r["settings"]["sampler"]
    }
    if len(set(drawn.values())) > 1:
        told = ", ".join(f"{count} in {path}" for path, count in drawn.items())
        raise UserError(f"the best of so many trajectories cannot be compared ({told}): evaluate all in the same way.")
    return Comparison(dict(zip(_names(paths, read), read, strict=True)))


def summary_line(results: dict) -> str:
    """A results file in one line."""
    values = [
        f"{title} {MEASURES[measure].told(*value.values())}"
        for (measure, which), title in COLUMNS.items()
        if (value := results["summary"].get(measure, {}).get(which))
    ]
    return "; ".join(values)


def _check_comparable(first: Path, a: dict, second: Path, b: dict) -> None:
    def of(results: dict) -> dict:
        settings = results["settings"]
        return {"data": settings["data"], "protocol": settings["protocol"] | {"trajectories": None, "measures": None}}

    different = differences(of(a), of(b))
    for name in a["settings"]["protocol"]["measures"].keys() & b["settings"]["protocol"]["measures"].keys():
        different += differences(*({name: r["settings"]["protocol"]["measures"][name]} for r in (a, b)))
    if not different and [c["content"] for c in a["clips"]] != [c["content"] for c in b["clips"]]:
        different.append("the clips are others: another seed, stride or version of the data")
    if different:
        raise UserError(
            f"{second} cannot be compared with {first} ({'; '.join(different)}): evaluate both in the same way."
        )


def _names(paths: Sequence[Path], read: Sequence[dict]) -> list[str]:
    """What the models call themselves; with the file's name where two have the same."""
    names = [results["settings"]["model"]["name"] for results in read]
    counts = Counter(names)
    names = [name if counts[name] == 1 else f"{name} ({path.stem})" for name, path in zip(names, paths, strict=True)]
    if len(set(names)) < len(names):
        raise UserError("two of the results files have the same name and model: give each file once.")
    return names


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
