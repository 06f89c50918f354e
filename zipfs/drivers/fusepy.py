"""The driver on the fusepy interface: through mfusepy with libfuse 3 or 2, and through fusepy itself with libfuse 2.

Both bindings build libfuse's table of operations from Python methods. The read operation is put into that table as the
address of a C function, just before libfuse gets it: bytes reach the kernel without Python and without the GIL.

libfuse 3 asks for up to 1 MiB at a time, libfuse 2 for 128 KiB and for one O_DIRECT request after the other.
"""

import ctypes
import errno
import importlib
import os
import stat
from collections.abc import Callable
from types import ModuleType
from typing import Any

from zipfs import _native, names
from zipfs.drivers.versions import PathVersions
from zipfs.errors import MountError
from zipfs.tree import Tree

LIBRARIES = {3: ("libfuse3.so.4", "libfuse3.so.3"), 2: ("libfuse.so.2",)}
PACKAGES = {3: "fuse3", 2: "libfuse2"}
"""What Debian calls the generations of libfuse."""
BINDINGS = {"mfusepy": ("mfusepy", (3, 2)), "fusepy": ("fuse", (2,))}
"""Module and libfuse generations of each driver, best first."""
LIBRARY_VARIABLE = "FUSE_LIBRARY_PATH"
"""Where both bindings look for libfuse first. Who sets it wants that one and no other."""
STATS_PATH = f"/{names.STATS}"
NO_ATTRIBUTES = ("system.", "security.")
"""Access lists and labels, which programs that list folders ask for until they are told that there are none."""
ENCODING = "latin-1"
"""Any byte of a name is one character and comes back as it was."""
MAX_REQUEST = 1 << 20
MAX_BACKGROUND = 64
MAX_THREADS = max(10, 2 * (os.cpu_count() or 1))
"""More than CPUs, since a read that waits for the disk holds one."""
OPTIONS = {
    "foreground": True,
    "fsname": "zipfs",
    "subtype": "zipfs",
    "ro": True,
    "nosuid": True,
    "nodev": True,
    "default_permissions": True,
    "use_ino": True,
    "attr_timeout": 0.9,
    "entry_timeout": 0.9,
    "negative_timeout": 0,
}
LIBFUSE2_OPTIONS = {"max_background": MAX_BACKGROUND, "congestion_threshold": MAX_BACKGROUND * 3 // 4, "nonempty": True}


class Operations:
    """The operations of a read-only file system, but for `read`. Methods raise OSError, whose errno is the answer."""

    use_ns = True

    def __init__(
        self, tree: Tree, report: Callable[[], bytes], on_ready: Callable[[], None], get_context: Callable[[], tuple]
    ) -> None:
        """get_context: the binding's, which gives user, group and thread of a request."""
        self._tree = tree
        self._get_context = get_context
        self._report = report
        self._on_ready = on_ready
        self._versions = PathVersions(tree)
        self._report_cache = _native.Cache(0)

    def init(self, path: str) -> None:
        self._on_ready()

    def init_with_config(self, connection: Any, config: Any) -> None:
        """mfusepy's form of init."""
        connection.max_background = MAX_BACKGROUND
        connection.congestion_threshold = MAX_BACKGROUND * 3 // 4
        if config is not None:  # libfuse 3, which wants this and the option max_read to agree
            connection.max_read = MAX_REQUEST
        self._on_ready()

    def getattr(self, path: str, file_info: Any = None) -> dict[str, int]:
        if path == STATS_PATH:
            return {"st_mode": stat.S_IFREG | 0o400, "st_nlink": 1, "st_uid": os.geteuid(), "st_gid": os.getegid()}
        shown = self._versions.stat(to_source(path), self._get_context()[2], is_open=bool(file_info))
        return {f"st_{name.removesuffix('_ns')}": value for name, value in shown._asdict().items()}

    def readlink(self, path: str) -> str:
        return self._tree.readlink(to_source(path)).decode(ENCODING)

    def readdir(self, path: str, handle: int) -> list[tuple[str, dict[str, int], int]]:
        entries = [
            (name.decode(ENCODING), {"st_mode": node.stat.mode, "st_ino": node.stat.ino}, 0)
            for name, node in self._tree.listdir(to_source(path))
        ]
        return [(".", {"st_mode": stat.S_IFDIR}, 0), ("..", {"st_mode": stat.S_IFDIR}, 0), *entries]

    def open(self, path: str, file_info: Any) -> None:
        if file_info.flags & os.O_ACCMODE != os.O_RDONLY:
            refuse()
        if path == STATS_PATH:
            file_info.fh, file_info.direct_io = self._open_report(), True
            return
        file_info.fh, file_info.keep_cache = self._versions.open(to_source(path), self._get_context()[2])

    def _open_report(self) -> int:
        """A handle for the C read operation, which knows files alone; it counts in a cache of its own."""
        fd = os.memfd_create("zipfs-stats", os.MFD_CLOEXEC)
        with open(fd, "wb", closefd=False) as file:
            file.write(self._report())
        with _native.File(self._report_cache, fd, "report", plain=True) as file:
            return file.handle()

    def release(self, path: str, file_info: Any) -> None:
        if path == STATS_PATH:
            _native.release(file_info.fh)
        else:
            self._versions.release(to_source(path), file_info.fh)

    def statfs(self, path: str) -> dict[str, int]:
        source = self._tree.statvfs()
        return {name: getattr(source, name) for name in dir(source) if name.startswith("f_")}

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        code = errno.EOPNOTSUPP if name.startswith(NO_ATTRIBUTES) else errno.ENODATA
        raise OSError(code, os.strerror(code), path)

    def listxattr(self, path: str) -> list[str]:
        return []

    def __call__(self, operation: str, *args: Any) -> Any:
        """How fusepy calls every operation."""
        return getattr(self, operation)(*args)


def refuse(*args: Any) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


# The mount is read-only to the kernel too; these answer should somebody remount it writable.
for _operation in (
    "chmod", "chown", "create", "link", "mkdir", "mknod", "removexattr", "rename", "rmdir",
    "setxattr", "symlink", "truncate", "unlink", "utimens", "write",
):  # fmt: skip
    setattr(Operations, _operation, refuse)


def to_source(path: str) -> bytes:
    """libfuse's absolute path as a path beneath the source."""
    return path.encode(ENCODING).lstrip(b"/") or b"."


def load(driver: str | None) -> tuple[ModuleType, int]:
    """(the binding's module, libfuse's generation). None: the best that is here. MountError when there is none."""
    problems = []
    wanted = os.environ.get(LIBRARY_VARIABLE)
    for name in [driver] if driver else BINDINGS:
        module, generations = BINDINGS[name]
        path, generation = find_library(generations)
        if path is None:
            problems.append(
                f"{LIBRARY_VARIABLE}={wanted} is no libfuse {' or '.join(map(str, generations))} for {name}; unset it"
                if wanted
                else f"libfuse is missing: apt install {PACKAGES[generations[0]]}"
            )
            continue
        os.environ[LIBRARY_VARIABLE] = path
        try:
            return importlib.import_module(module), generation
        except ImportError:
            os.environ.pop(LIBRARY_VARIABLE)
            if wanted:
                os.environ[LIBRARY_VARIABLE] = wanted
            problems.append(f"the Python package {name} is missing: pip install {name}")
    raise MountError("; ".join(dict.fromkeys(problems)))


def find_library(generations: tuple[int, ...]) -> tuple[str | None, int]:
    wanted = os.environ.get(LIBRARY_VARIABLE)
    for path in [wanted] if wanted else [path for generation in generations for path in LIBRARIES[generation]]:
        try:
            generation = int(str(ctypes.CDLL(path).fuse_version())[0])  # 29 is 2.9, 314 is 3.14
        except (OSError, AttributeError):
            continue
        if generation in generations:
            return path, generation
    return None, 0


def serve(
    driver: str | None,
    tree: Tree,
    report: Callable[[], bytes],
    mountpoint: bytes,
    options: dict[str, Any],
    on_ready: Callable[[], None],
) -> None:
    """Mounts, serves and returns once unmounted. report: gives what the file zipfs.names.STATS holds; `options` are
    those of mount(8). on_ready is called when requests begin to be answered.
    """
    binding, generation = load(driver)
    if generation == 2:
        _native.log("libfuse 2: requests of 128 KiB at most; apt install fuse3 makes reads faster")
    replace_read(binding, _native.fuse_read_address(generation))
    special = LIBFUSE2_OPTIONS if generation == 2 else libfuse3_options(binding.fuse_version_minor)
    binding.FUSE(
        Operations(tree, report, on_ready, binding.fuse_get_context),
        mountpoint.decode(ENCODING),
        raw_fi=True,
        encoding=ENCODING,
        **OPTIONS | special | options,
    )


def libfuse3_options(minor: int) -> dict[str, Any]:
    threads = {"max_threads": MAX_THREADS, "max_idle_threads": MAX_THREADS} if minor >= 12 else {}
    return {"max_read": MAX_REQUEST} | threads


def replace_read(binding: ModuleType, address: int) -> None:
    """Makes the binding hand libfuse the function at address as its read operation."""
    holder = binding if hasattr(binding, "fuse_main_real") else binding._libfuse
    fuse_main_real = holder.fuse_main_real

    def with_read(argc, argv, operations, size, data):
        operations.contents.read = type(operations.contents.read)(address)
        return fuse_main_real(argc, argv, operations, size, data)

    holder.fuse_main_real = with_read
