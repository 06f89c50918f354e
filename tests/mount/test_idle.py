"""Memory of a daemon that nobody reads from."""

import time

import pytest
from mounts import bf16_bytes, drop_pages, eventually, put

SIZE = 24 << 20


@pytest.mark.slow
def test_the_cache_is_given_back(mounted, source):
    """After one to two times idle_s, and it fills again."""
    data = bf16_bytes(1, SIZE)
    put(source, "weights", data)
    mount = mounted(source, options="idle_s=1,readahead_kb=128")
    for _ in range(2):
        drop_pages(mount.path / "weights")
        with open(mount.path / "weights", "rb", buffering=0) as file:
            for offset in range(0, SIZE, 64 << 10):  # parts of chunks, which go through the cache
                file.seek(offset)
                assert file.read(4096) == data[offset : offset + 4096]
        assert mount.stats()["cache_bytes"] > SIZE // 2
        assert eventually(lambda: mount.stats()["cache_bytes"] == 0, 4)


@pytest.mark.slow
def test_not_while_somebody_reads(mounted, source):
    put(source, "weights", bf16_bytes(1, SIZE))
    mount = mounted(source, options="idle_s=1,readahead_kb=128")
    with open(mount.path / "weights", "rb", buffering=0) as file:
        for i in range(60):
            file.seek(i * (256 << 10))
            file.read(4096)
            time.sleep(0.05)
            held = mount.stats()["cache_bytes"]
            assert held >= i * (256 << 10) or held > SIZE // 2
