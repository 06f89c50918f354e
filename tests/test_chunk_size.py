"""The size of the chunks follows from the level and from what a large file holds."""

import numpy as np
import pytest
from models import safetensors_bytes

import zipfs
from zipfs.info import file_info

SEED = 20261122
KIB, MIB = 1 << 10, 1 << 20


def zeros(size: int) -> bytes:
    return bytes(size)


def noise_in_zeros(size: int) -> bytes:
    """Noise where no sample is taken, and zeros."""
    rng = np.random.default_rng(SEED)
    return rng.bytes(size // 16) + bytes(size - size // 16)


def bf16(size: int) -> bytes:
    rng = np.random.default_rng(SEED)
    words = (rng.standard_normal(size // 2, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return safetensors_bytes({"w": ("BF16", [size // 2], words.tobytes())})


def f64(size: int) -> bytes:
    rng = np.random.default_rng(SEED)
    return safetensors_bytes({"w": ("F64", [size // 8], rng.standard_normal(size // 8).tobytes())})


@pytest.mark.parametrize(
    ("make", "size", "level", "wanted"),
    [
        (zeros, 9 * MIB + 1, "default", 2 * MIB),
        (zeros, 9 * MIB + 1, "max", 2 * MIB),
        (zeros, 2 * MIB, "default", 512 * KIB),
        (noise_in_zeros, 8 * MIB, "default", 2 * MIB),
        (bf16, 8 * MIB, "default", 512 * KIB),
        (bf16, 8 * MIB, "max", MIB),
        (f64, 8 * MIB, "default", MIB),
        (f64, 8 * MIB, "fast", MIB),
        (f64, 4 * MIB, "default", 512 * KIB),
    ],
)
def test_size_follows_from_level_and_content(tmp_path, make, size, level, wanted):
    plain = make(size)
    (tmp_path / "plain").write_bytes(plain)
    zipfs.compress(tmp_path / "plain", tmp_path / "x.zipfs", level=level)
    assert file_info(str(tmp_path / "x.zipfs"))["chunk_size"] == wanted
    zipfs.decompress(tmp_path / "x.zipfs", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == plain
