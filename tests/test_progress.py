"""Bars of long work."""

from __future__ import annotations

from lgcvd.progress import move_to, progress_bar


def test_what_an_earlier_attempt_did_does_not_count_as_speed():
    with progress_bar(total=2000) as bar:
        bar.mininterval = 0
        for done in (1000, 1001, 1002):
            move_to(bar, done)
        shown = bar.format_dict
        assert bar.n == 1002
        assert bar.initial == 1000
        assert shown["rate"] is None or shown["rate"] * shown["elapsed"] < 100
