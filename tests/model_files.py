"""Tensors written by the real library of each format, for tests of layouts."""

from pathlib import Path

import ml_dtypes
import numpy as np
import torch

Tensors = dict[str, torch.Tensor]

TORCH_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def cast(tensors: Tensors, dtype: str) -> Tensors:
    """The floats among them as `dtype`."""
    return {
        name: tensor.to(TORCH_DTYPES[dtype]) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def array(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def plain_bytes(tensor: torch.Tensor) -> bytes:
    return array(tensor.contiguous()).tobytes()


def write_safetensors(path: Path, tensors: Tensors) -> None:
    from safetensors.torch import save_file

    save_file(tensors, path)


def write_torch(path: Path, tensors: Tensors) -> None:
    torch.save(tensors, path)


def write_npz(path: Path, tensors: Tensors) -> None:
    with path.open("wb") as file:
        np.savez(file, **{name: array(tensor) for name, tensor in tensors.items()})


def write_gguf(path: Path, tensors: Tensors) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, "bert")
    writer.add_array("tokenizer.ggml.tokens", [f"token {i}" for i in range(5000)])
    for name, tensor in tensors.items():
        if tensor.dtype == torch.bfloat16:
            writer.add_tensor(name, array(tensor).view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            writer.add_tensor(name, array(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def onnx_model(tensors: Tensors):
    """A model with the tensors as initializers."""
    import onnx
    from onnx import helper

    kinds = {torch.int64: onnx.TensorProto.INT64, torch.float32: onnx.TensorProto.FLOAT}
    kinds |= {torch.float16: onnx.TensorProto.FLOAT16, torch.bfloat16: onnx.TensorProto.BFLOAT16}
    initializers = [
        helper.make_tensor(name, kinds[tensor.dtype], tensor.shape, plain_bytes(tensor), raw=True)
        for name, tensor in tensors.items()
    ]
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", [value], [], initializers)
    return helper.make_model(graph, producer_name="tests")


def write_onnx(path: Path, tensors: Tensors) -> None:
    import onnx

    onnx.save(onnx_model(tensors), path)


def write_onnx_external(path: Path, tensors: Tensors) -> None:
    """The data to `path`, the model beside it."""
    import onnx

    onnx.save(
        onnx_model(tensors),
        path.with_suffix(".onnx"),
        save_as_external_data=True,
        location=path.name,
        size_threshold=0,
    )


WRITERS = {
    "model.safetensors": write_safetensors,
    "model.gguf": write_gguf,
    "pytorch_model.bin": write_torch,
    "model.npz": write_npz,
    "inline.onnx": write_onnx,
    "external.onnx_data": write_onnx_external,
}
"""Writers by the names of their files; some write others beside them."""
