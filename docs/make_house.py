"""Write the list of files in ARCHITECTURE.md from the first sentence of each: `python docs/make_house.py`."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- files: docs/make_house.py -->\n", "<!-- end of files -->\n"
INIT = "__init__"


def listing(package: Path) -> str:
    """Return the list of files as Markdown: one paragraph a room, one line a file."""
    lines = []
    rooms = sorted({file.parent for file in package.rglob("*.py")}, key=lambda room: (room != package, room))
    for room in rooms:
        files = [f for f in sorted(room.glob("*.py")) if f.stem != INIT or len(f.read_text(encoding="utf-8")) > 500]
        name = "at the top" if room == package else f"{room.relative_to(package)}/"
        lines += ["", f"**{name}**", ""]
        lines += [f"- `{file.stem}` {first_line(file)}" for file in files]
    return "\n".join(lines[1:]) + "\n"


def first_line(file: Path) -> str:
    """Return the first line of a file's docstring."""
    found = re.match(r'"""(.*?)(?:"""|\n)', file.read_text(encoding="utf-8"))
    assert found, f"{file} begins without a docstring"
    return found[1].strip()


def page() -> str:
    """Return ARCHITECTURE.md with the list as it is now."""
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    return head + BEGIN + listing(ROOT / "dcase_seld") + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print("ARCHITECTURE.md is written")
