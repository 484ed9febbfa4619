"""Convert BAIR robot pushing (softmotion30_44k): videos of 30 frames, 64 x 64, with the robot's actions.

    python data_tools/bair_convert.py --bair_dir DIR --out_dir OUT

DIR is the folder ``softmotion30_44k``, the one it lies in, or ``bair_robot_pushing_dataset_v0.tar``, which is read as
it is: unpacking it is not needed. Get the tar file (30 GB) from http://rail.eecs.berkeley.edu/datasets/.

Kept are the pictures of the camera that the field uses, image_aux1, byte for byte, and the actions (30, 4); a size
other than 64 is scaled (Lanczos). The test split is theirs (256 videos). Of their 43,264 training videos, every 20th
(the 20th, 40th ... in order of file and place in it) is for validation. How many frames a second there are is not
published; 10 are noted down. No TensorFlow is needed, and the checksums of all records are checked.
"""

from __future__ import annotations

import argparse
import re
import struct
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from PIL import Image

from lgcvd.convert import Video, add_options, convert, main
from lgcvd.errors import UserError
from lgcvd.shards import Recording
from lgcvd.video import fit

FRAMES, SIZE, FPS = 30, 64, 10.0
VALIDATION = 20
"""Of their training videos, every so many is for validation."""
FOLDER = "softmotion30_44k"
SUFFIX = ".tfrecords"
IMAGE, ACTION = "{}/image_aux1/encoded", "{}/action"


# What is there


@dataclass(frozen=True)
class Records:
    """A TFRecord file, on its own or within a tar file."""

    name: str
    """Such as train/traj_256_to_511."""
    path: Path
    start: int
    size: int
    """Where it is in ``path``, in bytes."""


@dataclass(frozen=True)
class Record:
    """Where the data of a record are in a file, in bytes; ``size`` is 0 where the file is damaged."""

    path: Path
    start: int
    size: int


def find(given: Path) -> list[Records]:
    """All TFRecord files of a folder or a tar file, in order; ``UserError`` if there are none."""
    if not given.exists():
        raise UserError(f"there is no {given}: check the name.")
    if given.is_file():
        found = _in_tar(given)
    else:
        found = _in_folder(given) or _in_folder(given / FOLDER)
        tars = sorted(given.glob("bair*.tar"))
        if tars and not found:
            found = _in_tar(tars[0])
    if not found:
        raise UserError(f"{given} holds no files {{train,test}}/*{SUFFIX}: give the folder {FOLDER}, or the tar file.")
    return sorted(found, key=lambda records: [int(s) if s.isdecimal() else s for s in re.split(r"(\d+)", records.name)])


def _in_folder(folder: Path) -> list[Records]:
    paths = [path for split in ("train", "test") for path in (folder / split).glob(f"[!.]*{SUFFIX}")]
    return [Records(f"{path.parent.name}/{path.stem}", path, 0, path.stat().st_size) for path in paths]


def _in_tar(path: Path) -> list[Records]:
    found = []
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                *_, split, name = ("", *PurePosixPath(member.name).parts)
                if member.isfile() and split in ("train", "test") and name.endswith(SUFFIX) and name[0] != ".":
                    name = f"{split}/{name.removesuffix(SUFFIX)}"
                    found.append(Records(name, path, member.offset_data, member.size))
    except tarfile.TarError as error:
        raise UserError(f"{path} is no whole tar file ({error}): download it again, or give the folder.") from error
    return found


def list_videos(found: Sequence[Records], image_size: int) -> list[Video]:
    """A video a record."""
    videos, train = [], 0
    for records in found:
        for i, record in enumerate(_walk(records)):
            split = records.name.split("/")[0]
            if split == "train":
                train += 1
                split = "train" if train % VALIDATION else "validation"
            name = f"{records.name}/{i:03d}"
            videos.append(Video(name, split, partial(load_video, name, record, image_size), FRAMES))
    return videos


def _walk(records: Records) -> Iterator[Record]:
    """Finds the records by their headers; a damaged one ends the file, for nothing tells where the next one is."""
    with records.path.open("rb") as file:
        at, end = records.start, records.start + records.size
        while at < end:
            size = _length(file, at)
            if size is None or at + 16 + size > end:
                yield Record(records.path, at, 0)
                return
            yield Record(records.path, at + 12, size)
            at += 16 + size


def _length(file: BinaryIO, at: int) -> int | None:
    """Length of the data of the record at ``at``; None if it is not one."""
    file.seek(at)
    header = file.read(12)
    if len(header) < 12 or masked_crc32c(header[:8]) != struct.unpack("<I", header[8:])[0]:
        return None
    return struct.unpack("<Q", header[:8])[0]


# What is in a record


def load_video(name: str, record: Record, image_size: int) -> Recording:
    """Frames (30, image_size, image_size, 3) and actions (30, 4); ``UserError`` if the record is damaged."""
    features = read_example(_data(record))
    pictures = []
    for i in range(FRAMES):
        picture = features.get(IMAGE.format(i))
        if not isinstance(picture, bytes) or len(picture) != SIZE * SIZE * 3:
            raise UserError(f"it has no picture {IMAGE.format(i)} of {SIZE} x {SIZE} pixels.")
        pictures.append(np.frombuffer(picture, np.uint8).reshape(SIZE, SIZE, 3))
    if image_size != SIZE:
        pictures = [fit(Image.fromarray(p), (image_size, image_size), 3).transpose(1, 2, 0) for p in pictures]
    moves = [features.get(ACTION.format(i)) for i in range(FRAMES)]
    known = all(isinstance(move, np.ndarray) and len(move) == 4 for move in moves)
    return Recording(name, np.stack(pictures), FPS, np.stack(moves) if known else None)


def _data(record: Record) -> bytes:
    if not record.size:
        raise UserError("the file is damaged or cut short here, and its records from this one on are lost.")
    with record.path.open("rb") as file:
        file.seek(record.start)
        data, crc = file.read(record.size), file.read(4)
    if len(crc) < 4 or masked_crc32c(data) != struct.unpack("<I", crc)[0]:
        raise UserError("its checksum is wrong: download the file again.")
    return data


def read_example(data: bytes) -> dict[str, bytes | np.ndarray]:
    """Features of a serialized tf.train.Example: the first of bytes, floats as float32 (n,); others are left out.

    Raises ``UserError`` for what is none.
    """
    found = {}
    try:
        for features in _fields(memoryview(data), 1):
            for entry in _fields(features, 1):
                (name,), (feature,) = _fields(entry, 1), _fields(entry, 2)
                for value in (v for values in _fields(feature, 1) for v in _fields(values, 1)):
                    found.setdefault(str(name, "utf-8"), bytes(value))
                for values in _fields(feature, 2):  # packed or one by one: the bytes come out the same
                    floats = b"".join(_fields(values, 1))
                    found[str(name, "utf-8")] = np.frombuffer(floats, "<f4").astype(np.float32)
    except (ValueError, IndexError) as error:
        raise UserError("it is no tf.train.Example.") from error
    return found


def _fields(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """Contents of the fields of a protocol buffer that have this number, but for integers."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            _, at = _varint(message, at)
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size, at = _varint(message, at)
        if size is None or at + size > len(message):
            raise ValueError("no protocol buffer")
        if number == wanted:
            yield message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """An integer, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("no integer of 64 bits")


# Checksums


def masked_crc32c(data: bytes) -> int:
    """The checksum of TFRecord: a CRC-32C, turned and moved."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of at least 4 bytes; milliseconds for a record.

    The CRC is linear: parts of equal length are worked on side by side, and put together two by two. Following a state
    through so many zero bytes is linear as well; ``after`` is what becomes of each of its 32 bits.
    """
    table = _crc_table()
    parts = 1 << len(data).bit_length() // 2
    length = -(-len(data) // parts)
    message = np.zeros((parts + 32) * length, np.uint8)  # the last 32 parts stay zero, to find ``after``
    start = parts * length - len(data)  # zeros in front change nothing
    message[start : parts * length] = np.frombuffer(data, np.uint8)
    message[start : start + 4] ^= 255  # what a state of ones to begin with does
    state = np.concatenate([np.zeros(parts, np.uint32), _BITS])
    for column in np.ascontiguousarray(message.reshape(-1, length).T):
        state = table[(state ^ column) & 255] ^ state >> 8
    state, after = state[:parts], state[parts:]
    while len(state) > 1:
        state = _follow(after, state[::2]) ^ state[1::2]
        after = _follow(after, after)
    return int(state[0]) ^ 0xFFFFFFFF


_BITS = np.uint32(1) << np.arange(32, dtype=np.uint32)


def _follow(after: np.ndarray, states: np.ndarray) -> np.ndarray:
    return np.bitwise_xor.reduce(np.where(states[:, None] & _BITS, after, np.uint32(0)), axis=1)


@cache
def _crc_table() -> np.ndarray:
    """(256,): what becomes of each byte."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> 1 ^ np.where(table & 1, np.uint32(0x82F63B78), np.uint32(0))
    return table


def run(arguments: Sequence[str] | None = None) -> int:
    """Convert what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--bair_dir", type=Path, required=True, help="the folder, or the tar file as it came")
    add_options(parser, image_size=SIZE)
    options = parser.parse_args(arguments)
    videos = list_videos(find(options.bair_dir), options.image_size)
    return convert(videos, (options.image_size, options.image_size, 3), options, source="bair")


if __name__ == "__main__":
    main(run)
