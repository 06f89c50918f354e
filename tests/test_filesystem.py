"""zipfs:// of fsspec, over local files, memory and a local S3 server: names, bytes, what is fetched, damage."""

import errno
import importlib.metadata
import io
import itertools
import os
import signal
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import test_format_copies
from both import native_decode_fd
from models import safetensors_bytes, weights

import zipfs
from zipfs import _native, names
from zipfs.pipeline import CHUNK_LOG2

fsspec = pytest.importorskip("fsspec", "2025.10", reason="fsspec is not installed, or older than chained file systems")

from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests, AbstractOpenTests

from zipfs import filesystem
from zipfs.filesystem import ZipfsFileSystem
from zipfs.remote import charge
from zipfs.single_flight import Cache

CHUNK = 1 << CHUNK_LOG2
PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    """A cache and a memory store for each test."""
    monkeypatch.setattr(filesystem, "_cache", Cache(filesystem.CACHE_SIZE, charge))
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    fsspec.register_implementation("zipfs", ZipfsFileSystem, clobber=True)
    ZipfsFileSystem.clear_instance_cache()


class Counting(MemoryFileSystem):
    """Notes every range that is fetched."""

    protocol = "counting"
    cachable = False

    def __init__(self):
        super().__init__()
        self.fetched: list[tuple[str, int, int]] = []
        self.delay = threading.Event()
        self.delay.set()

    def cat_file(self, path, start=None, end=None, **kwargs):
        self.delay.wait(20)
        data = super().cat_file(path, start=start, end=end, **kwargs)
        self.fetched.append((path, start, end))
        return data


@pytest.fixture
def model(rng) -> bytes:
    """A safetensors file of eight chunks, with a tensor that is there twice."""
    embedding = weights(rng, "BF16", 700_000)
    tensors = {"embed": ("BF16", [700, 1000], embedding), "w": ("F32", [399_999], weights(rng, "F32", 399_999))}
    return safetensors_bytes(tensors | {"head": ("BF16", [700, 1000], embedding)})


def container_of(data: bytes, tmp_path: Path, **options) -> bytes:
    folder = tmp_path / f"made-{len(os.listdir(tmp_path))}"
    folder.mkdir()
    (folder / "x").write_bytes(data)
    zipfs.compress(folder / "x", folder / "x.zipfs", **options)
    return (folder / "x.zipfs").read_bytes()


@pytest.fixture
def store(model, tmp_path) -> Counting:
    """A store with the model's container, text as it is, and things that are no containers."""
    store = Counting()
    store.pipe(
        {
            "/m/model.safetensors.zipfs": container_of(model, tmp_path),
            "/m/sub/text.zipfs": container_of(b"text " * 1000, tmp_path),
            "/m/config.json": b"{}" * 50,
            "/m/pretender.zipfs": b"no magic here",
            "/m/empty.zipfs": container_of(b"", tmp_path),
            "/m/folder.zipfs/inside": b"x",
        }
    )
    store.fetched.clear()
    return store


@pytest.fixture
def fs(store) -> ZipfsFileSystem:
    return ZipfsFileSystem(fs=store)


def sections(container: bytes) -> dict:
    return _native.header_parse(container[: names.HEADER_SIZE], len(container))


# ---- fsspec's own tests


class Writing(io.BytesIO):
    """Becomes a container in the store when it is closed."""

    def __init__(self, fs, path: str):
        super().__init__()
        self.fs, self.path = fs, path

    def close(self):
        if not self.closed:
            self.fs.pipe_file(self.path, self.getvalue())
        super().close()


class Writable(ZipfsFileSystem):
    """What fsspec's tests need to make their files, each of which becomes a container."""

    cachable = False

    def __init__(self, fs, folder: Path):
        super().__init__(fs=fs)
        self.folder = folder

    def _open(self, path, mode="rb", **kwargs):
        return Writing(self, path) if mode == "wb" else super()._open(path, mode, **kwargs)

    def pipe_file(self, path, value, **kwargs):
        path = self._path(path)
        self.fs.makedirs(self._parent(path), exist_ok=True)
        self.fs.pipe_file(path + ".zipfs", container_of(value, self.folder))

    def touch(self, path, **kwargs):
        self.pipe_file(path, b"")

    def makedirs(self, path, exist_ok=False):
        self.fs.makedirs(path, exist_ok=True)

    mkdir = makedirs

    def rm(self, path, recursive=False, **kwargs):
        self.fs.rm(path if self.isdir(path) else path + ".zipfs", recursive=recursive)


class Fixtures(AbstractFixtures):
    @pytest.fixture(params=[LocalFileSystem, MemoryFileSystem])
    def fs(self, request, tmp_path):
        (tmp_path / "scratch").mkdir()
        return Writable(request.param(), tmp_path / "scratch")

    @pytest.fixture
    def fs_path(self, fs, tmp_path):
        path = str(tmp_path / "store") if isinstance(fs.fs, LocalFileSystem) else "/store"
        fs.fs.makedirs(path)
        return path


class TestGet(Fixtures, AbstractGetTests):
    pass


class TestOpen(Fixtures, AbstractOpenTests):
    pass


# ---- names


def test_names_are_those_of_a_mount(fs, store):
    assert fs.ls("/m", detail=False) == [
        "/m/config.json", "/m/empty", "/m/folder.zipfs", "/m/model.safetensors", "/m/pretender.zipfs", "/m/sub",
    ]  # fmt: skip
    assert fs.find("/m") == [
        "/m/config.json", "/m/empty", "/m/folder.zipfs/inside", "/m/model.safetensors", "/m/pretender.zipfs",
        "/m/sub/text",
    ]  # fmt: skip
    assert fs.glob("/m/*.safetensors") == ["/m/model.safetensors"]
    assert fs.exists("/m/sub/text") and not fs.exists("/m/sub/text.zipfs") and not fs.exists("/m/pretender")
    assert fs.isdir("/m/folder.zipfs") and fs.isfile("/m/pretender.zipfs")
    assert fs.cat_file("/m/pretender.zipfs") == b"no magic here"
    assert fs.ls("/m/sub/text", detail=False) == ["/m/sub/text"]
    for path in ("/m/missing", "/m/sub/text.zipfs", "/m/empty/inside"):
        for method in (fs.info, fs.ls, fs.cat_file):
            with pytest.raises((FileNotFoundError, NotADirectoryError)):
                method(path)


def test_plain_file_hides_a_container_of_its_name(fs, store):
    store.pipe("/m/sub/text", b"plain")
    assert fs.ls("/m/sub", detail=False) == ["/m/sub/text"]
    assert fs.cat_file("/m/sub/text") == b"plain" and fs.info("/m/sub/text")["size"] == 5


def test_info_and_ls_tell_plain_sizes(fs, store, model):
    told = {info["name"]: info for info in fs.ls("/m")}
    info = told["/m/model.safetensors"]
    assert info | {"created": 0} == fs.info("/m/model.safetensors") | {"created": 0}, "but for the form of the time"
    assert (info["type"], info["size"]) == ("file", len(model))
    assert info["stored_size"] == store.size("/m/model.safetensors.zipfs") < len(model)
    assert told["/m/empty"]["size"] == 0 and fs.info("/m/config.json") == store.info("/m/config.json")
    assert fs.du("/m") == sum(fs.size(path) for path in fs.find("/m"))
    assert fs.modified("/m/model.safetensors") == store.modified("/m/model.safetensors.zipfs")


def test_nothing_is_written(fs):
    calls = [
        lambda: fs.open("/m/new", "wb"), lambda: fs.mkdir("/m/new"), lambda: fs.rm("/m/config.json"),
        lambda: fs.pipe("/m/new", b"x"), lambda: fs.touch("/m/new"), lambda: fs.mv("/m/config.json", "/m/new"),
        lambda: fs.makedirs("/m/new"), lambda: fs.cp_file("/m/config.json", "/m/new"), lambda: fs.rmdir("/m/sub"),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(OSError) as raised:
            call()
        assert raised.value.errno == errno.EROFS
    with pytest.raises(FileExistsError):
        fs.open("/m/model.safetensors", "xb")


def test_registered_by_entry_point():
    wanted = {"zipfs": "zipfs.filesystem:ZipfsFileSystem"}
    assert tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]["fsspec.specs"] == wanted
    (point,) = importlib.metadata.EntryPoints(
        importlib.metadata.EntryPoint(name, value, "fsspec.specs") for name, value in wanted.items()
    )
    assert point.load() is ZipfsFileSystem


def test_chained_urls(model, tmp_path, store):
    (tmp_path / "f").mkdir()
    (tmp_path / "f/model.safetensors.zipfs").write_bytes(store.cat_file("/m/model.safetensors.zipfs"))
    MemoryFileSystem().pipe("/a/model.safetensors.zipfs", store.cat_file("/m/model.safetensors.zipfs"))
    for url in (f"zipfs://{tmp_path}/f", f"zipfs::file://{tmp_path}/f", "zipfs::memory://a"):
        with fsspec.open(f"{url}/model.safetensors") as file:
            assert file.read() == model
    fs, path = fsspec.url_to_fs("zipfs::memory://a/model.safetensors")
    assert fs.ls(path.rpartition("/")[0], detail=False) == ["/a/model.safetensors"]
    with fsspec.open(
        "simplecache::zipfs::memory://a/model.safetensors", simplecache={"cache_storage": str(tmp_path)}
    ) as file:
        assert file.read() == model


# ---- bytes


def test_random_ranges(fs, model, rng):
    assert fs.cat_file("/m/model.safetensors") == model
    assert fs.cat_file("/m/empty") == b""
    size = len(model)
    edges = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, size - 1, size, size + 5, -1, -CHUNK, None]
    ranges = list(itertools.product(edges, edges)) + rng.integers(0, size + 100, (100, 2)).tolist()
    for start, end in ranges:
        if (start if start is not None else 0) > size:
            continue
        part = fs.cat_ranges(["/m/model.safetensors"], [start], [end], on_error="raise")[0]
        assert part == model[start:end], (start, end)
    with fs.open("/m/model.safetensors") as file:
        for start, end in ranges[-100:]:
            file.seek(min(start, size))
            assert file.read(max(0, end - start)) == model[min(start, size) :][: max(0, end - start)]


def test_cat_ranges_of_several_files(fs, model):
    paths = ["/m/model.safetensors", "/m/config.json", "/m/model.safetensors", "/m/sub/text", "/m/missing"]
    parts = fs.cat_ranges(paths, [0, 1, -10, None, 0], [10, 3, None, 7, 1])
    assert parts[:4] == [model[:10], b"}{", model[-10:], b"text te"] and isinstance(parts[4], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(paths, 0, 5, on_error="raise")
    assert fs.cat_ranges(paths[:2], 0, 1) == [model[:1], b"{"]
    with pytest.raises(ValueError, match="one length"):
        fs.cat_ranges(paths, [0], [1])


def test_text_and_get(fs, model, tmp_path):
    with fs.open("/m/sub/text", "rt") as file:
        assert file.read(9) == "text text"
    fs.get("/m", str(tmp_path / "got"), recursive=True)
    assert (tmp_path / "got/model.safetensors").read_bytes() == model
    assert not (tmp_path / "got/model.safetensors.zipfs").exists()


def test_only_what_is_needed_is_fetched(fs, store, model):
    container = store.cat_file("/m/model.safetensors.zipfs")
    header = sections(container)
    with open_reader(container) as reader:
        offset, entry = reader.entry(1)
    store.fetched.clear()
    with fs.open("/m/model.safetensors") as file:
        file.seek(CHUNK + 1000)
        assert file.read(2000) == model[CHUNK + 1000 : CHUNK + 3000]
        wanted = [
            (0, names.HEADER_SIZE),
            (header["root_offset"], header["root_offset"] + header["root_size"]),
            (header["pages_offset"], header["pages_offset"] + header["pages_size"]),
            (offset, offset + entry[0]),
        ]
        assert [(start, end) for _, start, end in store.fetched] == wanted
        file.seek(CHUNK)
        assert file.read(CHUNK) == model[CHUNK : 2 * CHUNK]
    fs.cat_file("/m/model.safetensors", CHUNK, CHUNK + 5)
    assert len(store.fetched) == len(wanted), "the chunk is kept"
    fs.cat_file("/m/model.safetensors", 0, 3 * CHUNK)
    assert [path for path, _, _ in store.fetched] == ["/m/model.safetensors.zipfs"] * len(store.fetched)
    assert len(store.fetched) == len(wanted) + 2, "of neighbours, those on both sides of what is kept"


def open_reader(container: bytes) -> _native.Reader:
    fd = os.memfd_create("container")
    try:
        os.write(fd, container)
        return _native.Reader(fd)
    finally:
        os.close(fd)


def test_pages_of_the_index_as_needed(tmp_path, rng):
    """Of a container with many pages only those of the chunks that are read."""
    data = b"".join(rng.bytes(CHUNK // 2) + bytes(CHUNK // 2) for _ in range(300))
    store = Counting()
    store.pipe("/big.zipfs", container_of(data, tmp_path, level="fast"))
    fs = ZipfsFileSystem(fs=store)
    header = sections(store.cat_file("/big.zipfs"))
    assert header["pages_size"] > 2 * 4096
    store.fetched.clear()
    assert fs.cat_file("/big", 130 * CHUNK, 130 * CHUNK + 9) == data[130 * CHUNK : 130 * CHUNK + 9]
    pages = header["pages_offset"], header["pages_offset"] + header["pages_size"]
    assert [(a - pages[0], b - a) for _, a, b in store.fetched if pages[0] <= a < pages[1]] == [(4096, 4096)]


def test_one_fetch_and_one_decode_for_all_who_wait(fs, store, model, monkeypatch):
    decoded = []
    monkeypatch.setattr(
        "zipfs.remote.RemoteContainer._decode",
        lambda self, number, *rest, old=filesystem.RemoteContainer._decode: (
            decoded.append(number) or old(self, number, *rest)
        ),
    )
    fs.info("/m/model.safetensors")
    store.fetched.clear()
    store.delay.clear()
    with ThreadPoolExecutor(10) as pool:
        parts = [pool.submit(fs.cat_file, "/m/model.safetensors", i, CHUNK + i) for i in range(10)]
        store.delay.set()
        assert [part.result() for part in parts] == [model[i : CHUNK + i] for i in range(10)]
    fetched = [(start, end) for _, start, end in store.fetched]
    assert len(fetched) == len(set(fetched)), "nothing is fetched twice"
    assert sorted(decoded) == [0, 1]


def test_a_forked_child_reads_on(fs, store, model):
    """It has none of the threads that decode, nor the one that fetches a chunk at that time."""
    path = "/m/model.safetensors"
    assert fs.cat_file(path, 0, CHUNK) == model[:CHUNK]
    store.delay.clear()
    with ThreadPoolExecutor(1) as pool:
        part = pool.submit(fs.cat_file, path, CHUNK, 2 * CHUNK)
        while not filesystem._cache._making:
            time.sleep(0.01)
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            same = False
            try:
                store.delay = threading.Event()
                store.delay.set()
                same = fs.cat_file(path, 0, 4 * CHUNK) == model[: 4 * CHUNK]
            finally:
                os._exit(0 if same else 1)
        store.delay.set()
        assert os.waitpid(pid, 0)[1] == 0
        assert part.result() == model[CHUNK : 2 * CHUNK]


def test_failed_fetch_is_told_to_all_and_tried_again(fs, store, model, monkeypatch):
    fs.info("/m/model.safetensors")
    with monkeypatch.context() as patched:
        patched.setattr(store, "cat_file", lambda *_, **__: (_ for _ in ()).throw(TimeoutError("slow")))
        with ThreadPoolExecutor(4) as pool:
            parts = [pool.submit(fs.cat_file, "/m/model.safetensors", 0, 9) for _ in range(4)]
            assert [type(part.exception()) for part in parts] == [TimeoutError] * 4
    assert fs.cat_file("/m/model.safetensors", 0, 9) == model[:9]


def test_cache_is_bounded(fs, model, monkeypatch):
    cache = Cache(3 * (CHUNK + 500), charge)
    monkeypatch.setattr(filesystem, "_cache", cache)
    for _ in range(2):
        assert fs.cat_file("/m/model.safetensors") == model
    assert CHUNK < cache.size <= 3 * (CHUNK + 500)


def test_new_version_is_read_anew(fs, store, tmp_path):
    assert fs.cat_file("/m/sub/text") == b"text " * 1000
    store.pipe("/m/sub/text.zipfs", container_of(b"TEXT " * 1000, tmp_path))
    assert fs.cat_file("/m/sub/text") == b"TEXT " * 1000


# ---- damage


def damage(store, offset: int, path: str = "/m/model.safetensors.zipfs") -> None:
    data = bytearray(store.cat_file(path))
    data[offset] ^= 0x40
    store.pipe(path, bytes(data))


def test_damaged_chunk_is_named_and_others_stay_readable(fs, store, model):
    with open_reader(store.cat_file("/m/model.safetensors.zipfs")) as reader:
        offset, _ = reader.entry(3)
    damage(store, offset + 100)
    with pytest.raises(zipfs.CorruptError, match=r"model.safetensors.zipfs: damaged chunk 3, .*CHUNK_CHECKSUM"):
        fs.cat_file("/m/model.safetensors")
    assert fs.cat_file("/m/model.safetensors", 0, 3 * CHUNK) == model[: 3 * CHUNK]


@pytest.mark.parametrize(("section", "status"), [("pages_offset", "PAGE_CHECKSUM"), ("root_offset", "ROOT_CHECKSUM")])
def test_damaged_index(fs, store, section, status):
    damage(store, sections(store.cat_file("/m/model.safetensors.zipfs"))[section] + 4)
    with pytest.raises(zipfs.FormatError, match=status):
        fs.cat_file("/m/model.safetensors", 0, 1)


def test_damaged_header_keeps_its_place(fs, store):
    damage(store, 100)
    assert fs.info("/m/model.safetensors")["size"] is None
    assert "/m/model.safetensors" in fs.ls("/m", detail=False)
    with pytest.raises(zipfs.FormatError, match="HEADER_CHECKSUM"):
        fs.open("/m/model.safetensors")


def test_store_that_gives_too_little(fs, store, monkeypatch):
    info = fs.info("/m/model.safetensors")
    data = store.cat_file("/m/model.safetensors.zipfs")
    monkeypatch.setattr(store, "cat_file", lambda path, start, end, **_: data[start : end - 1 if start > 300 else end])
    with pytest.raises(zipfs.FormatError):
        fs.cat_file("/m/model.safetensors", 0, info["size"])


GOLDEN = Path(__file__).parent / "golden"
BY_HAND = [make for make, _ in test_format_copies.REJECTED.values()] + list(test_format_copies.ACCEPTED.values())


def verdict(container: bytes) -> str | bytes:
    """What is read of it, whole, or the status of what is raised."""
    MemoryFileSystem().pipe("/x.zipfs", container)
    try:
        return ZipfsFileSystem(fs=MemoryFileSystem()).cat_file("/x")
    except zipfs.FormatError as error:
        return error.status


def expected_verdict(container: bytes) -> str | bytes:
    fd = os.memfd_create("container")
    try:
        os.write(fd, container)
        return native_decode_fd(fd, check_plain=False)
    except _native.FormatError as error:
        return error.status
    finally:
        os.close(fd)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.zipfs")), ids=lambda path: path.stem)
def test_golden_containers(path):
    data = path.read_bytes()
    assert verdict(data) == expected_verdict(data)


@pytest.mark.parametrize("make", BY_HAND)
def test_copies_made_by_hand(make):
    """What the reader of files accepts or rejects, this one does, by the same name."""
    data = make()
    assert verdict(data) == expected_verdict(data)


def test_flipped_bits(rng):
    """One bit anywhere: the same bytes or the same error as from the reader of files."""
    data = (GOLDEN / "written_copies.zipfs").read_bytes()
    seen = set()
    header = sections(data)
    index = range(header["pages_offset"], header["root_offset"] + header["root_size"])
    for at in [*rng.integers(8, len(data), 60), *rng.choice(index, 40), *rng.integers(8, names.HEADER_SIZE, 40)]:
        broken = bytearray(data)
        broken[at] ^= 1 << rng.integers(8)
        found = verdict(bytes(broken))
        assert found == expected_verdict(bytes(broken)), at
        seen.add(found if isinstance(found, str) else "bytes")
    assert seen >= {"HEADER_CHECKSUM", "PAGE_CHECKSUM", "CHUNK_CHECKSUM"}


def test_damaged_target_is_told_of_the_chunk_that_copies(fs, store, model):
    container = store.cat_file("/m/model.safetensors.zipfs")
    with open_reader(container) as reader:
        offset, _ = reader.entry(0)
    damage(store, offset + 100)
    with pytest.raises(zipfs.CorruptError, match="copies of damaged chunks in chunk .*BAD_TARGET"):
        fs.cat_file("/m/model.safetensors", len(model) - 1_400_000 + 100, len(model) - 1_300_000)
    assert fs.cat_file("/m/model.safetensors", CHUNK, 2 * CHUNK) == model[CHUNK : 2 * CHUNK]


# ---- S3


@pytest.fixture
def bucket(tmp_path):
    """A file system of a local S3 server with an empty bucket, and the ranges that are asked of it."""
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    options = {"key": "test", "secret": "test", "client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
    options |= {"skip_instance_cache": True, "use_listings_cache": False}
    try:
        s3 = fsspec.filesystem("s3", **options)
        s3.mkdir("bucket")
        s3.call_s3  # noqa: B018  connects
        asked: list[str | None] = []
        s3.s3.meta.events.register(
            "before-call.s3.GetObject", lambda params, **_: asked.append(params["headers"].get("Range"))
        )
        yield s3, asked, options
    finally:
        server.stop()


def test_s3(bucket, store, model, tmp_path):
    s3, asked, options = bucket
    container = store.cat_file("/m/model.safetensors.zipfs")
    s3.pipe("bucket/models/model.safetensors.zipfs", container)
    s3.pipe("bucket/models/config.json", b"{}")
    fs = ZipfsFileSystem(fs=s3)
    assert fs.ls("bucket/models", detail=False) == ["bucket/models/config.json", "bucket/models/model.safetensors"]
    assert asked == [f"bytes=0-{names.HEADER_SIZE - 1}"]
    header = sections(container)
    with open_reader(container) as reader:
        offset, entry = reader.entry(2)
    asked.clear()
    assert fs.cat_file("bucket/models/model.safetensors", 2 * CHUNK, 2 * CHUNK + 9) == model[2 * CHUNK :][:9]
    root, pages = (header[f"{name}_offset"] for name in ("root", "pages"))
    wanted = [(root, header["root_size"]), (pages, header["pages_size"]), (offset, entry[0])]
    assert [a for a in asked if a != "bytes=0-255"] == [f"bytes={at}-{at + size - 1}" for at, size in wanted]
    assert fs.cat_file("bucket/models/model.safetensors") == model
    fs.get("bucket/models", str(tmp_path / "got"), recursive=True)
    assert (tmp_path / "got/model.safetensors").read_bytes() == model
    with fsspec.open("zipfs::s3://bucket/models/model.safetensors", s3=options) as file:
        file.seek(-100, os.SEEK_END)
        assert file.read() == model[-100:]
