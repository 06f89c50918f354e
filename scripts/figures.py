"""The body of scripts/figures: puts what COMMAND prints between `<!-- COMMAND -->` and `<!-- end -->` in README.md."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
COMMAND = re.compile(r"<!-- (scripts/.+?) -->")


def refresh(command: str) -> None:
    """Runs one command and writes what it printed, so that a later one that fails costs nothing."""
    output = subprocess.run(command.split(), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    place = re.compile(rf"(<!-- {re.escape(command)} -->\n).*?(<!-- end -->)", re.DOTALL)
    README.write_text(place.sub(lambda found: f"{found[1]}\n{output}\n\n{found[2]}", README.read_text()))


def main() -> None:
    for command in COMMAND.findall(README.read_text()):
        refresh(command)


main()
