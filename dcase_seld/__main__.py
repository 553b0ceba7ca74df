"""`python -m dcase_seld`, the same as the command `dcase-seld`: Ctrl-C is answered from the first import on."""

import sys


def entry() -> None:
    """Run the command line; Ctrl-C while it is still being imported ends it in a sentence too, with exit status 130."""
    try:
        from dcase_seld.cli.main import entry as run
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing was begun.\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    entry()
