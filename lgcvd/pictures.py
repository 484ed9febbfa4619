"""Pictures to look at: videos beside each other, strips, sheets, heat maps."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lgcvd.files import check_output, draft
from lgcvd.video import from_uint8, picture_of, rgb, to_uint8

REAL_ROWS = {"truth", "clip", "dreamed"}
"""Rows of a filmstrip that hold no predicted frames."""

Given = int | Sequence[bool]
"""Which frames of a video the model was given: the first so many, or a truth value for each."""

Colour = tuple[int, int, int]
OBSERVED: Colour = (230, 159, 0)
PREDICTED: Colour = (86, 180, 233)
"""Orange and sky blue: told apart with any colour vision (Okabe and Ito 2008)."""
NEUTRAL: Colour = (96, 102, 114)
BACKGROUND: Colour = (18, 20, 26)
DARK: Colour = (28, 31, 39)
TEXT: Colour = (214, 218, 226)
FAINT: Colour = (138, 145, 158)
HEAT: tuple[Colour, ...] = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""Of 0, 1/4, ... 1 in a heat map: their brightness rises evenly, so that it reads in gray too."""

Cell = tuple[Tensor | None, Colour]
"""A frame (C, H, W) in [-1, 1], None where there is none, and the colour of its border."""


def upscale(video: Tensor, height: int) -> Tensor:
    """(..., C, H, W) enlarged by the whole factor that comes nearest to ``height``, pixel by pixel.

    No smoothing: a model's frames are a few dozen pixels high, and blur that the screen adds would pass for its own.
    """
    factor = max(1, round(height / video.shape[-2]))
    return video.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def with_border(video: Tensor, colour: Colour, width: int) -> Tensor:
    """(..., C, H, W) in [-1, 1] -> (..., 3, H + 2 width, W + 2 width), framed in an RGB colour of [0, 255]."""
    video = rgb(video)
    *leading, _, height, across = video.shape
    framed = from_uint8(torch.tensor(colour)).to(video)[:, None, None]
    framed = framed.expand(*leading, 3, height + 2 * width, across + 2 * width).clone()
    framed[..., width : width + height, width : width + across] = video
    return framed


def side_by_side(truth: Tensor | None, prediction: Tensor, context_frames: Given, height: int = 320) -> Tensor:
    """Both videos (T, C, H, W) in one, (T, 3, H', W'), all in [-1, 1]; the prediction alone where ``truth`` is None.

    See ``panel_frames``.
    """
    real = {} if truth is None else {"truth": truth[: len(prediction)]}
    return torch.stack(list(panel_frames(real | {"prediction": prediction}, context_frames, height=height)))


def panel_frames(
    panels: dict[str, Tensor], context_frames: Given, real: Collection[str] = REAL_ROWS, height: int = 320
) -> Iterator[Tensor]:
    """The frames of several videos (T, C, H, W) beside each other, one by one, (3, H', W') in [-1, 1].

    Panels are about ``height`` pixels high, more than four in two rows. Frames of the context have an orange border,
    new ones a blue one, but for the panels that ``real`` names. Where a video ends before the longest, its panel is
    dark and says so.
    """
    longest = max(panels.values(), key=len)
    total, observed = len(longest), _mask(context_frames, len(longest))
    border, gap, bar = 6, 20, 4
    panel_height, panel_width = (n + 2 * border for n in upscale(longest[:1], height).shape[-2:])
    size, top = 18, 2 * gap + 6
    columns = len(panels) if len(panels) <= 4 else -(-len(panels) // 2)
    corners = [
        (gap + n % columns * (panel_width + gap), top + n // columns * (panel_height + 2 * gap))
        for n in range(len(panels))
    ]
    foot = corners[-1][1] + panel_height + gap
    canvas = Image.new("RGB", (columns * (panel_width + gap) + gap, foot + gap + 24), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for (left, top), label in zip(corners, panels, strict=True):
        draw.text((left, top - 12), label, TEXT, font(size), anchor="ls")

    right = canvas.width - gap
    draw.rectangle((gap, foot, right, foot + bar - 1), DARK)
    for index in range(total):
        state, colour = ("observed", OBSERVED) if observed[index] else ("predicted", PREDICTED)
        x0, x1 = (gap + (right - gap) * n / total for n in (index, index + 1))
        ImageDraw.Draw(canvas).rectangle((x0, foot, x1, foot + bar - 1), colour)
        image = canvas.copy()
        draw = ImageDraw.Draw(image)
        for (left, top), (name, video) in zip(corners, panels.items(), strict=True):
            if index < len(video):
                edge = NEUTRAL if name in real and not observed[index] else colour
                panel = with_border(upscale(video[index], height), edge, border)
                image.paste(Image.fromarray(picture_of(panel)), (left, top))
            else:
                draw.rectangle((left, top, left + panel_width - 1, top + panel_height - 1), DARK)
                place = (left + panel_width / 2, top + panel_height / 2)
                draw.text(place, "the clip ends here", FAINT, font(16), anchor="mm")
        draw.text((gap, foot + bar + 20), f"frame {index + 1} of {total}", FAINT, font(15), anchor="ls")
        draw.text((right, foot + bar + 20), state, colour, font(15), anchor="rs")
        yield from_uint8(torch.from_numpy(np.array(image)).permute(2, 0, 1))


def filmstrip(rows: dict[str, Tensor], context_frames: Given, columns: int = 10, height: int = 112) -> Tensor:
    """Frames of several videos (T, C, H, W) under each other, (3, H', W'), all in [-1, 1].

    Up to ``columns`` frames are shown: of the given ones that a film begins with the last, then evenly spaced to the
    end of the longest video; where given ones lie among new ones, the new ones first of all. Numbers count frames from
    1; what a video does not have stays dark. New frames have a blue border, but for the rows named in ``REAL_ROWS``.
    """
    longest = max(rows.values(), key=len)
    observed = _mask(context_frames, len(longest))
    shown = _columns(observed, columns)
    border, gap, margin, size = 4, 8, 20, 17
    cell_height, cell_width = (n + 2 * border for n in upscale(longest[:1], height).shape[-2:])
    gutter = margin + max(round(font(size).getlength(name)) for name in [*rows, "frame"]) + 16
    width = gutter + max(len(shown) * (cell_width + gap) - gap, 190) + margin
    foot = margin + len(rows) * (cell_height + gap)
    image = Image.new("RGB", (width, foot + 2 * margin + 24), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for row, (name, video) in enumerate(rows.items()):
        top = margin + row * (cell_height + gap)
        draw.text((gutter - 16, top + cell_height / 2), name, TEXT, font(size), anchor="rm")
        for column, index in enumerate(shown):
            left = gutter + column * (cell_width + gap)
            if index < len(video):
                colour = OBSERVED if observed[index] else NEUTRAL if name in REAL_ROWS else PREDICTED
                cell = with_border(upscale(video[index], height), colour, border)
                image.paste(Image.fromarray(picture_of(cell)), (left, top))
            else:
                draw.rectangle((left, top, left + cell_width - 1, top + cell_height - 1), DARK)
    for column, index in enumerate(shown):
        middle = gutter + column * (cell_width + gap) + cell_width / 2
        draw.text((middle, foot + 2), str(index + 1), FAINT, font(15), anchor="ma")
    x = gutter
    legend = {"observed": OBSERVED} if any(observed) else {}
    legend |= {"predicted": PREDICTED} if rows.keys() - REAL_ROWS else {}
    for name, colour in legend.items():
        y = image.height - margin
        draw.rectangle((x, y - 11, x + 11, y), colour)
        draw.text((x + 19, y), name, FAINT, font(15), anchor="ls")
        x += 19 + round(font(15).getlength(name)) + 24
    draw.text((gutter - 16, foot + 2), "frame", FAINT, font(15), anchor="ra")
    return from_uint8(torch.from_numpy(np.array(image)).permute(2, 0, 1))


def sheet(
    rows: Sequence[tuple[str, Sequence[Cell]]], columns: Sequence[str] = (), title: str = "", height: int = 72
) -> Tensor:
    """Cells in rows and columns with their names, (3, H, W) in [-1, 1]; cells are about ``height`` pixels high.

    Frames that were given have an orange border, made ones a blue one.
    """
    shown = next(frame for _, cells in rows for frame, _ in cells if frame is not None)
    border, gap, margin, size = 3, 5, 14, 15
    cell_height, cell_width = (n + 2 * border for n in upscale(shown, height).shape[-2:])
    gutter = margin + max(round(font(size).getlength(name)) for name, _ in rows) + 12
    foot = margin + len(rows) * (cell_height + gap)
    width = gutter + max(len(rows[0][1]) * (cell_width + gap), round(font(size).getlength(title))) + margin - gap
    image = Image.new("RGB", (width, foot + 2 * margin), BACKGROUND)
    draw = ImageDraw.Draw(image)
    for row, (name, cells) in enumerate(rows):
        top = margin + row * (cell_height + gap)
        draw.text((gutter - 12, top + cell_height / 2), name, TEXT, font(size), anchor="rm")
        for column, (frame, colour) in enumerate(cells):
            left = gutter + column * (cell_width + gap)
            if frame is None:
                draw.rectangle((left, top, left + cell_width - 1, top + cell_height - 1), DARK)
                continue
            cell = to_uint8(with_border(upscale(frame, height), colour, border)).permute(1, 2, 0).numpy()
            image.paste(Image.fromarray(cell), (left, top))
    for column, name in enumerate(columns):
        middle = gutter + column * (cell_width + gap) + cell_width / 2
        draw.text((middle, foot + margin / 2), name, FAINT, font(size), anchor="mm")
    draw.text((gutter, foot + margin / 2), title, FAINT, font(size), anchor="lm")
    return from_uint8(torch.from_numpy(np.array(image)).permute(2, 0, 1))


def _mask(given: Given, length: int) -> list[bool]:
    """For each of ``length`` frames whether it was given."""
    mask = [True] * given if isinstance(given, int) else list(given)
    return mask[:length] + [False] * (length - len(mask))


def _columns(observed: list[bool], columns: int) -> list[int]:
    """Which frames a strip shows: observed ones (the last, if there are many), the rest evenly up to the last frame.

    Where a film does more than go on from observed frames, these have a third of the columns, or what new ones leave.
    """
    length, context_frames = len(observed), [*observed, False].index(False)
    columns, new = min(columns, length), [i for i, given in enumerate(observed) if not given]
    if any(observed[context_frames:]):
        given = [i for i, given in enumerate(observed) if given]
        room = max(columns - len(new), min(len(given), columns // 3))
        return sorted([*evenly(new, columns - room), *evenly(given, room)])
    seen = min(context_frames, max(columns // 3, columns - (length - context_frames)))
    return [*range(context_frames - seen, context_frames), *evenly(new, columns - seen)]


def evenly(items: Sequence[int], count: int) -> list[int]:
    """Up to so many of ``items``, the first and the last among them."""
    places = np.linspace(0, len(items) - 1, min(count, len(items)))
    return [items[i] for i in places.round().astype(int).tolist()]


def heat_map(values: Tensor) -> Tensor:
    """(..., 1, H, W) in [0, 1] -> colours (..., 3, H, W) in [-1, 1], dark to bright."""
    colours = torch.stack([from_uint8(torch.tensor(colour)) for colour in HEAT]).to(values.device)
    place = values.clamp(0, 1).squeeze(-3) * (len(HEAT) - 1)
    low = place.long().clamp(max=len(HEAT) - 2)
    return torch.lerp(colours[low], colours[low + 1], (place - low).unsqueeze(-1)).movedim(-1, -3)


def write_image(path: str | Path, image: Tensor) -> None:
    """Write (C, H, W) in [-1, 1] as PNG."""
    import imageio.v3

    path = check_output(path, (".png",))
    with draft(path) as part:
        part.write_bytes(imageio.v3.imwrite("<bytes>", picture_of(image), extension=".png"))


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
