"""What bash offers after Tab, with the code that argcomplete gives it (docs/mounting.md says how users get it)."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

SCRIPT = """\
#!{python}
import sys
sys.path.insert(0, {home!r})
from zipfs.cli import main
sys.exit(main())
"""
ASKING = """\
eval "$({python} -m argcomplete.scripts.register_python_argcomplete zipfs)"
COMP_LINE=$1 COMP_POINT=${{#1}} COMP_TYPE=9 COMP_WORDBREAKS=' =:'
_python_argcomplete zipfs
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def complete(tmp_path):
    """What may come next in a line, asked of bash in a folder with the file `weights`."""
    for needed in ("bash", "argcomplete"):
        if not shutil.which(needed) and importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    script = tmp_path / "bin" / "zipfs"
    script.parent.mkdir()
    script.write_text(SCRIPT.format(python=sys.executable, home=os.getcwd()))
    script.chmod(0o755)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "weights").touch()

    def ask(line: str) -> set[str]:
        command = ["bash", "-c", ASKING.format(python=sys.executable), "bash", line]
        environment = os.environ | {"PATH": f"{script.parent}:{os.environ['PATH']}"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
        return {word.strip() for word in done.stdout.splitlines()}

    return ask


def test_commands(complete):
    assert complete("zipfs mo") == {"mount"}
    assert {"compress", "doctor", "run", "stats", "tune", "warm"} <= complete("zipfs ")


def test_options_and_their_values(complete):
    assert complete("zipfs mount --prof") == {"--profile"}
    assert complete("zipfs mount --profile ") == {"serving", "random", "low-memory"}
    assert complete("zipfs warm --ev") == {"--evict"}


def test_files(complete):
    assert complete("zipfs verify wei") == {"weights"}
