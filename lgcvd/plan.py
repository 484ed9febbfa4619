"""A film of known and missing frames, covered window by window: which frames a model is shown, which it makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lgcvd.context import ABSENT


@dataclass(frozen=True)
class Place:
    """Where a window lies and what is in it. Positions count frames of the window, from 0 to T - 1."""

    start: int
    """Index in the film of the window's first frame; windows may reach over both ends of the film."""
    slots: tuple[int, ...]
    """Positions of the K frames of the local context, in order; -1 is absent."""
    known: tuple[int, ...]
    """Positions of all frames that are known by now."""
    new: tuple[int, ...]
    """Positions of the frames that are made here for good."""

    @property
    def crowded(self) -> bool:
        """Whether more frames are known than there are slots."""
        return len(self.known) > len(self.slots)


def plan(known: Sequence[bool], context_frames: int, clip_frames: int, first_made: int = 0) -> Iterator[Place]:
    """Windows of T = ``clip_frames`` that turn every missing frame of a film into a known one.

    Behind known frames the film goes on, before them it goes back, each time from the nearest K frames. A gap between
    known frames is closed by a window that sees both of its ends; a gap that is too long for that is shortened from its
    beginning, so that the window that closes it bridges as many frames as K frames of context allow. Where nothing is
    known, a window is made from nothing. ``first_made``: the first position that the model can make.
    """
    known = list(known)
    while not all(known):
        place = _next(known, context_frames, clip_frames, first_made)
        yield place
        for position in place.new:
            known[place.start + position] = True


def reconstruction(frames: int, context_frames: int, clip_frames: int) -> Iterator[Place]:
    """Windows that make every frame of a film of at least T frames again; none reaches over its end."""
    done = 0
    while done < frames:
        start = min(max(0, done - context_frames), frames - clip_frames)
        slots = range(context_frames) if done else [ABSENT] * context_frames
        seen = tuple(range(context_frames if done else 0))
        yield Place(start, tuple(slots), seen, tuple(range(done - start, clip_frames)))
        done = start + clip_frames


def _next(known: list[bool], k: int, t: int, first_made: int) -> Place:
    length = len(known)
    gap_start = known.index(False)
    gap_end = next((i for i in range(gap_start, length) if known[i]), length)
    gap, before, after = gap_end - gap_start, gap_start, gap_end < length
    head, bridged = k - k // 2, t - max(k, 2)
    if before and after and min(before, head) + gap < t:  # both ends in one window, as central as the film allows
        room = max(0, bridged - gap)
        start = max(0, min(gap_start - head - room // 2, length - t))
        # a later gap is closed here too if its end is to be seen; at the end of a short film there may be none to see
        seen = [i for i in range(start, min(start + t, length)) if known[i]]
        new = [i for i in range(gap_start, seen[-1]) if not known[i]]
    elif before:
        start = gap_start - min(before, k)
        new = range(gap_start, min(start + t, gap_end - bridged if after else length))
    elif after:
        run = next((i for i in range(gap_end, length) if not known[i]), length) - gap_end
        start = gap_end + min(run, k) - t
        new = range(max(0, start), gap_end)
    else:
        start = -first_made
        new = range(min(start + t, length))
    positions = [i - start for i in range(max(0, start), min(start + t, length)) if known[i]]
    return Place(start, _slots(positions, gap_start - start, k), tuple(positions), tuple(i - start for i in new))


def _slots(known: list[int], gap: int, k: int) -> tuple[int, ...]:
    """The K known positions nearest to the gap, the odd one before it, in order; -1 where there are not so many."""
    before, after = [p for p in known if p < gap], [p for p in known if p > gap]
    heads = min(len(before), max(k - k // 2, k - len(after)))
    slots = before[len(before) - heads :] + after[: k - heads]
    return tuple(slots + [ABSENT] * (k - len(slots)))
