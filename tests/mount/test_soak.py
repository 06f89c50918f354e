"""scripts/soak, for seconds instead of minutes; and that it notices what it is there for."""

import contextlib
import importlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from mounts import bf16_bytes, put, why_not

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
soak_readers = importlib.import_module("benchmarks.soak_readers")


def soak(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS.parent)}
    command = [sys.executable, str(SCRIPTS / "soak.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)


@pytest.mark.slow
def test_soak():
    reason = why_not("native")
    if reason:
        pytest.skip(reason)
    result = soak("--minutes", "0.33", "--mib", "6")
    print(result.stdout)
    assert result.returncode == 0, result.stderr
    assert "no hang, no wrong byte, no leak" in result.stdout


@pytest.fixture
def file(mounted, source):
    """A mounted file, and what readers believe of it."""
    plain = bf16_bytes(3, 3_000_001)
    container = put(source, "file", plain)
    path = mounted(source).path / "file"
    return soak_readers.File(str(path), str(container), {plain[: soak_readers.TOLD_BY]: memoryview(plain)})


@pytest.mark.parametrize("way", soak_readers.WAYS, ids=lambda way: way.__name__)
def test_every_way_reads(file, way):
    way(file, random.Random(5))


@pytest.mark.parametrize("way", soak_readers.WAYS, ids=lambda way: way.__name__)
def test_a_wrong_byte_is_noticed(file, way):
    """Half of the bytes are believed to be others: whoever compares, notices."""
    ((first, plain),) = file.versions.items()
    believed = bytearray(plain)
    believed[soak_readers.TOLD_BY :: 2] = bytes(255 - byte for byte in believed[soak_readers.TOLD_BY :: 2])
    wrong = file._replace(versions={first: memoryview(bytes(believed))})
    compares = way not in (soak_readers.kill, soak_readers.drop)
    with pytest.raises(soak_readers.WrongBytes) if compares else contextlib.nullcontext():
        for _ in range(3):
            way(wrong, random.Random(5))


def test_an_unknown_version_is_noticed(file):
    with pytest.raises(soak_readers.WrongBytes, match="begins as no version"):
        soak_readers.read(file._replace(versions={}), random.Random(5))
