"""`python -m dcase_seld`: the same as the command `dcase-seld`."""

from dcase_seld.cli.main import entry

if __name__ == "__main__":
    entry()
