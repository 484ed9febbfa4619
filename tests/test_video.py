"""Files and uint8 on one side, videos in [-1, 1] on the other."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from media import BAD_CLIPS, FAST, bad_clip, flat, grays, noise, phone_clip, upright, write_clip, write_gif
from PIL import Image
from torch import Tensor

from lgcvd import UserError, video
from lgcvd.video import from_uint8, read_clip, read_pixels, to_uint8

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 220)

quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def which(frames: Tensor) -> list[int]:
    """Which of ``media.grays`` each frame is."""
    return [round(float(frame.float().mean()) / 8) for frame in to_uint8(frames)]


def colours(frames: Tensor) -> Tensor:
    """Mean colours of the top, bottom left and bottom right of the first frame, in [0, 255]."""
    picture = to_uint8(frames[0]).float()
    height, width = picture.shape[-2:]
    h, w = height // 8, width // 8
    places = [(h, 3 * w), (6 * h, w), (6 * h, 6 * w)]
    return torch.stack([picture[:, y : y + h, x : x + w].mean((1, 2)) for y, x in places])


def near(found: Tensor, wanted: object, tolerance: float = 12) -> bool:
    return bool((found - torch.tensor(wanted)).abs().max() <= tolerance)


def test_bytes_come_back_from_the_inner_range():
    every = torch.arange(256, dtype=torch.uint8)
    inside = from_uint8(every)
    assert inside.min() == -1
    assert inside.max() == 1
    assert torch.equal(to_uint8(inside), every)
    assert to_uint8(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]


# reading


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "mjpeg", "yuvj420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.mkv", "ffv1", "yuv420p"),
    ],
)
def test_every_container_gives_its_frames(tmp_path: Path, name: str, codec: str, pix_fmt: str):
    options = FAST if codec == "libx264" else {"deadline": "realtime", "cpu-used": "8"} if "vp9" in codec else {}
    path = write_clip(tmp_path / name, grays(12), codec=codec, pix_fmt=pix_fmt, rate=25, options=options)
    clip = read_clip(path, (16, 16), 1)
    assert clip.frames.shape == (12, 1, 16, 16)
    assert which(clip.frames) == list(range(12))
    assert clip.fps == pytest.approx(25, rel=0.01)
    assert clip.note == ""


def test_gif_gives_its_frames_exactly(tmp_path: Path):
    path = write_gif(tmp_path / "a.gif", grays(5, 16, 16), [100] * 5)
    clip = read_clip(path, (16, 16), 1)
    assert torch.equal(to_uint8(clip.frames)[:, 0, 0, 0], torch.arange(0, 40, 8, dtype=torch.uint8))
    assert clip.fps == pytest.approx(10)


def test_pictures_of_a_folder_come_in_natural_order(tmp_path: Path):
    for index in range(12):
        Image.fromarray(flat(8 * index)).save(tmp_path / f"frame{index}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "._frame0.png").write_bytes(b"what a Mac leaves behind")
    clip = read_clip(tmp_path, (16, 16), 1, fps=24)
    assert which(clip.frames) == list(range(12))
    assert clip.fps == 24
    for index, name in enumerate(("²2.png", "²10.png")):  # a digit that is no number
        (tmp_path / "raised").mkdir(exist_ok=True)
        Image.fromarray(flat(8 * index)).save(tmp_path / "raised" / name)
    assert which(read_clip(tmp_path / "raised", (16, 16), 1).frames) == [0, 1]


@quick
@given(height=st.integers(1, 70), width=st.integers(1, 70), target=st.tuples(st.integers(1, 40), st.integers(1, 40)))
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_is_brought_to_the_models_size(tmp_path: Path, channels: int, height: int, width: int, target: tuple):
    Image.fromarray(flat(96, height, width)).save(tmp_path / "a.png")
    frames = read_clip(tmp_path, target, channels).frames
    assert frames.shape == (1, channels, *target)
    assert (to_uint8(frames) == 96).all()


@quick
@given(height=st.integers(8, 20), width=st.integers(8, 20), margin=st.integers(1, 40), across=st.booleans())
def test_only_the_middle_is_kept(tmp_path: Path, height: int, width: int, margin: int, across: bool):
    """A white middle of the wanted shape between black margins: black is left in the outermost pixels at most."""
    margins = ((0, 0), (margin, margin)) if across else ((margin, margin), (0, 0))
    picture = np.pad(np.full((2 * height, 2 * width), 255, np.uint8), margins)
    Image.fromarray(picture).save(tmp_path / "a.png")
    frame = read_clip(tmp_path, (height, width), 1).frames
    assert (frame[..., 1:-1, 1:-1] > 0.9).all()
    assert frame.mean() > 0.9


def test_shrinking_averages_instead_of_dropping_pixels(tmp_path: Path):
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    frame = to_uint8(read_clip(tmp_path, (8, 8), 1).frames).float()
    assert (frame - 127.5).abs().max() < 10


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_turned_and_mirrored_videos_are_shown_upright(tmp_path: Path, turns: int, mirrored: bool):
    """Quarter turns, and before them a mirror: the eight ways to hold a camera."""
    turn, matrix = np.array([[0, -1], [1, 0]]), np.eye(2, dtype=int)  # columns: where x and y go
    stored = upright(32, 32)
    for _ in range(turns):
        matrix, stored = turn @ matrix, np.rot90(stored)
    if mirrored:
        matrix, stored = matrix @ np.diag([-1, 1]), stored[:, ::-1]
    (a, c), (b, d) = (65536 * matrix).tolist()
    path = write_clip(tmp_path / "a.mp4", [stored] * 2, matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30))
    assert near(colours(read_clip(path, (32, 32), 3).frames), [RED, GREEN, BLUE])


def test_a_phones_clip_is_upright(tmp_path: Path):
    clip = read_clip(phone_clip(tmp_path / "phone.mp4", frames=3), (192, 108), 3)
    assert clip.frames.shape == (3, 3, 192, 108)
    assert near(colours(clip.frames), [RED, GREEN, BLUE])
    assert clip.fps == pytest.approx(30, rel=0.01)


def test_exif_turns_pictures(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on the side: turn by 90 degrees clockwise
    Image.fromarray(np.ascontiguousarray(np.rot90(upright(32, 32)))).save(tmp_path / "a.png", exif=exif)
    assert near(colours(read_clip(tmp_path, (32, 32), 3).frames), [RED, GREEN, BLUE])


def test_wide_pixels_are_made_square(tmp_path: Path):
    """32 x 32 pixels twice as wide as high are a picture of 64 x 32; its middle square is half of it."""
    picture = flat(0)
    picture[:, 8:24] = 255
    path = write_clip(tmp_path / "a.mp4", [picture] * 2, pixel_aspect=Fraction(2))
    frames = to_uint8(read_clip(path, (16, 16), 1).frames)
    assert frames[..., 1:-1].min() > 240


@pytest.mark.parametrize("kind", ["webm", "gif", "png"])
def test_transparent_parts_are_black(tmp_path: Path, kind: str):
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[..., :3] = 200
    picture[:, :16, 3] = 255
    path = tmp_path / f"a.{kind}"
    if kind == "webm":
        options = {"deadline": "realtime", "cpu-used": "8"}
        write_clip(path, [picture] * 2, codec="libvpx-vp9", pix_fmt="yuva420p", options=options)
    elif kind == "gif":
        images = [Image.fromarray(picture), Image.fromarray(np.rot90(picture, 2))]
        images[0].save(path, save_all=True, append_images=images[1:], duration=100, disposal=2)
    else:
        Image.fromarray(picture).save(path)
        path = tmp_path
    frame = to_uint8(read_clip(path, (32, 32), 3).frames[0]).float()
    assert near(frame[:, :, 2:14].mean((1, 2)), [200, 200, 200])
    assert near(frame[:, :, 18:30].mean((1, 2)), [0, 0, 0])


def test_pictures_of_16_bits_keep_their_grays(tmp_path: Path):
    Image.fromarray(np.full((8, 8), 128 * 256, np.uint16)).save(tmp_path / "a.png")
    assert (to_uint8(read_clip(tmp_path, (8, 8), 1).frames) == 128).all()


def test_colours_survive_writing_and_reading(tmp_path: Path):
    scene = from_uint8(torch.from_numpy(upright(64, 64)).permute(2, 0, 1))
    video.write_video(tmp_path / "a.mp4", scene.expand(3, -1, -1, -1), 10)
    assert near(colours(read_clip(tmp_path / "a.mp4", (64, 64), 3).frames), [RED, GREEN, BLUE], 4)


# time


# denominators up to 100: moments are then either exactly at a frame's time or further from it than the rounding
@quick
@given(delays=st.lists(st.integers(2, 30), min_size=2, max_size=12), fps=st.fractions(2, 60, max_denominator=100))
@example(delays=[2, 2, 2, 2, 2, 16, 30, 30, 30, 2], fps=Fraction(58.21934287355887))
@example(delays=[25, 25], fps=Fraction(2.00001))
@example(delays=[10, 20, 30], fps=Fraction(10))
@example(delays=[3, 7, 4], fps=Fraction(30000, 1001))
def test_resampling_shows_what_is_on_the_screen(tmp_path: Path, delays: list[int], fps: Fraction):
    path = write_gif(tmp_path / "a.gif", grays(len(delays), 8, 8), [10 * d for d in delays])
    starts = [0, *accumulate(delays[:-1])]
    end = starts[-1] + delays[-2]  # the last frame is shown as long as the one before it
    moments = [100 * n / fps for n in range(math.ceil(end * fps / 100))]  # in 1/100 s, as GIF counts; all exact
    clip = read_clip(path, (8, 8), 1, fps=float(fps))
    assert which(clip.frames) == [sum(start <= moment for start in starts) - 1 for moment in moments]
    assert clip.fps == float(fps)


def test_uneven_times_are_told_and_evened_out(tmp_path: Path):
    path = write_clip(tmp_path / "a.mp4", grays(5), rate=10, times=[0, 1, 2, 6, 7])
    plain = read_clip(path, (16, 16), 1)
    assert which(plain.frames) == [0, 1, 2, 3, 4]
    assert "100 to 400 ms apart: give a frame rate" in plain.note
    even = read_clip(path, (16, 16), 1, fps=10)
    assert which(even.frames) == [0, 1, 2, 2, 2, 2, 3, 4]
    assert even.note == ""


@quick
@given(start=st.integers(0, 6), limit=st.integers(1, 9))
def test_start_and_limit_cut_a_slice(tmp_path: Path, start: int, limit: int):
    path = tmp_path / "a.gif"
    if not path.exists():
        write_gif(path, grays(8, 8, 8), [100] * 8)
    clip = read_clip(path, (8, 8), 1, start=start, max_frames=limit)
    assert which(clip.frames) == list(range(8))[start : start + limit]
    assert clip.more == (start + limit < 8)


def test_of_ten_minutes_only_the_beginning_is_decoded(tmp_path: Path):
    """Everything behind the first tenth of the file is garbage, and nobody notices."""
    options = {**FAST, "g": "10", "bf": "0"}
    path = write_clip(tmp_path / "a.mp4", grays(30, 16, 16) * 20, rate=1, options=options)
    data = bytearray(path.read_bytes())
    tail = data.rindex(b"mdat") + (len(data) - data.rindex(b"mdat")) // 10
    data[tail:] = bytes(b ^ 0x5A for b in data[tail:])
    path.write_bytes(data)
    clip = read_clip(path, (16, 16), 1, max_frames=20)
    assert which(clip.frames) == list(range(20))
    assert (clip.note, clip.more) == ("", True)


# bad input


@pytest.mark.parametrize("kind", BAD_CLIPS)
def test_bad_clips_are_refused_with_a_sentence(tmp_path: Path, kind: str):
    path = bad_clip(kind, tmp_path)
    with pytest.raises(UserError) as refused:
        read_clip(path, (16, 16), 1, min_frames=2)
    message = str(refused.value)
    assert BAD_CLIPS[kind] in message
    assert "\n" not in message
    assert ":" in message  # what is wrong: what to do


def test_a_file_cut_short_gives_what_it_has_and_says_so(tmp_path: Path):
    path = write_clip(tmp_path / "a.mp4", noise(20), options={**FAST, "g": "1"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip = read_clip(path, (16, 16), 1)
    assert 5 <= len(clip.frames) <= 10
    count = len(clip.frames)
    assert clip.note == f"a.mp4 is cut short: {count} of its 20 frames could be read, {count / 10:.1f} of 2.0 seconds."


def test_a_trimmed_clip_is_not_taken_for_one_cut_short(tmp_path: Path):
    """Phones trim without encoding again: frames before time 0 are in the file, but not in the clip."""
    path = write_clip(tmp_path / "a.mp4", grays(12), times=list(range(-4, 8)))
    with av.open(str(path)) as file:
        assert file.streams.video[0].frames == 12
    clip = read_clip(path, (16, 16), 1)
    assert which(clip.frames) == list(range(4, 12))
    assert clip.note == ""


def test_a_webm_cut_short_says_so(tmp_path: Path):
    options = {"deadline": "realtime", "cpu-used": "8"}
    path = write_clip(tmp_path / "a.webm", noise(20), codec="libvpx-vp9", options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip = read_clip(path, (16, 16), 1)
    assert 5 <= len(clip.frames) <= 12
    assert "a.webm is cut short" in clip.note


def test_too_late_a_start_is_told_from_too_short_a_clip(tmp_path: Path):
    path = write_gif(tmp_path / "a.gif", grays(4, 8, 8), [100] * 4)
    with pytest.raises(UserError, match="has only 1 frame from frame 3 on, and 2 are needed: start earlier"):
        read_clip(path, (8, 8), 1, start=3, min_frames=2)
    with pytest.raises(UserError, match="has only 4 frames, and 5 are needed: take a longer clip"):
        read_clip(path, (8, 8), 1, min_frames=5)
    for start in (0, 3):
        with pytest.raises(UserError, match="and 5 are needed: get it again"):
            read_pixels(path, (8, 8), 1, start=start, min_frames=5, remedy="get it again")


@pytest.mark.parametrize("options", [{"fps": 0}, {"fps": -1}, {"fps": 1e9}, {"fps": float("nan")}, {"start": -1}])
def test_impossible_numbers_are_refused(tmp_path: Path, options: dict):
    path = write_gif(tmp_path / "a.gif", grays(4, 8, 8), [100] * 4)
    with pytest.raises(UserError):
        read_clip(path, (8, 8), 1, **options)


# writing


@quick
@given(height=st.integers(1, 40), width=st.integers(1, 40), fps=st.sampled_from([1, 10, 23.976, 30]))
@pytest.mark.parametrize("channels", [1, 3])
def test_mp4_of_any_size_plays_everywhere(tmp_path: Path, channels: int, height: int, width: int, fps: float):
    video.write_video(tmp_path / "a.mp4", torch.zeros(3, channels, height, width), fps)
    with av.open(str(tmp_path / "a.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.frames) == ("h264", "yuv420p", 3)
        assert (stream.height, stream.width) == (height + height % 2, width + width % 2)
        assert float(stream.average_rate) == pytest.approx(fps, rel=1e-3)


def test_gif_keeps_frames_and_time(tmp_path: Path):
    frames = from_uint8(torch.from_numpy(np.stack(grays(9, 16, 16))).permute(0, 3, 1, 2))
    video.write_video(tmp_path / "a.gif", frames, 30)
    clip = read_clip(tmp_path / "a.gif", (16, 16), 3)
    assert torch.equal(clip.frames, frames)
    assert clip.fps == pytest.approx(30, rel=0.05)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_interrupted_writing_leaves_the_old_file_and_no_half_one(tmp_path: Path, name: str):
    def breaks_off():
        yield torch.zeros(1, 16, 16)
        raise KeyboardInterrupt

    path = tmp_path / name
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        video.write_video(path, breaks_off(), 10)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_kinds_of_output_are_refused(tmp_path: Path):
    for name in ("a.wmv", "a", "a.png"):
        with pytest.raises(UserError, match=r"end it in .mp4 or .gif"):
            video.write_video(tmp_path / name, torch.zeros(1, 1, 8, 8), 10)


LONG = {
    "frames in another order.mp4": {"options": {"g": "30", "bf": "3", "preset": "medium"}},
    "open groups.mkv": {"options": {"g": "30", "bf": "3", "x264-params": "open-gop=1"}},
    "uneven.mp4": {"options": {"g": "30", "bf": "3"}, "times": [2 * i + i % 2 for i in range(150)]},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "40", "cpu-used": "8", "deadline": "realtime"}},
    "hidden frames.webm": {"codec": "libvpx", "options": {"g": "40", "auto-alt-ref": "1", "lag-in-frames": "10"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"g": "40", "preset": "12"}},
    "no times.ts": {"options": {"g": "30"}},
}
NOT_COUNTED = ("hidden frames.webm", "no times.ts")


@pytest.mark.parametrize("name", LONG)
def test_a_late_start_gives_the_frames_that_decoding_everything_gives(name: str, tmp_path: Path):
    path = write_clip(tmp_path / name, noise(150, 8).repeat(8, 1).repeat(8, 2), **LONG[name])
    whole = video.read_pixels(path, (16, 16), 3).frames
    assert len(whole) == 150
    for start in (50, 89, 90, 91, 120, 147):
        entry = video._find_entry(path, start)
        assert (entry is None) == (name in NOT_COUNTED)
        assert entry is None or start - 45 < entry.index <= start
        part = video.read_pixels(path, (16, 16), 3, start=start, max_frames=5)
        np.testing.assert_array_equal(part.frames, whole[start : start + 5])
        assert part.more == (start < 145)
        assert not part.damage
    with pytest.raises(UserError, match="has only 0 frames from frame 150 on"):
        video.read_pixels(path, (16, 16), 3, start=150)


def test_a_late_start_in_a_clip_that_is_cut_short(tmp_path: Path):
    path = write_clip(tmp_path / "a.mp4", noise(150), options={**FAST, "g": "10"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    whole = video.read_pixels(path, (16, 16), 3)
    part = video.read_pixels(path, (16, 16), 3, start=77)
    np.testing.assert_array_equal(part.frames, whole.frames[77:])
    assert part.damage == whole.damage
    assert "is cut short" in part.damage
