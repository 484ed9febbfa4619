"""The command line: ``lgcvd`` or ``python -m lgcvd``; its verbs are in ``lgcvd/commands``."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Collection, Sequence
from contextlib import redirect_stderr
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Union

import tyro
from tyro.conf import subcommand

from lgcvd.commands.ablate import Ablate
from lgcvd.commands.adapt import Adapt
from lgcvd.commands.common import in_words
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 2 for what the user can mend, 128 + n after signal n."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["--version"]:
        print(f"lgcvd {_version()}")
        return 0
    try:
        return _parse(argv).run()
    except SystemExit as stop:
        return stop.code or 0
    except UserError as error:
        print(f"lgcvd: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lgcvd: stopped", file=sys.stderr)
        return 128 + signal.SIGINT


def _parse(argv: list[str]):
    presets = [
        Annotated[
            Train,
            subcommand(
                name,
                default=Train(name, Path("runs") / name, preset.model, preset.train),
                description=f"{in_words(preset.model)}; {preset.train.iterations:,} iterations.",
            ),
        ]
        for name, preset in PRESETS.items()
    ]
    verbs = {
        **VERBS,
        "train": Union[tuple(presets)],  # noqa: UP007
        "evaluate": Evaluate,
        "compare": Compare,
        "gallery": Gallery,
        "adapt": Adapt,
        "ablate": Ablate,
        "distill": Distill,
        "evaluate-digits": EvaluateDigits,
        "examples": Examples,
        "models": Models,
        "import-released": ImportReleased,
    }
    _check_name(argv[:1], verbs, "verb")
    if argv[:1] == ["train"]:
        _check_name(argv[1:2], PRESETS, "preset")
    named = [
        Annotated[verb, subcommand(name, description=Train.__doc__ if name == "train" else None)]
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
        sys.stderr.write(messages.getvalue())
        raise


def _check_name(given: list[str], names: Collection[str], what: str) -> None:
    """Raise ``UserError`` with the nearest right name for the wrong one that may be ``given``."""
    for name in given:
        if name not in names and not name.startswith("-"):
            near = get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}."
            raise UserError(f"there is no {what} {name!r}: {hint}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lgcvd")
    except PackageNotFoundError:
        return "(not installed: run from a checkout)"


if __name__ == "__main__":
    sys.exit(main())
