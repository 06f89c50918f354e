"""ONNX on a mount: a model with its weights beside it, which onnxruntime maps, and one with all in one file."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
SEED = 17
WIDTH = 256
LAYERS = 3


def weights() -> dict[str, np.ndarray]:
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    return {f"weight.{i}": rng.normal(0, 0.05, (WIDTH, WIDTH)).astype(np.float32) for i in range(LAYERS)}


def model():
    from onnx import helper, numpy_helper

    nodes = [helper.make_node("MatMul", [f"x{i}", f"weight.{i}"], [f"x{i + 1}"]) for i in range(LAYERS)]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, WIDTH]) for name in ("x0", f"x{LAYERS}")]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights().items()]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def shelf(shelve):
    def write(folder):
        for name, one_file in (("one", True), ("many", False)):
            (folder / name).mkdir()
            options = {"save_as_external_data": True, "all_tensors_to_one_file": one_file, "size_threshold": 0}
            onnx.save(model(), folder / name / "model.onnx", **options, location="weights.bin" if one_file else None)
        onnx.save(model(), folder / "whole.onnx")

    return shelve(write)


@pytest.mark.parametrize("name", ["one/model.onnx", "many/model.onnx", "whole.onnx"])
def test_initializers(mounted, shelf, hashes, name):
    from onnx import numpy_helper

    loaded = onnx.load(mounted(shelf.stored).path / name)
    tensors = ((tensor.name, numpy_helper.to_array(tensor)) for tensor in loaded.graph.initializer)
    assert hashes(tensors) == hashes(weights().items())


@pytest.mark.parametrize("name", ["one/model.onnx", "many/model.onnx", "whole.onnx"])
def test_onnxruntime(mounted, shelf, name):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    given, outputs = {"x0": np.linspace(-1, 1, WIDTH, dtype=np.float32)[None]}, []
    for folder in (mounted(shelf.stored).path, shelf.plain):
        session = onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
        outputs.append(session.run(None, given)[0])
        del session
    assert np.array_equal(*outputs)
    expected = given["x0"]
    for weight in weights().values():
        expected = expected @ weight
    assert np.allclose(outputs[0], expected, atol=1e-4)
