"""`scripts/bench loaders`: what the usual loaders take for a cold load from the mount, beside the plain file.

Cold: before each load the pages of the plain file and of the container are dropped from the page cache, and the mount
is new, so that it has decoded nothing. Each load is a process of its own, timed inside from the first call of the
loader to the last byte of the last tensor; importing is not in it. Plain file and mount take turns.
"""

import argparse
import importlib.util
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import zipfs

from . import corpus, machine, readers, table
from .mount import BUILD
from .mount_work import write_model

NAME = "loaders"
HELP = "cold loads by safetensors, torch, numpy, gguf and onnxruntime from the mount beside the plain file"

LOADS = {
    "safetensors, numpy": (
        "model.safetensors",
        "ml_dtypes",
        "import ml_dtypes; from safetensors.numpy import load_file",
        "load_file(path)",
    ),
    "safetensors, torch": ("model.safetensors", "torch", "from safetensors.torch import load_file", "load_file(path)"),
    'safetensors, torch, backend="pread"': (
        "model.safetensors",
        "torch",
        "from safetensors.torch import load_file",
        'load_file(path, backend="pread")',
    ),
    "torch.load": ("model.pt", "torch", "import torch", "torch.load(path)"),
    "torch.load, mmap=True": ("model.pt", "torch", "import torch", "torch.load(path, mmap=True)"),
    "numpy.load": ("model.npy", "numpy", "import numpy", "numpy.load(path)"),
    'numpy.load, mmap_mode="r"': ("model.npy", "numpy", "import numpy", 'numpy.load(path, mmap_mode="r")'),
    "gguf.GGUFReader": (
        "model.gguf",
        "gguf",
        "import gguf",
        "{tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}",
    ),
    "onnxruntime, external data": (
        "model.onnx",
        "onnxruntime",
        "import onnxruntime",
        'onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])',
    ),
    "transformers, from_pretrained": (
        "minilm",
        "transformers",
        "from transformers import AutoModel",
        "dict(AutoModel.from_pretrained(path).state_dict())",
    ),
    "file.read()": ("model.safetensors", "zipfs", "", 'open(path, "rb").read()'),
}
"""Loader -> file, package that it needs, what it imports, and the expression that is timed."""

PROGRAM = """
import sys, time
{imports}
def touch(found):
    # A byte of every page, as mapped tensors are nowhere before somebody looks.
    if isinstance(found, dict):
        return sum(map(touch, found.values()))
    if hasattr(found, "untyped_storage"):
        import torch
        found = found.reshape(-1).view(torch.uint8)[::4096].sum()
    elif hasattr(found, "dtype"):
        import numpy
        found = found.reshape(-1).view(numpy.uint8)[::4096].sum(dtype=numpy.int64)
    return 1
path = sys.argv[1]
start = time.perf_counter()
touch({load})
print(time.perf_counter() - start)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mib", type=int, help="size of each file (default 256, with --quick 32)")
    parser.add_argument("--runs", type=int, help="default 7, with --quick 3")
    parser.add_argument(
        "--dir", type=Path, default=BUILD, help="where to work; a folder on the disk to be measured (default build/)"
    )


def write_files(folder: Path, size: int) -> None:
    """The same BF16 weights in each format; F16 ones where a format has no BF16."""
    write_model(folder / "model.safetensors", "bf16", size)
    if has("torch"):
        import torch
        from safetensors.torch import load_file

        torch.save(load_file(folder / "model.safetensors"), folder / "model.pt")
    np.save(folder / "model.npy", joined("f16", size, np.float16))
    if has("gguf"):
        write_gguf(folder / "model.gguf", size)
    if has("onnx") and has("onnxruntime"):
        write_onnx(folder / "model.onnx", size)
    if has("transformers"):
        shutil.copytree(Path(corpus.trained_model_path()).parent, folder / "minilm")


def write_gguf(path: Path, size: int) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    for number, values in enumerate(corpus.tensors("bf16", size)):
        data = np.ascontiguousarray(values.reshape(corpus.ROWS, -1)).view(np.uint8)
        writer.add_tensor(f"blk.{number}.weight", data, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_onnx(path: Path, size: int) -> None:
    """A chain of products with F32 weights beside the graph."""
    import onnx
    from onnx import helper, numpy_helper

    width = 1024
    count = size // (4 * width * width)
    arrays = joined("f32", size, np.float32)[: count * width * width].reshape(count, width, width)
    tensors = [numpy_helper.from_array(array, f"w{number}") for number, array in enumerate(arrays)]
    nodes = [helper.make_node("MatMul", [f"x{number}", f"w{number}"], [f"x{number + 1}"]) for number in range(count)]
    ends = [helper.make_tensor_value_info(f"x{n}", onnx.TensorProto.FLOAT, [1, width]) for n in (0, count)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)


def joined(name: str, size: int, dtype: type) -> np.ndarray:
    """All weights of a class of the corpus in one row."""
    return np.concatenate([np.ascontiguousarray(part).view(dtype).reshape(-1) for part in corpus.tensors(name, size)])


def has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def load(path: Path, imports: str, expression: str) -> float:
    """Seconds."""
    program = PROGRAM.format(imports=imports, load=expression)
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def drop(folder: Path) -> None:
    for path in filter(Path.is_file, folder.rglob("*")):
        readers.drop_pages(str(path))


def measure(work: Path, name: str, runs: int) -> dict:
    """Of one loader: seconds from the plain file and from the mount, and their ratios by run."""
    file, _, imports, expression = LOADS[name]
    times: dict[str, list[float]] = {"plain": [], "mount": []}
    for _ in range(runs):
        drop(work / "plain")
        times["plain"].append(load(work / "plain" / file, imports, expression))
        drop(work / "packed")
        with zipfs.mount(work / "packed", work / "mnt") as mnt:
            times["mount"].append(load(mnt / file, imports, expression))
    ratios = [plain / mounted for plain, mounted in zip(times["plain"], times["mount"], strict=True)]
    summary = {name: table.summary(values) for name, values in times.items()} | {"speedup": table.summary(ratios)}
    return summary | {"loader": name, "file": file}


def run(arguments: argparse.Namespace) -> dict:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("scripts/bench: stopped"))
    size = (arguments.mib or (32 if arguments.quick else 256)) << 20
    runs = arguments.runs or (3 if arguments.quick else 7)
    arguments.dir.mkdir(exist_ok=True)
    described = machine.describe()
    with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="bench-") as folder:
        work = Path(folder)
        for name in ("plain", "mnt"):
            (work / name).mkdir()
        write_files(work / "plain", size)
        zipfs.compress(work / "plain", work / "packed")
        subprocess.run(["sync"], check=True)
        loads, left_out = [], []
        for name, (_, package, _, _) in LOADS.items():
            if has(package):
                print(f"scripts/bench: {name}", file=sys.stderr)
                loads.append(measure(work, name, runs))
            else:
                left_out.append(f"{name}: {package} is not installed")
        saved = {
            path.name: (work / "packed" / f"{path.name}.zipfs").stat().st_size / path.stat().st_size
            for path in (work / "plain").iterdir()
            if (work / "packed" / f"{path.name}.zipfs").exists()
        }
    return {
        "machine": described,
        "mib": size >> 20,
        "runs": runs,
        "loads": loads,
        "stored": saved,
        "left_out": left_out,
        "bars": [],
    }


def to_markdown(report: dict) -> str:
    header = ["loader", "plain file, s", "mount, s", "times as fast (quartiles)"]
    rows = [
        [load["loader"], table.spread(load["plain"]), table.spread(load["mount"]), table.spread(load["speedup"])]
        for load in report["loads"]
    ]
    stored = ", ".join(f"{name} {share:.1%}" for name, share in sorted(report["stored"].items()))
    parts = [
        f"`{report['command']}` on {machine.headline(report['machine'])}",
        f"Files of {report['mib']} MiB, medians of {report['runs']} cold loads in turn. Stored: {stored}.",
        table.markdown(header, rows),
    ]
    return "\n\n".join(parts + [f"Left out: {'; '.join(report['left_out'])}."] * bool(report["left_out"]))
