"""One HTML page of one or several runs: what was reached, where it fails, how it was made."""
