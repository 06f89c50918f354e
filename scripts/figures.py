"""The body of scripts/figures: puts what COMMAND prints between `<!-- COMMAND -->` and `<!-- end -->` in README.md."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PLACE = re.compile(r"(<!-- (scripts/[^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def measured(place: re.Match) -> str:
    output = subprocess.run(place[2].split(), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    return f"{place[1]}\n{output.strip()}\n\n{place[3]}"


def main() -> None:
    README.write_text(PLACE.sub(measured, README.read_text()))


main()
