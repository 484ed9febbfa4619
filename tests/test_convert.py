from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lgcvd import UserError, convert
from lgcvd.convert import Video, add_options
from lgcvd.shards import Recording, Shard

BROKEN = ("v03", "v09")


def load(name: str, seconds: float = 0.0) -> Recording:
    """20 frames that depend on the name."""
    time.sleep(seconds)
    if name in BROKEN:
        raise UserError(f"{name} is broken.")
    rng = np.random.default_rng(int(name[1:]))
    return Recording(name, rng.integers(0, 256, (20, 8, 8, 3), np.uint8), 5.0)


def videos(count: int = 14, **options) -> list[Video]:
    names = [f"v{i:02d}" for i in range(count)]
    splits = ["validation" if i % 5 == 4 else "train" for i in range(count)]
    return [Video(n, split, partial(load, n, **options), 20) for n, split in zip(names, splits, strict=True)]


def options(out: Path, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(["--out_dir", str(out), "--workers", "1", "--videos_per_shard", "4", *more])


def run(out: Path, *more: str, made: list[Video] | None = None, **settings) -> int:
    return convert.convert(made or videos(), (8, 8, 3), options(out, *more), source="toy", settings=settings)


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_everything_is_written_and_what_is_broken_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert run(tmp_path / "out") == 3
    told = capsys.readouterr()
    assert "12 videos, 240 frames" in told.out
    assert [line for line in told.err.splitlines() if line.startswith("skipped")] == [
        "skipped v03: v03 is broken.",
        "skipped v09: v09 is broken.",
    ]
    seen = []
    for split, count in {"train": 3, "validation": 1}.items():
        paths = sorted((tmp_path / "out" / split).iterdir())
        assert [path.name for path in paths] == [f"shard_{i + 1:04d}.hdf5" for i in range(count)]
        for shard in map(Shard, paths):
            assert (shard.source, shard.split) == ("toy", split)
            for i, name in enumerate(shard.names):
                seen.append(name)
                assert np.array_equal(shard.read(i, range(20)), load(name).frames)
    assert sorted(seen) == [v.name for v in videos() if v.name not in BROKEN]


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path):
    for workers in ("1", "2"):
        run(tmp_path / workers, "--workers", workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_what_is_there_is_not_made_again(tmp_path: Path, capsys: pytest.CaptureFixture):
    run(tmp_path / "out")
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / "train" / "shard_0002.hdf5").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.hdf5")}
    capsys.readouterr()
    assert run(tmp_path / "out") == 3
    assert contents(tmp_path / "out") == whole
    assert all(path.stat().st_mtime_ns == changed for path, changed in before.items())
    told = capsys.readouterr().err
    assert "skipped v03" in told  # of a shard that was not made again
    shards = [str(tmp_path / "out" / place) for place in ("train/shard_0001.hdf5", "validation/shard_0001.hdf5")]
    assert f"once you have mended these, remove {' '.join(shards)} and run the same command again" in told


@pytest.mark.slow
@pytest.mark.parametrize(("how", "workers"), [(signal.SIGKILL, "2"), (signal.SIGINT, "1")])
def test_a_stopped_conversion_goes_on_to_the_same_bytes(how: signal.Signals, workers: str, tmp_path: Path):
    run(tmp_path / "whole", made=videos(12))
    program = (
        "import sys; from pathlib import Path; from tests.test_convert import run, videos; from lgcvd import convert\n"
        f"out = Path({str(tmp_path / 'out')!r})\n"
        f"convert.main(lambda: run(out, '--workers', {workers!r}, made=videos(12, seconds=0.3)))"
    )
    slow = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    (tmp_path / "out" / "train").mkdir(parents=True)
    (tmp_path / "out" / convert.SETTINGS).write_bytes((tmp_path / "whole" / convert.SETTINGS).read_bytes())
    (tmp_path / "out" / "train" / ".shard_0002-0123abcd.hdf5").write_text("half of what an earlier kill left")
    while not list(tmp_path.glob("out/train/shard_*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    slow.send_signal(how)
    _, told = slow.communicate(timeout=60)  # which ends when no worker has their stderr any longer
    if how == signal.SIGINT:
        assert slow.returncode == 130
        assert "goes on with what is missing" in told
        assert "Traceback" not in told
    missing = len(contents(tmp_path / "whole")) - len(contents(tmp_path / "out"))
    assert missing > 0
    assert run(tmp_path / "out", made=videos(12)) == 3
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_shards_hold_what_fits_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(convert, "SHARD_BYTES", 50 * 8 * 8 * 3)
    assert run(tmp_path, "--videos_per_shard", "3", made=[*videos(3), replace(videos(8)[7], frames=70)]) == 0
    paths = sorted((tmp_path / "train").glob("*.hdf5"))
    assert [Shard(path).names for path in paths] == [["v00", "v01"], ["v02"], ["v07"]]


def test_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert run(tmp_path / "out", "--dry_run") == 0
    assert "12 train, 2 validation, 0 test videos, about 280 frames" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_other_settings_are_refused(tmp_path: Path):
    run(tmp_path / "out", crop="centre")
    with pytest.raises(UserError, match=r"other settings \(crop, videos_per_shard\): choose another"):
        run(tmp_path / "out", "--videos_per_shard", "5", crop="left")
    with pytest.raises(UserError, match=r"other settings \(videos\)"):
        run(tmp_path / "out", made=videos(5), crop="centre")
    (tmp_path / "out" / convert.SETTINGS).write_text("{")
    with pytest.raises(UserError, match="damaged"):
        run(tmp_path / "out", crop="centre")


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(UserError, match="is not empty and holds no conversion"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_too_small_a_disk_is_told_before_anything_is_made(tmp_path: Path):
    huge = [Video("v00", "train", partial(load, "v00"), 10**13)]
    with pytest.raises(UserError, match=r"GB free and up to 1\.92e\+06 GB are needed"):
        run(tmp_path / "out", made=huge)
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder_to_convert_into(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        run(tmp_path / "file")


def test_videos_of_another_size_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert convert.convert(videos(2), (8, 9, 3), options(tmp_path / "out"), source="toy") == 3
    assert "skipped v00: its frames are (8, 8, 3), not (8, 9, 3)" in capsys.readouterr().err


def test_senseless_calls_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="toy: there is nothing to convert"):
        convert.convert([], (8, 8, 3), options(tmp_path / "out"), source="toy")
    with pytest.raises(UserError, match="two videos are named v00"):
        run(tmp_path / "out", made=videos(1) * 2)
    with pytest.raises(UserError, match="--workers must be at least 1"):
        run(tmp_path / "out", "--workers", "0")


def test_a_users_mistake_is_a_sentence_and_code_2(capsys: pytest.CaptureFixture):
    def mistaken() -> int:
        raise UserError("no such folder.")

    with pytest.raises(SystemExit) as stop:
        convert.main(mistaken)
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith(": no such folder.\n")
