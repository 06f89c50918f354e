"""What the kernel reads by itself: files that are no containers, and with --resident containers that were read before."""

import mmap
import os
import shutil
import time

import pytest
from mounts import VISIBLE_WITHIN_S, bf16_bytes, eventually, put

import zipfs
from zipfs.errors import MountError, UsageError

SIZE = 6 << 20
MADE_WITHIN_S, DROPPED_WITHIN_S = 20, 10


@pytest.fixture
def passing(driver, mounted, source):
    """mounted(source, **options), where the kernel reads by itself."""
    if driver != "native":
        pytest.skip(f"{driver} passes nothing through to the kernel")

    def mount(**options):
        mount = mounted(source, **options)
        if not mount.report()["passthrough"]:
            pytest.skip("this user or this kernel has no passthrough")
        return mount

    return mount


def read_mapped(path) -> bytes:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        return bytes(mapped)


def read_direct(path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, SIZE + 4096) as buffer:
            return buffer[: os.preadv(fd, [buffer], 0)]
    finally:
        os.close(fd)


def test_what_is_no_container_is_read_by_the_kernel(passing, source):
    data = os.urandom(SIZE + 3)
    (source / "noise").write_bytes(data)
    mount = passing()
    path = mount.path / "noise"
    assert path.read_bytes() == read_mapped(path) == read_direct(path) == data
    assert mount.stats()["reads"] == 0


def test_it_grows_and_is_replaced(passing, source):
    (source / "log").write_bytes(b"one")
    mount = passing()
    with open(mount.path / "log", "rb") as old:
        assert old.read() == b"one"
        with open(source / "log", "ab") as log:
            log.write(b" two")
        assert old.read() == b" two"
        assert eventually(lambda: (mount.path / "log").read_bytes() == b"one two")
        (source / "new").write_bytes(b"three")
        os.replace(source / "new", source / "log")
        assert eventually(lambda: (mount.path / "log").read_bytes() == b"three")
        old.seek(0)
        assert old.read() == b"one two"


def test_who_has_it_open_reads_on_when_it_becomes_a_container(passing, source):
    data = bf16_bytes(1, SIZE)
    (source / "weights").write_bytes(data)
    mount = passing()
    with open(mount.path / "weights", "rb") as old:
        zipfs.compress_in_place(source)
        assert eventually(lambda: (mount.path / "weights").stat().st_blocks * 512 < SIZE)
        assert (mount.path / "weights").read_bytes() == old.read() == data


def load_until_resident(mount, *names: str) -> None:
    for name in names:
        num_files = mount.report()["resident"]["files"]
        (mount.path / name).read_bytes()
        assert eventually(lambda: mount.report()["resident"]["files"] > num_files, MADE_WITHIN_S)


def await_kernel(mount, name: str) -> None:
    """Until the kernel has looked the name up anew, and reads by itself."""

    def is_read_without_us() -> bool:
        num_reads = mount.stats()["reads"]
        return bool((mount.path / name).read_bytes()) and mount.stats()["reads"] == num_reads

    time.sleep(VISIBLE_WITHIN_S)
    assert eventually(is_read_without_us)


def test_a_file_that_was_read_is_resident(passing, source):
    data = bf16_bytes(2, SIZE)
    put(source, "weights", data)
    mount = passing(resident_size=64 << 20)
    path = mount.path / "weights"
    inode = path.stat().st_ino
    load_until_resident(mount, "weights")
    assert mount.report()["resident"] == {"size_max": 64 << 20, "files": 1, "bytes": SIZE}
    await_kernel(mount, "weights")
    num_reads = mount.stats()["reads"]
    assert path.read_bytes() == read_mapped(path) == read_direct(path) == data
    assert mount.stats()["reads"] == num_reads
    assert path.stat().st_ino == inode and path.stat().st_size == SIZE


def test_who_has_it_mapped_keeps_his_pages(passing, source):
    data = bf16_bytes(30, SIZE)
    put(source, "weights", data)
    mount = passing(resident_size=64 << 20)
    with open(mount.path / "weights", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        load_until_resident(mount, "weights")
        num_reads = mount.stats()["reads"]
        assert bytes(mapped) == data
        assert mount.stats()["reads"] == num_reads
        await_kernel(mount, "weights")


def test_a_part_of_a_file_is_not(passing, source):
    put(source, "weights", bf16_bytes(3, SIZE))
    mount = passing(resident_size=64 << 20, options="readahead_kb=128")
    with open(mount.path / "weights", "rb", buffering=0) as file:
        os.pread(file.fileno(), SIZE // 2, 0)
    assert not eventually(lambda: mount.report()["resident"]["files"] > 0, 1)


def test_the_present_version_is_read(passing, source):
    first, second = bf16_bytes(4, SIZE), bf16_bytes(5, SIZE)
    put(source, "weights", first)
    mount = passing(resident_size=64 << 20)
    load_until_resident(mount, "weights")
    assert eventually(lambda: (mount.path / "weights").read_bytes() == first)
    with open(mount.path / "weights", "rb") as old:
        put(source, "weights", second)
        assert eventually(lambda: (mount.path / "weights").read_bytes() == second)
        assert old.read() == first
    os.unlink(source / "weights.zipfs")
    assert eventually(lambda: not (mount.path / "weights").exists())


@pytest.mark.slow
def test_the_budget_holds(passing, source):
    """The second file has no room beside the first, which was opened lately; the third is larger than all of it."""
    for i, size in enumerate([SIZE, SIZE, 2 * SIZE]):
        put(source, f"weights{i}", bf16_bytes(6 + i, size))
    mount = passing(resident_size=SIZE + (1 << 20))
    load_until_resident(mount, "weights0")
    for i in (1, 2):
        (mount.path / f"weights{i}").read_bytes()
    assert not eventually(lambda: mount.report()["resident"]["bytes"] > SIZE, 2)
    assert (mount.path / "weights2").read_bytes() == bf16_bytes(8, 2 * SIZE)


def test_damage_stays_damage(passing, source):
    container = put(source, "weights", bf16_bytes(9, SIZE))
    with open(container, "r+b") as file:
        file.seek(SIZE // 4)
        byte = file.read(1)[0]
        file.seek(SIZE // 4)
        file.write(bytes([byte ^ 1]))
    mount = passing(resident_size=64 << 20)
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output error"):
            (mount.path / "weights").read_bytes()
    assert mount.report()["resident"]["files"] == 0


@pytest.mark.slow
def test_it_goes_when_the_kernel_wants_its_inodes_back(passing, source):
    put(source, "weights", bf16_bytes(10, SIZE))
    mount = passing(resident_size=64 << 20)
    load_until_resident(mount, "weights")
    await_kernel(mount, "weights")

    def is_dropped() -> bool:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("2")
        return mount.report()["resident"]["files"] == 0

    assert eventually(is_dropped, DROPPED_WITHIN_S)
    assert (mount.path / "weights").read_bytes() == bf16_bytes(10, SIZE)


def test_the_mount_goes_while_copies_are_made(passing, source):
    for i in range(8):
        put(source, f"weights{i}", bf16_bytes(20 + i, SIZE))
    mount = passing(resident_size=64 << 20)
    for i in range(8):
        shutil.copyfile(mount.path / f"weights{i}", os.devnull)


def test_a_demand_that_cannot_be_met_is_an_error(driver, mounted, source):
    if driver == "native":
        with pytest.raises(UsageError, match="resident size -1"):
            mounted(source, resident_size=-1)
    else:
        with pytest.raises(MountError, match=f"--resident: .*native driver alone, not by {driver}"):
            mounted(source, resident_size=1 << 20)
