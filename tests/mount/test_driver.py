"""How the bindings talk to libfuse: the read operation is C, and only what is needed is Python."""

import json
import os
import subprocess
import sys

import pytest
from mounts import BINDINGS, DRIVERS

PROBE = """
import ctypes, json, sys
from zipfs import _native
from zipfs.drivers import fusepy

binding, generation = fusepy.load(sys.argv[1])
holder = binding if hasattr(binding, "fuse_main_real") else binding._libfuse

def fuse_main_real(argc, argv, operations, size, data):
    table = operations.contents
    filled = {}
    for name, *_ in table._fields_:
        value = getattr(table, name)
        if callable(value):
            filled[name] = ctypes.cast(value, ctypes.c_void_p).value
    address = _native.fuse_read_address(generation)
    names = sorted(name for name, value in filled.items() if value)
    words = [argv[i].decode() for i in range(argc)]
    print(json.dumps({"is_c": filled["read"] == address, "names": names, "words": words, "generation": generation}))
    return 0

holder.fuse_main_real = fuse_main_real
fusepy.serve(sys.argv[1], None, None, b"/nowhere", {"allow_other": True}, lambda: None)
"""


@pytest.mark.parametrize("driver", BINDINGS, indirect=True)
def test_the_table_that_libfuse_gets(driver):
    result = subprocess.run([sys.executable, "-c", PROBE, driver], capture_output=True, text=True, check=True)
    table = json.loads(result.stdout)
    assert table["generation"] == DRIVERS[driver]
    assert table["is_c"]
    needless = {
        "access",
        "flush",
        "opendir",
        "releasedir",
        "fsync",
        "fsyncdir",
        "lock",
        "bmap",
        "ioctl",
        "poll",
        "read_buf",
    }
    assert not needless & set(table["names"])
    assert {"getattr", "readdir", "open", "release", "readlink", "statfs", "getxattr", "init"} <= set(table["names"])
    options = table["words"][table["words"].index("-o") + 1].split(",")
    assert {"ro", "nosuid", "nodev", "default_permissions", "allow_other", "fsname=zipfs", "subtype=zipfs"} <= set(
        options
    )
    assert "direct_io" not in options
    assert os.fspath(table["words"][-1]) == "/nowhere"
