"""The boundary: files and uint8 outside, videos in [-1, 1] inside."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from lgcvd.errors import UserError
from lgcvd.files import check_output, draft, natural_order

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

MAX_FRAMES = 1000
"""Frames of a clip that are read unless told otherwise."""
MAX_PIXELS = 4096 * 4096
"""Pictures with more pixels are refused, so that one frame takes at most some 100 MB while it is read."""
MIN_FPS, MAX_FPS = 0.1, 240.0
PICTURE_FPS = 10.0
"""Frame rate of a folder of pictures, which says nothing of its own, and of the moving digits."""

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
CONTAINERS = "mov,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,h264,hevc,asf,flv,ogg,apng,image2,png_pipe,jpeg_pipe,\
webp_pipe,bmp_pipe,tiff_pipe,mp3,wav,flac,aac"
"""What a file may be. Playlists are left out: they would make the reader open other files and addresses."""
VIDEOS = (".mp4", ".webm", ".mov", ".mkv", ".avi", ".m4v", ".mpg", ".mpeg", ".gif")
"""What is taken for a video when a folder is searched."""
WRITERS = (".mp4", ".gif")


@dataclass(frozen=True)
class Clip:
    """What was read from a file."""

    frames: Tensor
    """(T, C, H, W) in [-1, 1]."""
    fps: float
    """Frames a second, on average."""
    note: str = ""
    """Sentences on what the user should know, such as that the file is cut short; empty if there is nothing to say."""
    more: bool = False
    """Whether the file goes on behind these frames."""


class Pixels(NamedTuple):
    """What was read from a file, as bytes."""

    frames: np.ndarray
    """(T, C, H, W) uint8."""
    fps: float
    """Frames a second, on average."""
    damage: str
    """What is missing, as a sentence; empty if the file is whole."""
    note: str
    """That and all else that the user should know."""
    more: bool
    """Whether the file goes on behind these frames."""


def from_uint8(frames: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float32 in [-1, 1]."""
    return frames.float() / 127.5 - 1


def to_uint8(video: Tensor) -> Tensor:
    """[-1, 1] (clipped) -> uint8 in [0, 255]."""
    return ((video.clamp(-1, 1) + 1) * 127.5).round().byte()


def rgb(video: Tensor) -> Tensor:
    """(..., C, H, W) -> (..., 3, H, W)."""
    return video.expand(*video.shape[:-3], 3, *video.shape[-2:])


def picture_of(image: Tensor) -> np.ndarray:
    """(C, H, W) in [-1, 1] -> uint8 (H, W, 3)."""
    return to_uint8(rgb(image.detach().cpu())).permute(1, 2, 0).numpy()


# ---------------------------------------------------------------------------------------------------------- reading

SEEK_FROM = 50
"""From this frame on, the way to it is looked for in the file's index instead of being decoded."""
ONE_FRAME_A_PACKET = ("h264", "hevc", "av1", "libdav1d", "vp9", "libvpx-vp9", "mpeg4", "mjpeg", "ffv1")
"""Decoders of formats whose packets are a frame each."""

Load = Callable[[], Image.Image]
"""Makes the picture of a frame, upright, without alpha. Called only for frames that are used."""


def read_clip(
    path: str | Path,
    image_size: tuple[int, int],
    channels: int,
    *,
    fps: float | None = None,
    start: int = 0,
    max_frames: int = MAX_FRAMES,
    min_frames: int = 1,
) -> Clip:
    """Frames of a video, an animated GIF or a folder of pictures, cut and scaled for a model.

    The largest centred part with the shape of ``image_size`` (height, width) is kept. ``fps`` takes, at every 1/fps
    second, the frame that is on the screen; without it every frame is taken. ``start`` frames are left out, then up to
    ``max_frames`` are read. Nothing behind them is decoded, nor much before them where frames can be counted without
    decoding; damaged ones then count, too. Raises ``UserError`` if the file cannot be read or gives fewer than
    ``min_frames``.
    """
    pixels = read_pixels(path, image_size, channels, fps=fps, start=start, max_frames=max_frames, min_frames=min_frames)
    return Clip(from_uint8(torch.from_numpy(pixels.frames)), pixels.fps, pixels.note, pixels.more)


def check_exists(path: Path) -> None:
    """Raise ``UserError`` unless there is something at ``path``."""
    if not os.path.exists(path):  # Path.exists() raises where a name is too long
        raise UserError(f"there is no file {path}: check the name.")


def read_pixels(
    path: str | Path,
    image_size: tuple[int, int],
    channels: int,
    *,
    fps: float | None = None,
    start: int = 0,
    max_frames: int = MAX_FRAMES,
    min_frames: int = 1,
    remedy: str = "",
) -> Pixels:
    """What ``read_clip`` reads, as bytes.

    ``remedy``: what the ``UserError`` tells to do where there are too few frames; left out, to start earlier or to take
    a longer clip.
    """
    path = Path(path)
    if fps is not None and not MIN_FPS <= fps <= MAX_FPS:
        raise UserError(f"the frame rate must be between {MIN_FPS:g} and {MAX_FPS:g} frames a second, not {fps:g}.")
    if start < 0:
        raise UserError(f"the start frame must be 0 or more, not {start}.")
    check_exists(path)
    damage: list[str] = []
    entry = None if path.is_dir() or fps or start < SEEK_FROM else _find_entry(path, start)
    source = _folder_frames(path, fps or PICTURE_FPS) if path.is_dir() else _file_frames(path, damage, entry)
    if fps and not path.is_dir():
        source = _at_rate(source, fps)
    times, pictures = [], []
    passed = min(start - (entry.index if entry else 0), sys.maxsize - max_frames)  # islice counts no further
    for time, load in islice(source, passed, passed + max_frames):
        times.append(time)
        pictures.append(fit(load(), image_size, channels))
    if len(pictures) < min_frames:
        raise UserError(_too_few(path, start, len(pictures), min_frames, remedy))
    more = next(source, None) is not None
    source.close()
    notes = list(damage)
    gaps = [b - a for a, b in pairwise(times)]
    if gaps and max(gaps) > 1.5 * median(gaps) + 0.002:
        notes.append(
            f"The frames of {path.name} are {1000 * min(gaps):.0f} to {1000 * max(gaps):.0f} ms apart: "
            "give a frame rate to space them evenly."
        )
    seconds = sum(gaps)
    rate = fps or (round(len(gaps) / seconds, 3) if seconds > 0 else PICTURE_FPS)
    return Pixels(np.stack(pictures), min(max(rate, MIN_FPS), MAX_FPS), " ".join(damage), " ".join(notes), more)


def _too_few(path: Path, start: int, count: int, wanted: int, remedy: str) -> str:
    there = f" from frame {start} on" if start else ""
    remedy = remedy or ("start earlier" if start else "take a longer clip")
    return f"{path.name} has only {count} frame{'s' * (count != 1)}{there}, and {wanted} are needed: {remedy}."


def _folder_frames(folder: Path, fps: float) -> Iterator[tuple[float, Load]]:
    """Pictures of a folder in natural order (2 before 10), all equally long."""
    paths = [p for p in folder.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith(".")]
    if not paths:
        raise UserError(f"the folder {folder} has no pictures ({', '.join(PICTURES)}): give a folder of frames.")
    order = sorted(paths, key=lambda path: natural_order(path.name.lower()))
    for index, path in enumerate(order):
        yield index / fps, partial(open_picture, path, path)


def open_picture(file: Path | BinaryIO, path: Path) -> Image.Image:
    """A picture, upright, without alpha; ``UserError`` with the name ``path`` if it cannot be read."""
    try:
        with Image.open(file) as image:
            _check_pixels(path, *image.size)
            if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's conversion would clip instead of scale
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            return _without_alpha(ImageOps.exif_transpose(image))
    except UserError:
        raise
    except Exception as error:  # Pillow's readers raise errors of any kind at damaged files
        raise UserError(f"the picture {path} cannot be read: remove it or export it again.") from error


class Entry(NamedTuple):
    """A key frame at which a video can be entered."""

    index: int
    """Which frame it is."""
    pts: int
    """When it is shown, in ticks of the stream."""
    first: float
    """When the first frame of the file is shown, in seconds."""


def _find_entry(path: Path, start: int) -> Entry | None:
    """The last key frame up to frame ``start``; None where it is not certain which frame that is.

    It is where every packet is one frame and tells its time. That decoding does begin there is tried out.
    """
    import av

    times, keys = [], []
    try:
        with opened(path) as (container, stream):
            if stream.codec_context is None or stream.codec_context.name not in ONE_FRAME_A_PACKET:
                return None
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    times.append(packet.pts)
                    keys += [packet.pts] if packet.is_keyframe else []
            if None in times or len(set(times)) < len(times) or not times or [min(times)] != keys[:1]:
                return None
            times.sort()
            entry = max(pts for pts in keys if pts <= times[min(start, len(times) - 1)])
            container.seek(entry, stream=stream)
            shown = next((frame for frame in container.decode(stream) if frame.pts is None or frame.pts >= entry), None)
            if shown is None or shown.pts != entry or shown.is_corrupt:
                return None
            return Entry(times.index(entry), entry, float(times[0] * stream.time_base))
    except av.error.FFmpegError:
        return None


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A video file, and its stream of pictures; ``UserError`` if it is none."""
    import av

    if path.stat().st_size == 0:
        raise UserError(f"{path.name} is empty: copy or export it again.")
    # larger than what is read, so that what is somewhat too large can be named
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", "max_pixels": str(4 * MAX_PIXELS)}
    try:
        container = av.open(str(path), options=options, metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(
            f"{path.name} cannot be read as a video: it is damaged or of another kind; export it as MP4."
        ) from error
    with container:
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise UserError(f"{path.name} has no pictures in it, only sound: choose a file with a video track.")
        yield container, streams[0]


def _file_frames(path: Path, damage: list[str], entry: Entry | None) -> Iterator[tuple[float, Load]]:
    """Frames of a video file, from ``entry`` on, with their times in seconds.

    Says in ``damage`` if the file ends too early.
    """
    import av

    with opened(path) as (container, stream):
        decoder = _decoder(path, stream)
        rate = float(stream.average_rate or stream.guessed_rate or PICTURE_FPS)
        count, damaged, first, end = 0, False, None, 0.0
        if entry:
            count, first = entry.index, entry.first
            container.seek(entry.pts, stream=stream)
        try:
            for packet in container.demux(stream):
                try:
                    decoded = decoder.decode(packet)
                except av.error.FFmpegError:
                    damaged = True
                    continue
                for frame in decoded:
                    if entry and frame.pts is not None and frame.pts < entry.pts:
                        continue
                    if frame.is_corrupt:
                        damaged = True
                        continue
                    time = count / rate if frame.time is None else frame.time
                    first = time if first is None else first
                    count, end = count + 1, time + 1 / rate
                    yield time, partial(_video_picture, path, frame, stream.sample_aspect_ratio)
        except av.error.FFmpegError:
            damaged = True
        declared, seconds = stream.frames, (container.duration or 0) / av.time_base
    if not count:
        raise UserError(f"no frame of {path.name} can be decoded: export it again as MP4 (H.264, 1280 pixels wide).")
    length, told = end - first, f"{count} of its {declared} frames" if declared else f"{count} frames"
    # a trimmed clip declares frames that it does not show, but it lasts as long as it says
    if length < seconds - (1.5 / rate if declared > count else 0.2 + 0.1 * seconds):
        damage.append(f"{path.name} is cut short: {told} could be read, {length:.1f} of {seconds:.1f} seconds.")
    elif damaged:
        damage.append(f"{path.name} is damaged: {count} frames could be read, some are missing.")


def _decoder(path: Path, stream):
    """The stream's decoder, with threads; for WebM with alpha the one that decodes alpha."""
    import av

    decoder = stream.codec_context
    if decoder is None:
        raise UserError(f"{path.name} is in a format without a decoder here: export it as MP4 (H.264).")
    _check_pixels(path, decoder.width, decoder.height)
    alpha = any(key.lower() == "alpha_mode" and value == "1" for key, value in stream.metadata.items())
    if alpha and decoder.name in ("vp8", "vp9"):
        decoder = av.CodecContext.create({"vp8": "libvpx", "vp9": "libvpx-vp9"}[decoder.name], "r")
    decoder.thread_type = "AUTO"
    decoder.options = {"max_pixels": str(MAX_PIXELS)}  # a stream may grow on the way
    return decoder


def _video_picture(path: Path, frame, pixel_aspect: Fraction | None) -> Image.Image:
    """A decoded frame as it is meant to be seen: square pixels, upright, on black."""
    _check_pixels(path, frame.width, frame.height)
    alpha = any(component.is_alpha for component in frame.format.components)
    image = _without_alpha(Image.fromarray(frame.to_ndarray(format="rgba" if alpha else "rgb24")))
    if pixel_aspect and pixel_aspect != 1 and 0.25 <= pixel_aspect <= 4:
        image = image.resize((max(1, round(image.width * pixel_aspect)), image.height), Image.Resampling.LANCZOS)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return _oriented(image, np.frombuffer(matrix, np.int32)) if matrix else image


def _oriented(image: Image.Image, matrix: np.ndarray) -> Image.Image:
    """Turned and mirrored as a display matrix says: x' = m0 x + m3 y, y' = m1 x + m4 y, by multiples of 90 degrees."""
    x, y = matrix[[0, 4]]
    if abs(matrix[1]) > abs(matrix[0]):
        image = image.transpose(Image.Transpose.TRANSPOSE)
        x, y = matrix[[3, 1]]
    if x < 0:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if y < 0 else image


def _without_alpha(image: Image.Image) -> Image.Image:
    """On black."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    black = Image.new("RGB", image.size)
    black.paste(image, mask=image.getchannel("A"))
    return black


def _check_pixels(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UserError(
            f"the frames of {path.name} have {width}x{height} pixels, more than can be read: scale the clip down, "
            "1280 pixels of width are plenty."
        )


def _at_rate(frames: Iterator[tuple[float, Load]], fps: float) -> Iterator[tuple[float, Load]]:
    """The frame that is on the screen at every 1/fps second."""
    origin, shown = next(frames, (0.0, None))
    index, since, gap = 0, origin, 1 / fps
    for time, load in frames:
        while origin + index / fps < time - 1e-6:
            yield origin + index / fps, shown
            index += 1
        since, shown, gap = time, load, time - since
    while shown and origin + index / fps < since + gap - 1e-6:  # the last frame stays as long as the one before it
        yield origin + index / fps, shown
        index += 1


def fit(image: Image.Image, image_size: tuple[int, int], channels: int) -> np.ndarray:
    """The largest centred part of that shape, antialiased: uint8 (C, H, W)."""
    height, width = image_size
    across, down = min(image.width, image.height * width / height), min(image.height, image.width * height / width)
    left, top = (image.width - across) / 2, (image.height - down) / 2
    box = (left, top, left + across, top + down)
    image = image.convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS, box, reducing_gap=3.0))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


# ---------------------------------------------------------------------------------------------------------- writing


def write_video(path: str | Path, video: Iterable[Tensor], fps: float) -> None:
    """Write frames (C, H, W) in [-1, 1] as H.264 MP4 that plays everywhere, or as GIF, by the suffix.

    ``video`` is a tensor (T, C, H, W) or any iterable of frames, of which one at a time is held. The file appears once
    it is whole.
    """
    path = check_output(path, WRITERS)
    pictures = map(picture_of, video)
    with draft(path) as part:
        (_write_gif if path.suffix.lower() == ".gif" else _write_mp4)(part, pictures, fps)


def _write_mp4(path: Path, pictures: Iterator[np.ndarray], fps: float) -> None:
    import av

    with av.open(str(path), "w", options={"movflags": "+faststart"}) as out:
        stream = None
        for picture in pictures:
            picture = np.pad(picture, [(0, n % 2) for n in picture.shape[:2]] + [(0, 0)], mode="edge")  # yuv420p: even
            if stream is None:
                rate = Fraction(fps).limit_denominator(1001)
                stream = out.add_stream("libx264", rate=rate, options={"crf": "14", "preset": "medium"})
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.color_range = 1  # limited range, BT.709: named, so that no player has to guess
                stream.codec_context.colorspace = 1
                stream.codec_context.color_primaries = 1
                stream.codec_context.color_trc = 1
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            out.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")))
        if stream:
            out.mux(stream.encode(None))


def _write_gif(path: Path, pictures: Iterator[np.ndarray], fps: float) -> None:
    frames = [Image.fromarray(p).quantize(256, dither=Image.Dither.NONE) for p in pictures]
    ends = [round(100 * (i + 1) / fps) for i in range(len(frames))]  # GIF counts in 1/100 s: do not let errors add up
    durations = [10 * max(2, b - a) for a, b in pairwise([0, *ends])]  # browsers slow down shorter frames
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0)
