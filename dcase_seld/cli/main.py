"""The `dcase-seld` command: a lazy group, so that `--help` and light commands never import torch."""

from __future__ import annotations

import difflib
import errno
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import click
from click.shell_completion import CompletionItem

from dcase_seld import __version__
from dcase_seld.cli import echo
from dcase_seld.core.errors import SeldError, is_disk_full

COMMANDS = {
    "run": ("dcase_seld.cli.recipes:run", "Run a recipe: every step that is not up to date."),
    "status": ("dcase_seld.cli.recipes:status", "Say what is done, what would run, and why."),
    "clean": ("dcase_seld.cli.results:clean", "List, and with --yes remove, results that no recipe uses."),
    "recipes": ("dcase_seld.cli.recipes:recipes", "List the recipes that come along, or copy one to change."),
    "stages": ("dcase_seld.cli.recipes:stages", "List the stages that a recipe's steps may name, or the keys of one."),
    "explain": ("dcase_seld.cli.recipes:explain", "Say what a key of a recipe means, and what it may hold."),
    "schema": ("dcase_seld.cli.recipes:schema", "Print the JSON schema of recipes, for editors."),
    "runs": ("dcase_seld.cli.results:runs", "Compare finished training runs in one table."),
    "score": ("dcase_seld.cli.score:score", "Score predictions against references with the challenge's metrics."),
    "report": (
        "dcase_seld.cli.results:report",
        "Write one HTML page of scores, errors and examples of one or more runs.",
    ),
    "predict": ("dcase_seld.cli.predict:predict", "Predict events of any audio or video file."),
    "ensemble": (
        "dcase_seld.cli.results:ensemble",
        "Average several checkpoints, and tune the ensemble on validation data.",
    ),
    "package-submission": ("dcase_seld.cli.submission:package_submission", "Make the zip that the challenge takes."),
    "check-submission": ("dcase_seld.cli.submission:check_submission", "Check a submission zip against every rule."),
    "data": ("dcase_seld.cli.data:data", "Download, check, count, convert and simulate data."),
    "models": ("dcase_seld.cli.models:models", "List, fetch and check pre-trained models."),
    "model-summary": (
        "dcase_seld.cli.models:model_summary",
        "Show a recipe's networks: layers, shapes, parameters, memory.",
    ),
    "people": ("dcase_seld.cli.show:people", "Find people's keypoints in pictures and videos."),
    "show": ("dcase_seld.cli.show:show", "Draw a clip: events over time, frames, keypoints; with sound as a video."),
}
"""Command name → (module:attribute, loaded when the command is called; its line in the group's help)."""

REFUSALS = frozenset(
    getattr(errno, name)
    for name in (
        *("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EIO", "ENOENT", "ENOTDIR", "EISDIR", "EEXIST"),
        *("ENAMETOOLONG", "ELOOP", "EMFILE", "EFBIG"),
    )
    if hasattr(errno, name)
)
"""What a system says of paths and disks; other numbers of OSError are bugs and keep their traceback."""


class LazyGroup(click.Group):
    """A click group that imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the named command, imported now, or None."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the words name; of an unknown one, say which is near."""
        near = difflib.get_close_matches(args[0], COMMANDS, n=1) if args and args[0] not in COMMANDS else []
        if near and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}; did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin so without importing them, and the options."""
        found = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dcase-seld")
def main() -> None:
    """Sound event localization and detection in video: data, training, prediction, scoring, submission."""
    if os.environ.get("DCASE_SELD_PLUGINS"):
        from dcase_seld.core.registry import load_plugins

        load_plugins()


@contextmanager
def told_to_end() -> Iterator[Callable[[], int]]:
    """Let SIGTERM and SIGHUP end this block as Ctrl-C does; yields a function that says which signal came, 0 if none.

    A library may swallow what a signal raises (within an import, a call back), and fail by it later.

    Whoever ends a job sends either several times, and to all its processes: after the first they are passed over, so
    that locks and processes are put away in peace. What is ignored from the start (nohup) stays so.
    """
    came = [0]
    caught = [
        number
        for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
        if signal.getsignal(number) is signal.SIG_DFL
    ]
    asked = signal.getsignal(signal.SIGINT)

    def end(number: int, frame: object) -> None:
        came[0] = number
        for other in caught if number != signal.SIGINT else ():
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in caught:
        signal.signal(number, end)
    if asked is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
    try:
        yield lambda: came[0]
    finally:
        if asked is signal.default_int_handler:
            signal.signal(signal.SIGINT, asked)
        for number in caught if came[0] in (0, signal.SIGINT) else ():
            signal.signal(number, signal.SIG_DFL)


def entry() -> None:
    """Run the command line; a SeldError becomes its sentences and exit status 1, Ctrl-C exit status 130.

    So does what the system refuses at a path or on a disk (a file where a folder is wanted, no space, no permission).
    SIGTERM and SIGHUP end like Ctrl-C, with exit status 143 and 129.
    """
    # Names of files need not be text, and a terminal need not know every letter of ours.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    with told_to_end() as signal_number:
        try:
            _run()
        except (KeyboardInterrupt, Exception) as error:
            if not signal_number() and not isinstance(error, (click.Abort, KeyboardInterrupt)):
                raise
            with suppress(OSError):  # the terminal may be what went away
                echo("interrupted: what was finished is kept; the same command goes on from there.", err=True)
            sys.exit(128 + (signal_number() or signal.SIGINT))


def _run() -> None:
    try:
        os.getcwd()  # noqa: PTH109
    except OSError as error:  # libraries end without a word there
        _refuse(f"The current folder cannot be used: {error.strerror}.", "Change to a folder that is there.")
    try:
        main(standalone_mode=False)
        sys.stdout.flush()
    except SeldError as error:
        _refuse(error.problem, error.remedy)
    except BrokenPipeError:  # the reader of the output has gone, as `| head` does: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in REFUSALS or not (error.filename or error.errno in (errno.ENOSPC, errno.EDQUOT)):
            raise
        # A file where a folder is wanted is told as "File exists" by the call that makes folders.
        said = "a file is in the place of a folder" if error.errno == errno.EEXIST else error.strerror
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        # A copy names what is read first; where there is no space, it is at the other file.
        place = error.filename2 if error.filename2 and is_disk_full(error) else error.filename
        _refuse(f"{place or 'The disk'}: {said}{notes}.", "Check the path, its permissions and the disk.")
    except RuntimeError as error:  # of Python before 3.13
        if "Symlink loop" not in str(error):
            raise
        _refuse(f"{error}.", "Check the path.")
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)


def _refuse(problem: str, remedy: str) -> None:
    echo(f"error: {problem}", err=True)
    if remedy:
        echo(f"  → {remedy}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    entry()
