"""Mounts for tests: on every driver, in folders of their own, always unmounted again."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mounts import DRIVERS, Mounted, mounting, why_not

from zipfs import mountpoint as points


@pytest.fixture(scope="session", params=DRIVERS)
def driver(request) -> str:
    """Name of a driver that this machine has."""
    reason = why_not(request.param)
    if reason:
        pytest.skip(reason)
    return request.param


@pytest.fixture(autouse=True)
def no_leftovers(tmp_path) -> Iterator[None]:
    """Fails a test that leaves a mount, and takes it away."""
    yield
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    left = [mount.mountpoint for mount in map(points.parse_mount, lines) if mount.mountpoint.startswith(str(tmp_path))]
    for path in left:
        points.unmount(path, lazy=True)
    assert not left


@pytest.fixture
def mounted(driver, tmp_path) -> Iterator[Callable[..., Mounted]]:
    """Mounts a source: mounted(source, **options)."""
    with contextlib.ExitStack() as stack:
        yield lambda source, **options: stack.enter_context(mounting(driver, tmp_path, source, **options))


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path
