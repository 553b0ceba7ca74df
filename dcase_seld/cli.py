"""The `dcase-seld` command: a lazy group, so that `--help` and light commands never import torch."""

from __future__ import annotations

import importlib
import sys

import click

from dcase_seld import __version__
from dcase_seld.errors import SeldError

COMMANDS = {
    "run": ("dcase_seld.commands.run:run", "Run a recipe: every step that is not up to date."),
    "status": ("dcase_seld.commands.status:status", "Say what is done, what would run, and why."),
    "clean": ("dcase_seld.commands.clean:clean", "List, and with --yes remove, results that no recipe uses."),
    "runs": ("dcase_seld.commands.runs:runs", "Compare finished training runs in one table."),
    "score": ("dcase_seld.commands.score:score", "Score predictions against references with the challenge's metrics."),
    "report": (
        "dcase_seld.commands.report:report",
        "Write one HTML page of scores, errors and examples of one or more runs.",
    ),
    "predict": ("dcase_seld.commands.predict:predict", "Predict events of any audio or video file."),
    "ensemble": (
        "dcase_seld.commands.ensemble:ensemble",
        "Average several checkpoints, and tune the ensemble on validation data.",
    ),
    "package-submission": (
        "dcase_seld.commands.package_submission:package_submission",
        "Make the zip that the challenge takes.",
    ),
    "check-submission": (
        "dcase_seld.commands.check_submission:check_submission",
        "Check a submission zip against every rule.",
    ),
    "data": ("dcase_seld.commands.data:data", "Download, check, count, convert and simulate data."),
    "models": ("dcase_seld.commands.models:models", "List, fetch and check pre-trained models."),
    "model-summary": (
        "dcase_seld.commands.model_summary:model_summary",
        "Show a recipe's networks: layers, shapes, parameters, memory.",
    ),
    "people": ("dcase_seld.commands.people:people", "Find people's keypoints in pictures and videos."),
    "show": (
        "dcase_seld.commands.show:show",
        "Draw a clip: events over time, frames, keypoints; with sound as a video.",
    ),
}
"""Command name → (module:attribute, loaded when the command is called; its line in the group's help)."""


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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dcase-seld")
def main() -> None:
    """Sound event localization and detection in video: data, training, prediction, scoring, submission."""


def entry() -> None:
    """Run the command line; a SeldError becomes its sentences and exit status 1, Ctrl-C exit status 130."""
    try:
        main(standalone_mode=False)
    except SeldError as error:
        click.echo(f"error: {error.problem}", err=True)
        if error.remedy:
            click.echo(f"  → {error.remedy}", err=True)
        sys.exit(1)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: what was finished is kept; the same command goes on from there.", err=True)
        sys.exit(130)


if __name__ == "__main__":
    entry()
