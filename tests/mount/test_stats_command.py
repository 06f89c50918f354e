"""`zipfs stats`: that its figures are those of what was read, and whom it tells them."""

import json
import os
import subprocess
import sys

import pytest
from mounts import ALLOW_OTHER, bf16_bytes, drop_pages, put

from zipfs import stats
from zipfs.cli import main
from zipfs.errors import MountError
from zipfs.mount import environment
from zipfs.stats import describe_stats, read_stats

SIZE = 1 << 20
NOBODY = 65534


@pytest.fixture
def read(mounted, source):
    """A mount where one file was read twice, with a cold page cache, one passed through, and one failed once."""
    put(source, "weights", bf16_bytes(1, SIZE))
    damaged = put(source, "damaged", bf16_bytes(2, SIZE))
    with open(damaged, "r+b") as file:
        file.seek(SIZE // 3)
        file.write(bytes(1000))
    (source / "config").write_bytes(b"plain")
    mount = mounted(source, cache_size=0, options=",".join(ALLOW_OTHER), ahead_size=0)
    for _ in range(2):
        assert len((mount.path / "weights").read_bytes()) == SIZE
        drop_pages(mount.path / "weights")
    assert (mount.path / "config").read_bytes() == b"plain"
    with pytest.raises(OSError):
        (mount.path / "damaged").read_bytes()
    return mount


def by_name(facts):
    return {os.path.basename(file["name"]): file for file in facts["files"]}


def test_figures(read):
    facts = read_stats(read.path)
    files = by_name(facts)
    weights = files["weights.zipfs"]
    assert weights["bytes_read"] == 2 * SIZE
    assert 1 <= weights["amplification"] == round(weights["bytes_decoded"] / (2 * SIZE), 4)
    bytes_passed = 0 if facts.get("passthrough") else 5  # what the kernel reads by itself is not counted
    assert (files["config"]["bytes_passed"], files["config"]["amplification"]) == (bytes_passed, None)
    assert files["damaged.zipfs"]["errors"] >= 1
    assert facts["total"]["errors"] == files["damaged.zipfs"]["errors"]
    served = [file["bytes_read"] for file in facts["files"]]
    assert served == sorted(served, reverse=True)
    assert (facts["mountpoint"], facts["source"]) == (str(read.path), str(read.source))
    assert facts["settings"]["cache_size"] == 0


def test_the_command(read, capsys):
    assert main(["stats", "--json", str(read.path)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == read_stats(read.path)
    assert main(["stats", str(read.path)]) == 0
    first, headings, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{read.path}: of {read.source}, cache ") and first.endswith(" of 0 B")
    assert headings.split()[:4] == ["reads", "served", "decoded", "ampl."]
    assert [line.rsplit("/", 1)[-1].split()[-1] for line in lines[:2]] == ["weights.zipfs", "damaged.zipfs"]
    assert "2.0 MiB" in lines[0]
    assert lines[-1].endswith("total")


@pytest.mark.slow
def test_watching_ends_with_the_mount(driver, mounted, source):
    mount = mounted(source)
    command = [sys.executable, "-m", "zipfs", "stats", "--watch", "--json", mount.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(3):
            assert json.loads(process.stdout.readline())["total"]["reads"] == 0
        subprocess.run([sys.executable, "-m", "zipfs", "umount", mount.path], check=True)
        _, said = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "no zipfs mount is here" in said or "does not answer" in said


def test_who_may_not_know(read):
    if os.geteuid() != 0:
        pytest.skip("only root can start processes of another user")
    (read.source).chmod(0o755)
    script = f"import os, sys; from zipfs import cli, stats; os.setgid({NOBODY}); os.setuid({NOBODY})"
    command = [sys.executable, "-c", f"{script}; sys.exit(cli.main(['stats', '.']))"]
    told = subprocess.run(command, cwd=read.path, env=environment(), capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (1, "")
    assert "its counters are for who mounted it" in told.stderr


def test_no_mount_has_none(tmp_path):
    with pytest.raises(MountError, match="no zipfs mount is here"):
        read_stats(tmp_path)


def test_a_long_table_is_cut(monkeypatch):
    monkeypatch.setattr(stats, "MAX_SHOWN", 2)
    names = dict.fromkeys(("reads", "bytes_read", "bytes_decoded", "cache_hits", "cache_waits", "decode_ns"), 1)
    counters = names | dict.fromkeys(
        ("ahead_used_bytes", "ahead_wasted_bytes", "errors", "cache_bytes", "source_buffer_bytes"), 0
    )
    counters["amplification"] = 1.0
    facts = {
        "mountpoint": "/mnt",
        "source": "/source",
        "settings": {"cache_size": 0},
        "total": counters,
        "files": [{**counters, "name": f"/f{i}"} for i in range(5)] + [{**counters, "name": "/never", "reads": 0}],
    }
    lines = describe_stats(facts).splitlines()
    assert [line.split("  ")[-1] for line in lines[2:]] == ["/f0", "/f1", "total, with 3 other files"]
