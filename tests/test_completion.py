"""What bash and fish offer after Tab, with the code that argcomplete gives it (docs/mounting.md says how users get it)."""

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
BASH = """\
eval "$({python} -m argcomplete.scripts.register_python_argcomplete zipfs)"
COMP_LINE=$1 COMP_POINT=${{#1}} COMP_TYPE=9 COMP_WORDBREAKS=' =:'
_python_argcomplete zipfs
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
FISH = """\
{python} -m argcomplete.scripts.register_python_argcomplete --shell fish zipfs | source
complete -C $argv[1]
"""


@pytest.fixture(params=["bash", "fish"])
def complete(request, tmp_path):
    """What may come next in a line, asked of a shell in a folder with the file `weights`."""
    pytest.importorskip("argcomplete")
    if not shutil.which(request.param):
        pytest.skip(f"this machine has no {request.param}")
    script = tmp_path / "bin" / "zipfs"
    script.parent.mkdir()
    script.write_text(SCRIPT.format(python=sys.executable, home=os.getcwd()))
    script.chmod(0o755)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "weights").touch()
    code = {"bash": BASH, "fish": FISH}[request.param].format(python=sys.executable)
    command = {"bash": ["bash", "-c", code, "bash"], "fish": ["fish", "--no-config", "-c", code]}[request.param]

    def ask(line: str) -> set[str]:
        environment = os.environ | {"PATH": f"{script.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
        done = subprocess.run([*command, line], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
        return {choice.partition("\t")[0].strip() for choice in done.stdout.splitlines()}

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
