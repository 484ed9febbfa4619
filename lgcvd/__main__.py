"""The command line: ``lgcvd`` or ``python -m lgcvd``; its verbs are in ``lgcvd/commands``."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Annotated, Union

import tyro
from tyro.conf import subcommand

from lgcvd.commands.ablate import Ablate
from lgcvd.commands.common import in_words
from lgcvd.commands.compare import Compare
from lgcvd.commands.distill import Distill
from lgcvd.commands.evaluate import Evaluate
from lgcvd.commands.evaluate_digits import EvaluateDigits
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
    verbs = [
        *(Annotated[verb, subcommand(name)] for name, verb in VERBS.items()),
        Annotated[Union[tuple(presets)], subcommand("train", description=Train.__doc__)],  # noqa: UP007
        Annotated[Evaluate, subcommand("evaluate")],
        Annotated[Compare, subcommand("compare")],
        Annotated[Gallery, subcommand("gallery")],
        Annotated[Ablate, subcommand("ablate")],
        Annotated[Distill, subcommand("distill")],
        Annotated[EvaluateDigits, subcommand("evaluate-digits")],
        Annotated[Models, subcommand("models")],
        Annotated[ImportReleased, subcommand("import-released")],
    ]
    messages = io.StringIO()
    try:
        with redirect_stderr(messages):
            return tyro.cli(
                Union[tuple(verbs)],  # noqa: UP007
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


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lgcvd")
    except PackageNotFoundError:
        return "(not installed: run from a checkout)"


if __name__ == "__main__":
    sys.exit(main())
