"""`python -m dcase_seld`, the same as the command `dcase-seld`: Ctrl-C is answered from the first import on."""

import os
import sys


def hold_streams() -> None:
    """Open what a shell closed (`>&-`, a daemon) to nowhere.

    The next file that is opened would get its number, and what any library prints would be written into that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
            os.write(number, b"") if number else None
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def entry() -> None:
    """Run the command line; Ctrl-C while it is still being imported ends it in a sentence too, with exit status 130."""
    hold_streams()
    try:
        from dcase_seld.cli.main import entry as run
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing was begun.\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    entry()
