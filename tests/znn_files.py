"""Files that ZipNN writes, for tests. Importing this needs zipnn, and so torch: pytest.importorskip("zipnn") first."""

import os
from pathlib import Path

import torch
import zipnn
from safetensors import safe_open
from safetensors.torch import save_file
from zipnn.util_safetensors import build_compressed_tensor_info, set_compressed_tensors_metadata

DTYPES = {
    "BF16": "bfloat16",
    "F16": "float16",
    "F32": "float32",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
"""What ZipNN calls the dtypes that it compresses."""
TORCH_DTYPES = {dtype: getattr(torch, name) for dtype, name in DTYPES.items()}


def znn(plain: bytes, dtype: str = "BF16", base: bytes | None = None, **options) -> bytes:
    """The bytes of a `.znn` file. base: for a delta; options: as in zipnn.ZipNN."""
    if base is not None:
        options["delta_compressed_type"] = "byte"
    coder = zipnn.ZipNN(bytearray_dtype=DTYPES[dtype], threads=1, **options)
    return bytes(coder.compress(bytearray(plain), delta_second_data=base))  # bytearray: it changes what it is given


def znn_in_child(path: Path, plain: bytes, dtype: str, **options) -> bool:
    """Writes a `.znn` file; False when ZipNN died of it, as it may of lengths that are no multiple of the element."""
    child = os.fork()
    if child == 0:
        try:
            path.write_bytes(znn(plain, dtype, **options))
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def znn_safetensors(plain: Path, target: Path, *, keep: bool = True) -> None:
    """Writes what ZipNN's script for safetensors writes: each float tensor that shrinks becomes a frame, all others are
    stored as compressing left them. keep: False for a careful writer, who stores them as they were.
    """
    tensors, infos = {}, {}
    with safe_open(plain, "pt") as file:
        metadata = file.metadata()
        for name in file.keys():  # noqa: SIM118  (safe_open is no dict)
            tensor = file.get_tensor(name).clone()
            tensors[name] = tensor
            if tensor.dtype not in TORCH_DTYPES.values():
                continue
            worked_on = tensor if keep else tensor.clone()
            coder = zipnn.ZipNN(input_format="torch", bytearray_dtype=tensor.dtype, method="HUFFMAN", threads=1)
            stored = coder.compress(worked_on)
            if len(stored) < tensor.numel() * tensor.element_size():
                tensors[name] = torch.frombuffer(bytearray(stored), dtype=torch.uint8)
                infos[name] = build_compressed_tensor_info(tensor)
    set_compressed_tensors_metadata(infos, metadata)
    save_file(tensors, target, metadata)
