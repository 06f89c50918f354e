"""The body of scripts/figures: puts what COMMAND prints between `<!-- COMMAND -->` and `<!-- end -->` on each page."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "performance.md")
COMMAND = re.compile(r"<!-- (scripts/.+?) -->")


def refresh(page: Path, command: str) -> None:
    """Runs one command and writes what it printed, so that a later one that fails costs nothing."""
    output = subprocess.run(command.split(), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    place = re.compile(rf"(<!-- {re.escape(command)} -->\n).*?(<!-- end -->)", re.DOTALL)
    page.write_text(place.sub(lambda found: f"{found[1]}\n{output}\n\n{found[2]}", page.read_text()))


def main() -> None:
    for page in PAGES:
        for command in COMMAND.findall(page.read_text()):
            refresh(page, command)


main()
