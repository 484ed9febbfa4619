"""Clips that tests read, good ones and bad ones, made on the spot."""

from __future__ import annotations

import io
import resource
import tempfile
import threading
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
from PIL import Image

PHONE = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
"""The display matrix of a phone held upright: the stored picture is shown turned by 90 degrees clockwise."""


FAST = {"preset": "ultrafast", "crf": "10"}


@contextmanager
def full_disk(after: int) -> Iterator[None]:
    """No file can be written beyond so many bytes: to who writes it is as if the disk was full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: int = 10,
    times: Sequence[int] | None = None,
    matrix: Sequence[int] | None = None,
    pixel_aspect: Fraction | None = None,
    sound: bool = False,
    options: dict[str, str] | None = None,
    index_first: bool = True,
) -> Path:
    """Encode uint8 frames (H, W, 3 or 4); ``times`` are their ticks of 1/rate second."""
    with av.open(str(path), "w", options={"movflags": "+faststart"} if index_first else {}) as out:
        stream = out.add_stream(codec, rate=rate, options=FAST if options is None else options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, rate)
        if matrix:
            stream.set_display_matrix(matrix)
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        voice = out.add_stream("aac", rate=16000, layout="mono") if sound else None
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(picture), format="rgba" if picture.shape[2] == 4 else "rgb24"
            )
            frame.pts, frame.time_base = (times[index] if times else index), Fraction(1, rate)
            out.mux(stream.encode(frame.reformat(format=pix_fmt)))
        if voice:
            for index in range(len(frames)):
                noise = av.AudioFrame.from_ndarray(
                    np.zeros((1, 16000 // rate), np.float32), format="fltp", layout="mono"
                )
                noise.sample_rate, noise.pts = 16000, index * (16000 // rate)
                out.mux(voice.encode(noise))
            out.mux(voice.encode(None))
        out.mux(stream.encode(None))
    return path


def flat(value: int | Sequence[int], height: int = 32, width: int = 32) -> np.ndarray:
    """One colour everywhere."""
    return np.full((height, width, 3), value, np.uint8)


def grays(count: int, height: int = 32, width: int = 32) -> list[np.ndarray]:
    """Flat frames whose gray is 8 times their index: frames that tell which they are."""
    return [flat(8 * index, height, width) for index in range(count)]


def upright(height: int, width: int) -> np.ndarray:
    """Red above, green below on the left, blue below on the right: tells how it is turned or mirrored."""
    picture = flat((220, 30, 30), height, width)
    picture[height // 2 :, : width // 2] = 30, 200, 30
    picture[height // 2 :, width // 2 :] = 30, 30, 220
    return picture


def write_gif(path: Path, frames: Sequence[np.ndarray], durations: Sequence[int]) -> Path:
    """A lossless GIF of gray frames; ``durations`` in ms."""
    images = [Image.fromarray(frame[..., 0]) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=list(durations), disposal=1)
    return path


def phone_clip(path: Path, frames: int = 11) -> Path:
    """1080 x 1920 pixels upright, stored lying on the side as phones do, 30 frames a second, with sound."""
    scene = upright(1920, 1080)
    pictures = []
    for index in range(frames):
        picture = scene.copy()
        picture[900:1100, 40 * index : 40 * index + 200] = 255
        pictures.append(np.rot90(picture))  # counterclockwise: the matrix turns it back
    return write_clip(path, pictures, rate=30, matrix=PHONE, sound=True)


def silent_sound(path: Path) -> Path:
    """A sound file: .m4a or .mp4 in AAC, or .wav."""
    if path.suffix == ".wav":
        with wave.open(str(path), "wb") as out:
            out.setparams((1, 2, 8000, 0, "NONE", ""))
            out.writeframes(bytes(1600))
        return path
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def noise(count: int, size: int = 64) -> np.ndarray:
    """Frames (T, H, W, 3) that no encoder makes small: a file of them can be cut in the middle of its frames."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


@cache
def _huge() -> bytes:
    """An MP4 of 7680 x 4320 pixels; it takes seconds to make."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_clip(Path(folder) / "a.mp4", grays(1, 4320, 7680), codec="mjpeg", pix_fmt="yuvj420p", options={})
        return path.read_bytes()


def bad_clip(kind: str, folder: Path) -> Path:
    """A path that no clip can be read from; ``kind`` is one of ``BAD_CLIPS``."""
    path = folder / "clip.mp4"
    match kind:
        case "missing":
            pass
        case "empty":
            path.touch()
        case "text":
            path.write_text("Dear diary, today I renamed a text file.\n" * 50)
        case "playlist":
            write_clip(folder / "real.ts", grays(4))
            path.write_text(f"#EXTM3U\n#EXTINF:1,\n{folder / 'real.ts'}\n#EXT-X-ENDLIST\n")
        case "sound in mp4":
            silent_sound(path)
        case "sound in wav":
            path = silent_sound(folder / "clip.wav")
        case "one frame":
            write_clip(path, grays(1))
        case "8K":
            path.write_bytes(_huge())
        case "8K gif":
            header = b"GIF89a" + (7680).to_bytes(2, "little") + (4320).to_bytes(2, "little")
            buffer = io.BytesIO()
            Image.new("L", (8, 8)).save(buffer, "GIF")
            path = folder / "clip.gif"
            path.write_bytes(header + buffer.getvalue()[10:])
        case "no index":
            write_clip(path, grays(8), index_first=False)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "empty folder":
            path = folder / "pictures"
            path.mkdir()
            (path / "notes.txt").write_text("no pictures here")
        case "folder with a damaged picture":
            path = folder / "pictures"
            path.mkdir()
            for index in range(3):
                Image.fromarray(flat(index)).save(path / f"{index}.png")
            (path / "1.png").write_bytes((path / "1.png").read_bytes()[:40])
    return path


BAD_CLIPS = {
    "missing": "there is no file",
    "empty": "is empty",
    "text": "cannot be read as a video",
    "playlist": "cannot be read as a video",
    "sound in mp4": "only sound",
    "sound in wav": "only sound",
    "one frame": "has only 1 frame",
    "8K": "7680x4320 pixels, more than can be read",
    "8K gif": "7680x4320 pixels, more than can be read",
    "no index": "cannot be read as a video",
    "empty folder": "has no pictures",
    "folder with a damaged picture": "1.png cannot be read",
}
"""Kind -> words that its message has."""


@contextmanager
def serve() -> Iterator[tuple[str, list[tuple[bytes, int | None]], list[str]]]:
    """A web server of this machine: its address, what it answers, and what it was asked for.

    The answer is the last of the list: bytes, and how many of them it promises if not so many. It knows nothing of
    what is called missing, and says nothing to what is called silent.
    """
    answers, asked, over = [], [], threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if "silent" in self.path:
                over.wait()
                return
            content, promised = answers[-1]
            self.send_response(404 if "missing" in self.path else 200)
            self.send_header("Content-Length", str(promised or len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", answers, asked
        over.set()
        server.shutdown()
