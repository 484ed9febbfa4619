"""LeRobot data sets of v2.1 and v3.0: frames and actions of every episode."""

from __future__ import annotations

import io
import json
import shutil
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_tools.lerobot_convert import run
from lgcvd import UserError, data
from lgcvd.shards import Shard
from lgcvd.video import fit
from tests.media import write_clip

FPS = 10
LENGTHS = [12, 25, 9, 31, 14]
CAMERAS = ("observation.images.top", "observation.images.wrist")
LOSSLESS = {"codec": "libx264rgb", "pix_fmt": "rgb24", "rate": FPS, "options": {"qp": "0", "preset": "medium"}}
"""H.264 with few key frames and with B-frames, so that an episode begins anywhere between them."""


def scene(camera: str, episode: int) -> np.ndarray:
    """Frames (T, 48, 64, 3) that depend on camera, episode and time."""
    rng = np.random.default_rng([CAMERAS.index(camera), episode])
    return rng.integers(0, 256, (LENGTHS[episode], 6, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)


def actions(episode: int) -> np.ndarray:
    return np.random.default_rng([9, episode]).normal(size=(LENGTHS[episode], 6)).astype(np.float32)


def table(episode: int) -> pa.Table:
    rows = actions(episode)
    return pa.table(
        {
            "action": pa.array(rows.tolist(), pa.list_(pa.float32(), 6)),
            "timestamp": pa.array(np.arange(len(rows), dtype=np.float32) / FPS),
            "frame_index": pa.array(np.arange(len(rows))),
            "episode_index": pa.array(np.full(len(rows), episode)),
        }
    )


def information(version: str, **changes) -> dict:
    video = {"dtype": "video", "shape": [48, 64, 3], "names": ["height", "width", "channels"]}
    paths = {
        "v2.1": (
            "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        ),
        "v3.0": (
            "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        ),
    }[version]
    return {
        "codebase_version": version,
        "robot_type": "so101",
        "total_episodes": len(LENGTHS),
        "total_frames": sum(LENGTHS),
        "chunks_size": 2 if version == "v2.1" else 1000,
        "fps": FPS,
        "splits": {"train": f"0:{len(LENGTHS)}"},
        "data_path": paths[0],
        "video_path": paths[1],
        "features": {
            "action": {"dtype": "float32", "shape": [6], "names": None},
            **dict.fromkeys(CAMERAS, video),
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        },
        **changes,
    }


def place(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_v21(folder: Path) -> None:
    info = information("v2.1")
    place(folder / "meta" / "info.json").write_text(json.dumps(info))
    lines = [{"episode_index": i, "tasks": ["push"], "length": length} for i, length in enumerate(LENGTHS)]
    (folder / "meta" / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for i in range(len(LENGTHS)):
        where = {"episode_chunk": i // 2, "episode_index": i}
        pq.write_table(table(i), place(folder / info["data_path"].format(**where)))
        for camera in CAMERAS:
            write_clip(
                place(folder / info["video_path"].format(video_key=camera, **where)), scene(camera, i), **LOSSLESS
            )


def write_v30(folder: Path) -> None:
    """Episodes 0 to 2 in a file, 3 and 4 in the next; their rows in two files as well, cut elsewhere."""
    info = information("v3.0")
    place(folder / "meta" / "info.json").write_text(json.dumps(info))
    rows = [{"episode_index": i, "length": n, "tasks": ["push"]} for i, n in enumerate(LENGTHS)]
    for file, episodes in enumerate([(0, 1, 2), (3, 4)]):
        for camera in CAMERAS:
            frames = np.concatenate([scene(camera, i) for i in episodes])
            path = place(folder / info["video_path"].format(video_key=camera, chunk_index=0, file_index=file))
            write_clip(path, frames, **LOSSLESS)
            begin = 0.0
            for i in episodes:
                end = begin + LENGTHS[i] / FPS
                names = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
                values = zip(names, (0, file, begin, end), strict=True)
                rows[i] |= {f"videos/{camera}/{name}": value for name, value in values}
                begin = end
    for file, episodes in enumerate([(0, 1, 2, 3), (4,)]):
        path = place(folder / info["data_path"].format(chunk_index=0, file_index=file))
        pq.write_table(pa.concat_tables([table(i) for i in episodes]), path)
        for i in episodes:
            rows[i] |= {"data/chunk_index": 0, "data/file_index": file}
    pq.write_table(pa.Table.from_pylist(rows), place(folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet"))


WRITERS = {"v2.1": write_v21, "v3.0": write_v30}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of each version, not to be changed."""
    folder = tmp_path_factory.mktemp("originals")
    for version, write in WRITERS.items():
        write(folder / version)
    return folder


@pytest.fixture(params=WRITERS)
def robot(request: pytest.FixtureRequest, originals: Path, tmp_path: Path) -> Path:
    return shutil.copytree(originals / request.param, tmp_path / "robot")


def convert(folder: Path, out: Path, *more: str) -> int:
    return run(["--dataset_dir", str(folder), "--out_dir", str(out), "--image_size", "16", "--workers", "1", *more])


def change(folder: Path, **changes) -> None:
    path = folder / "meta" / "info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def written(out: Path) -> dict[int, tuple[str, np.ndarray, np.ndarray | None]]:
    """Split, frames and actions by episode."""
    found = {}
    for path in sorted(out.glob("*/*.hdf5")):
        shard = Shard(path)
        for i, name in enumerate(shard.names):
            found[int(name[8:])] = shard.split, shard.read(i, range(shard.lengths[i])), shard.actions(i)
    return found


def shrunk(frames: np.ndarray) -> np.ndarray:
    return np.stack([fit(Image.fromarray(frame), (16, 16), 3) for frame in frames]).transpose(0, 2, 3, 1)


@pytest.mark.parametrize(("camera", "stride"), [("top", 1), ("observation.images.wrist", 3)])
def test_frames_and_actions_of_every_episode(robot: Path, tmp_path: Path, camera: str, stride: int):
    assert convert(robot, tmp_path / "out", "--camera", camera, "--stride", str(stride)) == 0
    found = written(tmp_path / "out")
    assert {i: split for i, (split, _, _) in found.items()} == {
        0: "validation", 1: "test", 2: "train", 3: "train", 4: "train"
    }  # fmt: skip
    key = next(name for name in CAMERAS if name.endswith(camera))
    for i, (_, frames, moves) in found.items():
        np.testing.assert_array_equal(frames, shrunk(scene(key, i)[::stride]))
        np.testing.assert_array_equal(moves, actions(i)[::stride])
    shard = Shard(tmp_path / "out" / "train" / "shard_0001.hdf5")
    assert shard.fps == [FPS / stride] * 3
    assert shard.source == "LeRobot robot"


def test_named_splits_and_chosen_episodes(robot: Path, tmp_path: Path):
    change(robot, splits={"train": "0:3", "val": "3:4"})
    assert convert(robot, tmp_path / "out", "--camera", "top", "--episodes", "1:") == 0
    assert {i: split for i, (split, _, _) in written(tmp_path / "out").items()} == {
        1: "train", 2: "train", 3: "validation"
    }  # fmt: skip


def test_the_only_camera_needs_no_name_and_a_set_without_tables_has_no_actions(robot: Path, tmp_path: Path):
    info = json.loads((robot / "meta" / "info.json").read_text())
    change(robot, features={name: feature for name, feature in info["features"].items() if name != CAMERAS[0]})
    for path in (robot / "data").rglob("*.parquet"):
        path.unlink()
    assert convert(robot, tmp_path / "out", "--episodes", ":2") == 0
    found = written(tmp_path / "out")
    np.testing.assert_array_equal(found[1][1], shrunk(scene(CAMERAS[1], 1)))
    assert [moves for _, _, moves in found.values()] == [None, None]


@pytest.mark.parametrize("words", [False, True])
def test_pictures_in_tables(robot: Path, tmp_path: Path, words: bool, capsys: pytest.CaptureFixture):
    """Feature "image": a column of structs, PNG in ``bytes``; and actions of another type."""
    change(robot, video_path=None, features={key: {"dtype": "image", "shape": [48, 64, 3]} for key in CAMERAS})
    shutil.rmtree(robot / "videos")
    listed = robot / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    if listed.exists():
        rows = pq.read_table(listed)
        pq.write_table(rows.drop([name for name in rows.column_names if name.startswith("videos/")]), listed)
    for path in (robot / "data").rglob("*.parquet"):
        rows = pq.read_table(path).to_pylist()
        for row in rows:
            picture = io.BytesIO()
            frame = scene(CAMERAS[1], row["episode_index"])[row["frame_index"]]
            Image.fromarray(frame).save(picture, "PNG")
            damage = row["episode_index"] == 4 and row["frame_index"] == 2
            row[CAMERAS[1]] = {"bytes": picture.getvalue()[: 40 if damage else None], "path": "frame_000001.png"}
            row["action"] = "push" if words else row["action"]
        pq.write_table(pa.Table.from_pylist(rows), path)
    assert convert(robot, tmp_path / "out", "--camera", "wrist", "--stride", "2") == 3
    assert "wrist/2 cannot be read" in capsys.readouterr().err
    found = written(tmp_path / "out")
    assert found.keys() == {0, 1, 2, 3}
    for i, (_, frames, moves) in found.items():
        np.testing.assert_array_equal(frames, shrunk(scene(CAMERAS[1], i)[::2]))
        np.testing.assert_array_equal(moves, None if words else actions(i)[::2])


def test_the_result_is_trained_on(robot: Path, tmp_path: Path):
    convert(robot, tmp_path / "out", "--camera", "top")
    clips = data.open(tmp_path / "out", frames=9, shape=(16, 16, 3), split="train", draws=4, jitter=0.1)
    assert clips[3].shape == (9, 3, 16, 16)


def test_what_is_broken_is_skipped_and_named(robot: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    broken = sorted(robot.glob(f"videos/**/*{CAMERAS[0]}/**/*.mp4"))[-1]
    broken.write_bytes(broken.read_bytes()[:300])
    sorted((robot / "data").rglob("*.parquet"))[0].write_bytes(b"PAR1")
    assert convert(robot, tmp_path / "out", "--camera", "top") == 3
    names = {line.split(":")[0] for line in capsys.readouterr().err.splitlines() if line.startswith("skipped")}
    lost = {0, 4} if broken.name.startswith("episode") else {0, 1, 2, 3, 4}
    assert names == {f"skipped episode_{i:06d}" for i in lost}
    assert written(tmp_path / "out").keys() == set(range(5)) - lost


def test_an_episode_longer_than_its_video_is_skipped(originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    shutil.copytree(originals / "v3.0", tmp_path / "robot")
    path = tmp_path / "robot" / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[1]["length"] += 2  # the next two frames are another episode's
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert convert(tmp_path / "robot", tmp_path / "out", "--camera", "top") == 3
    assert "skipped episode_000001: file-000.mp4 has 25 of the episode's 27 frames" in capsys.readouterr().err


def test_long_files_are_entered_in_the_middle(originals: Path, tmp_path: Path):
    """An episode 20 seconds into a file, with key frames far apart, begins with its own first frame."""
    folder = shutil.copytree(originals / "v3.0", tmp_path / "robot")
    frames = np.random.default_rng(5).integers(0, 256, (300, 3, 4, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    options = {"qp": "0", "preset": "medium", "g": "90", "bf": "3"}
    path = folder / "videos" / CAMERAS[0] / "chunk-000" / "file-000.mp4"
    write_clip(path, frames, **(LOSSLESS | {"options": options}))
    listed = folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    rows = pq.read_table(listed).to_pylist()
    key = f"videos/{CAMERAS[0]}"
    rows[0] |= {f"{key}/from_timestamp": 20.3, f"{key}/to_timestamp": 20.3 + LENGTHS[0] / FPS}
    pq.write_table(pa.Table.from_pylist(rows), listed)
    assert convert(folder, tmp_path / "out", "--camera", "top", "--episodes", "0:1") == 0
    np.testing.assert_array_equal(written(tmp_path / "out")[0][1], shrunk(frames[203 : 203 + LENGTHS[0]]))


def test_av1_as_lerobot_writes_it(originals: Path, tmp_path: Path):
    folder = shutil.copytree(originals / "v2.1", tmp_path / "robot")
    path = folder / "videos" / "chunk-000" / CAMERAS[0] / "episode_000000.mp4"
    grays = np.linspace(30, 220, LENGTHS[0]).round()
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libsvtav1", rate=FPS, options={"g": "2", "crf": "30", "preset": "12"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i, gray in enumerate(grays):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), gray, np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode(None))
    assert convert(folder, tmp_path / "out", "--camera", "top", "--episodes", ":1") == 0
    frames = written(tmp_path / "out")[0][1]
    assert np.abs(frames.mean((1, 2, 3)) - grays).max() < 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), r"several cameras, choose one by --camera: observation\.images\.top, observation\.images\.wrist\."),
        (("--camera", "front"), r"--camera front names none of the cameras: observation\.images\.top, obs"),
        (("--camera", "top", "--stride", "0"), "--stride must be at least 1, not 0"),
        (("--camera", "top", "--episodes", "5"), "--episodes must be like 0:50, not 5"),
        (("--camera", "top", "--episodes", "90:"), "there is nothing to convert"),
    ],
)
def test_mistakes_get_a_sentence(robot: Path, tmp_path: Path, arguments: tuple[str, ...], words: str):
    with pytest.raises(UserError, match=words):
        convert(robot, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_other_folders_get_a_sentence(robot: Path, tmp_path: Path):
    def told() -> str:
        with pytest.raises(UserError) as caught:
            convert(robot, tmp_path / "out", "--camera", "top")
        return str(caught.value)

    info = json.loads((robot / "meta" / "info.json").read_text())
    change(robot, codebase_version="v1.6")
    assert "LeRobot's version v1.6" in told()
    change(robot, codebase_version=info["codebase_version"], splits={"train": "all", "test": "50%"})
    assert "splits in meta/info.json must be like 0:50" in told()
    change(robot, splits={}, features={"observation.state": {"dtype": "float32"}})
    assert "has no cameras" in told()
    change(robot, fps="fast", features=info["features"])
    assert "info.json is damaged" in told()
    change(robot, fps=FPS)
    for path in (robot / "meta").rglob("*0.parquet"):
        pq.write_table(pa.table({"episode_index": [0]}), path)
    (robot / "meta" / "episodes.jsonl").write_text('{"episode_index": 0}')
    assert "does not list the episodes" in told()
    (robot / "meta" / "info.json").write_text("{}")
    assert "does not say its codebase_version" in told()
    (robot / "meta" / "info.json").unlink()
    assert "is no LeRobot data set" in told()


def test_without_pyarrow_a_sentence_says_what_to_install(robot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match=r"PyArrow: pip install \.\[convert\]"):
        convert(robot, tmp_path / "out", "--camera", "top")
