from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from lgcvd.__main__ import main
from lgcvd.results import read_results
from tests.test_comparison import results

DOCS = Path(__file__).parents[1] / "docs"


def changed(content: object, *keys: str | int, to: object) -> object:
    """``content`` with another value where the ``keys`` lead."""
    if not keys:
        return to
    content, (first, *rest) = copy.copy(content), keys
    content[first] = changed(content[first], *rest, to=to)
    return content


@pytest.mark.parametrize("command", ["compare", "evaluate", "gallery"])
@pytest.mark.parametrize(
    ("keys", "to"),
    [
        ((), [1]),
        (("settings",), {}),
        (("settings", "model"), "lgcvd"),
        (("settings", "protocol", "measures"), None),
        (("summary",), None),
        (("summary", "psnr"), 5),
        (("summary", "psnr", "mean"), {"value": 1.0}),
        (("summary", "fvd", "mean", "low"), "low"),
        (("notes",), 5),
        (("seconds",), {}),
        (("machine",), None),
        (("per_frame",), {}),
        (("per_frame", "psnr"), 5),
        (("clips",), []),
        (("clips", 3), None),
        (("clips", 3), {"content": 3}),
        (("clips", 3, "psnr", "mean"), float("nan")),
    ],
)
def test_what_is_no_results_file_is_named(tmp_path, capsys, command, keys, to):
    file = tmp_path / "r.json"
    file.write_text(json.dumps(changed(results("a"), *keys, to=to)))
    options = {
        "compare": [str(file), "--out", str(tmp_path / "out")],
        "evaluate": ["--data", "digits", "--model", "mean-frame", "--out", str(file)],
        "gallery": ["--data", "digits", "--models", "mean-frame", "--out", str(tmp_path), "--worst-of", str(file)],
    }
    assert main([command, *options[command]]) == 2
    assert f"lgcvd: {file} is no results file of lgcvd evaluate: check the name." in capsys.readouterr().err


def test_results_in_the_docs_are_read():
    files = [file for file in DOCS.glob("results/*/*.json") if "summary" in json.loads(file.read_text())]
    assert len(files) > 40  # the others are of ablations
    for file in files:
        assert read_results(file)["clips"]
