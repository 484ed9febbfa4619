"""The command line: ``lgcvd`` or ``python -m lgcvd``; its verbs are in ``lgcvd/commands``."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Collection, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Union

import tyro
from tyro.conf import subcommand

from lgcvd.commands.ablate import Ablate
from lgcvd.commands.adapt import Adapt
from lgcvd.commands.common import OfTraining, in_words
from lgcvd.commands.compare import Compare
from lgcvd.commands.distill import Distill
from lgcvd.commands.evaluate import Evaluate
from lgcvd.commands.evaluate_digits import EvaluateDigits
from lgcvd.commands.examples import Examples
from lgcvd.commands.gallery import Gallery
from lgcvd.commands.models import ImportReleased, Models
from lgcvd.commands.tasks import VERBS
from lgcvd.commands.train import Train
from lgcvd.config import PRESETS
from lgcvd.errors import UserError
from lgcvd.program import exit_code_of

OF_PRESETS: dict[str, tuple[type[OfTraining], Path]] = {
    "train": (Train, Path("runs")),
    "ablate": (Ablate, Path("runs/ablation")),
}
"""Verbs with a preset behind them, and where they work unless someone says where."""

ELSEWHERE = {"lr": "rate", "epochs": "iterations", "fp16": "float16", "bf16": "bfloat16"}
"""What others call it -> what it is called here."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 2 for what the user can mend, 128 + n after signal n."""
    argv = list(sys.argv[1:] if argv is None else argv)

    def run() -> int:
        if argv[:1] == ["--version"]:
            print(f"lgcvd {_version()}")
            return 0
        return _parse(argv).run()

    try:
        return exit_code_of(run, "lgcvd", "lgcvd: stopped")
    except SystemExit as stop:
        return stop.code or 0


def _parse(argv: list[str]):
    verbs = {
        **VERBS,
        **{name: _of_presets(verb, runs) for name, (verb, runs) in OF_PRESETS.items()},
        "evaluate": Evaluate,
        "compare": Compare,
        "gallery": Gallery,
        "adapt": Adapt,
        "distill": Distill,
        "evaluate-digits": EvaluateDigits,
        "examples": Examples,
        "models": Models,
        "import-released": ImportReleased,
    }
    _check_name(argv[:1], verbs, "verb")
    if argv[0] in OF_PRESETS:
        if argv[1:] and argv[1].startswith("-") and argv[1] not in ("-h", "--help"):
            raise UserError(f"the preset comes first: lgcvd {argv[0]} PRESET {argv[1]} ...")
        _check_name(argv[1:2], PRESETS, "preset")
    chosen = [name for name in argv[: 2 if argv[0] in OF_PRESETS else 1] if not name.startswith("-")]
    help_of = " ".join(["lgcvd", *chosen, "--help"])
    named = [
        Annotated[verb, subcommand(name, description=OF_PRESETS[name][0].__doc__ if name in OF_PRESETS else None)]
        for name, verb in verbs.items()
    ]
    messages = io.StringIO()
    try:
        with redirect_stderr(messages):
            return tyro.cli(
                Union[tuple(named)],  # noqa: UP007
                prog="lgcvd",
                description="Watch the first frames of a clip, predict the rest: video diffusion with local and global "
                "context. `lgcvd VERB --help` tells the options of a verb, `lgcvd --version` the version.",
                args=argv,
                config=(tyro.conf.PositionalMetavarFromFieldName,),
            )
    except SystemExit as stop:  # help, a message, or a box around what a config said: then the sentence alone
        cause: BaseException | None = stop
        while cause and not isinstance(cause, UserError):
            cause = cause.__context__
        if cause:
            raise cause from None
        if stop.code and (text := _unknown(argv, chosen) or _sentence(messages.getvalue())):
            raise UserError(f"{text}: {help_of} tells all options.") from None
        sys.stderr.write(messages.getvalue())
        raise


def _of_presets(verb: type[OfTraining], runs: Path):
    """The type of a ``verb`` with a preset behind it, which is what its settings begin with; it works in ``runs``."""
    presets = (
        Annotated[
            verb,
            subcommand(
                name,
                default=verb(preset=name, folder=runs / name, model=preset.model, train=preset.train),
                description=f"{in_words(preset.model)}; {preset.train.iterations:,} iterations.",
            ),
        ]
        for name, preset in PRESETS.items()
    )
    return Union[tuple(presets)]  # noqa: UP007


def _check_name(given: list[str], names: Collection[str], what: str) -> None:
    """Raise ``UserError`` if no name is ``given``, or a wrong one: with the nearest right one."""
    if not given:
        raise UserError(f"give a {what}: there are {', '.join(names)}.")
    for name in given:
        if name not in names and not name.startswith("-"):
            near = _nearest(name, names)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(names)}."
            raise UserError(f"there is no {what} {name!r}: {hint}")


def _nearest(name: str, names: Collection[str]) -> str | None:
    """The one of ``names`` that ``name`` is likely to mean."""
    name = re.sub(r"[a-z0-9]+$", lambda last: ELSEWHERE.get(last[0], last[0]), name)
    parts = [known for known in names if known.endswith(f".{name.lstrip('-')}")]  # --rate of --train.rate
    return next(iter(parts or get_close_matches(name, names, 1, 0.7)), None)


def _hint(name: str, names: Collection[str]) -> str:
    near = _nearest(name, names)
    return f" (did you mean {near}?)" if near else ""


def _unknown(argv: list[str], chosen: list[str]) -> str:
    """Which options of ``argv`` the ``chosen`` verb does not have, each with the nearest that it has; may be empty."""
    told = io.StringIO()
    with redirect_stdout(told), suppress(SystemExit):
        _parse([*chosen, "--help"])
    names = re.findall(r"--[a-z][\w.-]*", told.getvalue())
    groups = sorted({re.sub(r"\.[^.]+$", ".*", name) for name in names if "." in name})
    given = [word.partition("=")[0] for word in argv if re.match(r"--\w", word)]
    wrong = [f"no {name}{_hint(name, names + groups)}" for name in given if name.replace("_", "-") not in names]
    return f"there is {' and '.join(wrong)}" if wrong else ""


def _sentence(box: str) -> str:
    """What tyro tells in a box of several paragraphs, as one sentence; empty if it is no such box."""
    plain = re.sub(r"\x1b\[[0-9;]*m|\[/?bold\]", "", box)
    paragraphs: list[list[str]] = [[]]
    for row in re.findall(r"^(?:│ |  )(.*?)[ │]*$", plain, re.MULTILINE):  # without UTF-8, the box has no sides
        if row and set(row.strip()) <= {"─", "-"}:
            paragraphs.append([])
        else:
            paragraphs[-1].append(row)
    what = " ".join(" ".join(paragraphs[0]).split())
    if not what:
        return ""
    if what.startswith("Missing from"):
        options = [row.strip() for row in paragraphs[0] if re.match(r" {4}[^ \[]", row)]  # what tells of them is deeper
        what = f"{' and '.join(dict.fromkeys(options))} must be given"
    elif what.startswith("Unrecognized"):
        _, _, wrong = what.partition(": ")
        names = re.findall(r"(?<!\S)-[^ ,]+", wrong)  # not what is behind them
        what = f"there is no {' and no '.join(names)}" if names else f"{wrong} is more than it takes"
    else:
        what, _, _ = what.partition(". Got errors")  # of every type that was tried
        what = re.sub(r"no type matching (\w+) could be instantiated from \['(.*)'\]", r"'\2' is no \1", what)
        what = what[0].lower() + what[1:].rstrip(".").replace("'. Expected", "': expected")
        what = re.sub(r"(invalid choice '(.*?)'.*)expected one of \((.*?)\)", _choices, what)
    return what


def _choices(told: re.Match) -> str:
    """The names that an option takes, always in the same order; "None" is none that one can write."""
    names = sorted({name.strip(" '") for name in told[3].split(",")} - {"None", ""})
    return f"{told[1]}expected one of {', '.join(names)}{_hint(told[2], names)}"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lgcvd")
    except PackageNotFoundError:
        return "(not installed: run from a checkout)"


if __name__ == "__main__":
    sys.exit(main())
