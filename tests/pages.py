"""What the page cache holds of a file."""

import ctypes
import mmap
import os
from pathlib import Path

PAGE_SIZE = mmap.PAGESIZE
MAP_FAILED = ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def resident(path: Path) -> list[bool]:
    """For each page of the file, whether it is in the page cache. Reads none of them."""
    size = path.stat().st_size
    num_pages = -(-size // PAGE_SIZE)
    states = ctypes.create_string_buffer(num_pages)
    fd = os.open(path, os.O_RDONLY)
    try:
        address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    finally:
        os.close(fd)
    if address == MAP_FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    try:
        if _libc.mincore(address, size, states):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    finally:
        _libc.munmap(address, size)
    return [bool(state & 1) for state in states.raw]
