"""Say what a data set holds, and draw a sheet of frames with a histogram of motion: to look at before training.

    pip install .
    python -m data_tools.summarize data/ucf101-64 --out sheet.png

It takes all that training takes: an HDF5 file or a folder of them, a folder of videos, a folder with a folder for each
split, or ``digits`` and ``stochastic-digits``. ``--image_size`` is for videos and digits; HDF5 files have their own.
Motion is the mean absolute difference between neighbouring frames, in gray levels of 255. It, and the sizes of frames,
come from up to 100 videos of each split, evenly spaced, and of those from up to 100 frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image, ImageDraw

from lgcvd.convert import SPLITS, new_parser
from lgcvd.data import GENERATED, Videos, open_videos, split_folders
from lgcvd.digits import MovingDigits
from lgcvd.errors import UserError
from lgcvd.files import check_output, draft
from lgcvd.pictures import BACKGROUND, DARK, FAINT, OBSERVED, PREDICTED, TEXT, Colour, evenly, font
from lgcvd.program import run_as_program
from lgcvd.video import PICTURE_FPS

SAMPLED = 100
"""Videos of a split, and frames of each, that are looked at."""
ROWS, COLUMNS = 3, 8
"""Videos of a split and frames of each on the sheet."""
CELL = 128
"""Height of a frame on the sheet, about, in pixels."""
LISTED = 20
"""Skipped videos of a split, and incomplete ones, that are told."""

GREEN: Colour = (0, 158, 115)
COLOURS = {"train": PREDICTED, "validation": OBSERVED, "test": GREEN}


@dataclass
class Part:
    """A split, or all there is where there are no splits."""

    split: str
    videos: Videos
    shapes: set[tuple[int, int, int]] = field(default_factory=set)
    """H, W, C of the videos that were looked at."""
    motion: list[float] = field(default_factory=list)
    """Of the videos that were looked at and have two frames."""

    def look(self) -> None:
        """Measure shapes and motion."""
        for video in evenly(range(len(self.videos.lengths)), SAMPLED):
            frames = self.videos.read(video, range(min(self.videos.lengths[video], SAMPLED)))
            self.shapes.add(frames.shape[1:])
            if len(frames) > 1:
                self.motion.append(float(np.abs(np.diff(frames.astype(np.int16), axis=0)).mean()))

    def row(self) -> list[str]:
        """What the table says of it."""
        lengths, rates = self.videos.lengths, [rate for rate in self.videos.fps if rate]
        seconds = sum(length / rate for length, rate in zip(lengths, self.videos.fps, strict=True) if rate)
        shapes = [f"{w}x{h} {'gray' if c == 1 else 'RGB'}" for h, w, c in sorted(self.shapes)]
        return [
            self.split,
            f"{len(lengths):,}",
            f"{sum(lengths):,}",
            f"{min(lengths)} / {median(lengths):g} / {max(lengths)}" if lengths else "-",
            shapes[0] if len(shapes) == 1 else f"{len(shapes)} sizes" if shapes else "-",
            _span(rates) if rates else "unknown",
            f"{seconds / 3600:.3g}" if rates else "unknown",
            f"{median(self.motion):.2f}" if self.motion else "-",
            str(len(self.videos.skipped)),
        ]


HEADER = ["split", "videos", "frames", "min / median / max", "size", "fps", "hours", "motion", "skipped"]


def run(arguments: Sequence[str] | None = None) -> int:
    parser = new_parser(__doc__)
    parser.add_argument("data", metavar="PATH", help="HDF5 file, folder, or digits")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"), help="picture to write (default: sheet.png)")
    parser.add_argument("--image_size", type=int, default=64, help="height and width of decoded videos and of digits")
    options = parser.parse_args(arguments)
    check_output(options.out, (".png",))
    if options.image_size < 1:
        raise UserError(f"--image_size must be at least 1, not {options.image_size}.")
    parts = find_parts(options.data, options.image_size)
    for part in parts:
        part.look()
    print(table(parts))
    for part in parts:
        for kind, entries in {"skipped": part.videos.skipped, "incomplete": part.videos.notes}.items():
            for name, reason in entries[:LISTED]:
                print(f"{kind} in {part.split}: {name}: {reason}")
            if len(entries) > LISTED:
                print(f"{kind} in {part.split}: {len(entries) - LISTED} more")
    sheet = draw_sheet(Path(options.data).resolve().name, parts)
    with draft(options.out) as path:
        sheet.save(path)
    print(f"wrote {options.out}")
    return 0


def find_parts(what: str, image_size: int) -> list[Part]:
    """The splits of whatever ``what`` is; raises ``UserError`` if it is nothing that can be trained on."""
    if what in GENERATED:
        motion = GENERATED[what]
        return [Part(split, Digits(MovingDigits(split, image_size=image_size, motion=motion))) for split in SPLITS]
    shape = (image_size, image_size, 3)
    splits = split_folders(Path(what))
    if splits:
        return [Part(split, open_videos(path, shape)) for split, path in splits.items()]
    videos = open_videos(Path(what), shape)
    return [Part(videos.split or "all", videos)]


class Digits:
    """Moving digits as a set of videos."""

    def __init__(self, data: MovingDigits):
        self._data, self.split = data, data.split
        self.shape = (data.image_size, data.image_size, 1)
        self.names = [f"clip {i}" for i in range(len(data))]
        self.lengths, self.fps = [data.frames] * len(data), [PICTURE_FPS] * len(data)
        self.skipped, self.notes = (), ()

    def read(self, video: int, window: range) -> np.ndarray:
        return self._data[video].numpy().transpose(0, 2, 3, 1)[window.start : window.stop : window.step]


def table(parts: Sequence[Part]) -> str:
    """Lines of text, a split each."""
    rows = [HEADER, *(part.row() for part in parts)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return low if low == high else f"{low} to {high}"


# ---------------------------------------------------------------------------------------------------------- pictures


def draw_sheet(title: str, parts: Sequence[Part]) -> Image.Image:
    """Frames of some videos of every split, evenly spaced in time, over the histogram of motion."""
    margin, gap, caption, head = 28, 6, 24, 44
    strips = {
        part.split: [(_caption(part, i), _strip(part, i)) for i in evenly(range(len(part.videos.lengths)), ROWS)]
        for part in parts
    }
    pictures = [cell for rows in strips.values() for _, cells in rows for _, cell in cells]
    across = max((cell.width for cell in pictures), default=CELL)
    width = 2 * margin + max(COLUMNS * (across + gap) - gap, 720)
    chart = _motion_chart(parts, width - 2 * margin)
    height = 2 * margin + 48 + chart.height
    for rows in strips.values():
        height += head + sum(caption + max(cell.height for _, cell in cells) + 2 * gap for _, cells in rows) + 4 * gap
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((margin, margin), title, TEXT, font(26), anchor="la")
    top = margin + 48
    for part in parts:
        draw.rectangle((margin, top + 4, margin + 13, top + 17), COLOURS.get(part.split, PREDICTED))
        _, videos, frames, _, size, fps, hours, *_ = part.row()
        facts = f"{videos} videos   {frames} frames   {size}   {fps} fps   {hours} hours"
        draw.text((margin + 24, top + 18), part.split, TEXT, font(19), anchor="ls")
        left = margin + 24 + font(19).getlength(part.split) + 20
        draw.text((left, top + 18), facts, FAINT, font(15), anchor="ls")
        draw.line((margin, top + 28, width - margin, top + 28), DARK, 2)
        top += head
        for text, cells in strips[part.split]:
            draw.text((margin, top + caption - 9), _shortened(text, width - 2 * margin), TEXT, font(14), anchor="ls")
            top += caption
            for column, (number, cell) in enumerate(cells):
                left = margin + column * (across + gap)
                sheet.paste(cell, (left, top))
                label = str(number + 1)
                draw.rectangle((left, top, left + 8 + font(11).getlength(label), top + 15), BACKGROUND)
                draw.text((left + 4, top + 8), label, FAINT, font(11), anchor="lm")
            top += max(cell.height for _, cell in cells) + 2 * gap
        top += 4 * gap
    sheet.paste(chart, (margin, top))
    return sheet


def _caption(part: Part, video: int) -> str:
    length, rate = part.videos.lengths[video], part.videos.fps[video]
    return f"{part.videos.names[video]}   {length} frames" + (f", {length / rate:.1f} s" if rate else "")


def _strip(part: Part, video: int) -> list[tuple[int, Image.Image]]:
    """Frames of a video with their numbers, evenly spaced from the first to the last."""
    times = evenly(range(part.videos.lengths[video]), COLUMNS)
    return [(t, _cell(part.videos.read(video, range(t, t + 1))[0])) for t in times]


def _cell(frame: np.ndarray) -> Image.Image:
    """A frame about ``CELL`` pixels high: enlarged pixel by pixel, or scaled down."""
    image = Image.fromarray(frame[..., 0] if frame.shape[2] == 1 else frame).convert("RGB")
    if image.height > CELL:
        size = max(1, round(image.width * CELL / image.height)), CELL
        return image.resize(size, Image.Resampling.LANCZOS)
    factor = max(1, round(CELL / image.height))
    return image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)


def _motion_chart(parts: Sequence[Part], width: int) -> Image.Image:
    """Histogram of motion, a colour for each split."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    background, text, faint = (np.array(colour) / 255 for colour in (BACKGROUND, TEXT, FAINT))
    figure = Figure(figsize=(width / 100, 2.9), dpi=100, facecolor=background, layout="constrained")
    axes = figure.add_subplot(facecolor=background)
    most = max((value for part in parts for value in part.motion), default=0) or 1
    bins = np.linspace(0, most * 1.001, 31)
    for part in parts:
        if part.motion:
            colour = np.array(COLOURS.get(part.split, PREDICTED)) / 255
            share = np.full(len(part.motion), 100 / len(part.motion))
            label = f"{part.split}: median {median(part.motion):.2f}, {len(part.motion)} videos"
            axes.hist(part.motion, bins, weights=share, color=(*colour, 0.25), label=label)
            axes.hist(part.motion, bins, weights=share, color=colour, histtype="step", linewidth=1.6)
    axes.set_title("Motion", color=text, loc="left", fontsize=12)
    axes.set_xlabel("mean absolute difference between neighbouring frames, in gray levels of 255", color=faint)
    axes.set_ylabel("% of videos", color=faint)
    axes.tick_params(colors=faint)
    axes.set_xlim(0, 1.02 * bins[-1])
    for name, spine in axes.spines.items():
        spine.set_color(faint)
        spine.set_visible(name in ("left", "bottom"))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, labelcolor=text, fontsize=10)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _shortened(text: str, width: int) -> str:
    """Cut in front to fit."""
    while font(14).getlength(text) > width:
        text = "…" + text[2:]
    return text


if __name__ == "__main__":
    run_as_program(run)
