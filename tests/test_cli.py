"""The command line: exit codes, what goes to which stream, JSON keys, and messages that name file and reason."""

import fcntl
import importlib
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import tomllib
from pathlib import Path

import pytest
from models import safetensors_bytes, weights

import zipfs
from zipfs import _native, names
from zipfs.cli import main
from zipfs.pipeline import CHUNK_LOG2
from zipfs.report import describe_kernels

FILE_KEYS = ["path", "plain_size", "stored_size", "ratio", "chunk_size", "num_chunks", "sha256", "segments"]
SEGMENT_KEYS = ["name", "dtype", "shape", "offset", "plain_size", "stored_size"]
KERNEL_KEYS = ["name", "built", "lacks", "used"]
CHUNK = 1 << CHUNK_LOG2
COMMANDS = ["compress", "decompress", "mount", "umount", "run", "stats", "tune", "warm", "verify", "info", "du"]
COMMANDS += ["report", "estimate", "doctor"]


@pytest.fixture
def model(rng, tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    data = safetensors_bytes({"w": ("BF16", [1000, 1000], weights(rng, "BF16", 1_000_000))})
    (src / "m.safetensors").write_bytes(data)
    (src / "config.json").write_bytes(b'{"a": 1}' * 1000)
    (src / "noise").write_bytes(rng.bytes(100_000))
    return src


def run(*arguments, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "zipfs", *map(os.fspath, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def damage(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def test_folder_through_the_processes(model, tmp_path):
    done = run("compress", model, tmp_path / "dst", "--jobs", "2", "--level", "fast")
    assert (done.returncode, done.stdout) == (0, "") and "3 files" in done.stderr
    assert sorted(os.listdir(tmp_path / "dst")) == ["config.json.zipfs", "m.safetensors.zipfs", "noise"]
    checked = run("verify", tmp_path / "dst")
    assert (checked.returncode, checked.stdout) == (0, "2 containers checked, 0 damaged\n")
    assert run("decompress", tmp_path / "dst", tmp_path / "back").returncode == 0
    for path in model.iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()
    again = run("compress", model, tmp_path / "dst")
    assert again.returncode == 1 and again.stderr.count("exists already; --force replaces it") == 3
    assert run("compress", model, tmp_path / "dst", "--force").returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["squeeze"],
        ["compress"],
        ["compress", "a", "b.zipfs", "--level", "best"],
        ["compress", "a", "b.zipfs", "--jobs", "0"],
        ["compress", "a", "b.zipfs", "--jobs", "x"],
        ["mount", "a", "b", "--cache-size", "many"],
        ["mount", "a", "b", "--cache-size", "-1"],
        ["verify"],
    ],
)
def test_wrong_usage_is_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: zipfs")


def test_usage_errors_found_late_are_2(model, tmp_path, capsys):
    assert main(["compress", str(model), str(model / "dst")]) == 2
    assert "lies inside the source" in capsys.readouterr().err
    assert main(["compress", str(model / "noise"), str(tmp_path / "noise")]) == 2
    assert "ends in .zipfs" in capsys.readouterr().err
    assert not (model / "dst").exists()


@pytest.mark.parametrize("command", ["compress", "decompress", "verify", "info", "estimate"])
def test_missing_file_is_1_and_named(tmp_path, capsys, command):
    target = [str(tmp_path / "out.zipfs")] if "compress" in command else []
    assert main([command, str(tmp_path / "missing"), *target]) == 1
    assert capsys.readouterr().err.strip() == f"zipfs: {tmp_path / 'missing'}: No such file or directory"


def test_verify_names_file_chunk_and_range(model, tmp_path, capsys):
    zipfs.compress(model, tmp_path / "dst")
    path = tmp_path / "dst/m.safetensors.zipfs"
    with open(path, "rb") as file, _native.Reader(file.fileno()) as reader:
        offset, _ = reader.entry(2)
    damage(path, offset + 1000)
    for extra in ([], ["--fast"]):
        assert main(["verify", str(tmp_path / "dst"), *extra]) == 4
        out, err = capsys.readouterr()
        assert out == "2 containers checked, 1 damaged\n"
        assert err == f"zipfs: {path}: damaged chunk 2, plain bytes [{2 * CHUNK}, {3 * CHUNK}) (CHUNK_CHECKSUM)\n"
    damage(path, 0)
    assert main(["verify", str(path), str(tmp_path / "dst/config.json.zipfs"), str(tmp_path / "missing")]) == 4
    out, err = capsys.readouterr()
    assert out == "2 containers checked, 1 damaged\n"
    assert f"{path}: " in err and "BAD_MAGIC" in err and "missing: No such file" in err
    assert main(["info", str(path)]) == 1
    assert main(["decompress", str(path), str(tmp_path / "back")]) == 1
    assert not (tmp_path / "back").exists()


def test_verify_json(model, tmp_path, capsys):
    zipfs.compress(model, tmp_path / "dst")
    path, missing = tmp_path / "dst/m.safetensors.zipfs", str(tmp_path / "missing")
    assert main(["verify", "--json", str(tmp_path / "dst")]) == 0
    whole = {"num_containers": 2, "num_blobs": 0, "num_damaged": 0, "failures": []}
    assert json.loads(capsys.readouterr().out) == whole
    damage(path, 1000)
    assert main(["verify", "--json", str(path), missing]) == 4
    facts = json.loads(capsys.readouterr().out)
    message = f"{path}: damaged chunk 0, plain bytes [0, {CHUNK}) (CHUNK_CHECKSUM)"
    damaged = {"path": str(path), "is_damage": True, "message": message, "status": "CHUNK_CHECKSUM"}
    damaged |= {"chunk": 0, "last_chunk": 0, "start": 0, "end": CHUNK}
    unread = {"path": missing, "is_damage": False, "message": f"{missing}: No such file or directory"}
    assert facts == whole | {"num_containers": 1, "num_damaged": 1, "failures": [damaged, unread]}


def test_verify_decodes_and_fast_does_not(tmp_path, capsys):
    """A header with another SHA-256 is damage that the stored checksums cannot show."""
    (tmp_path / "x").write_bytes(b"text " * 10_000)
    zipfs.compress(tmp_path / "x", path := tmp_path / "x.zipfs")
    data = path.read_bytes()
    fields = _native.header_parse(data[:256], len(data))
    path.write_bytes(_native.header_write(fields | {"sha256": bytes(32)}) + data[256:])
    assert main(["verify", "--fast", str(path)]) == 0
    assert main(["verify", str(path)]) == 4
    assert f"{path}: the SHA-256 of the decoded bytes is not the header's (PLAIN_CHECKSUM)" in capsys.readouterr().err


def test_verify_joins_neighbours(rng, tmp_path, capsys):
    """A damaged index page takes 127 chunks with it: one line, not 127."""
    (tmp_path / "x").write_bytes(b"".join(rng.bytes(CHUNK // 2) + bytes(CHUNK // 2) for _ in range(130)))
    zipfs.compress(tmp_path / "x", path := tmp_path / "x.zipfs")
    with open(path, "rb") as file, _native.Reader(file.fileno()) as reader:
        pages = reader.header["pages_offset"]
    damage(path, pages + 100)
    assert main(["verify", str(path)]) == 4
    expected = f"zipfs: {path}: damaged chunks 0 to 126, plain bytes [0, {127 * CHUNK}) (PAGE_CHECKSUM)\n"
    assert capsys.readouterr().err == expected


def test_info_json(model, tmp_path, capsys):
    zipfs.compress(model, tmp_path / "dst")
    assert main(["info", "--json", str(tmp_path / "dst/m.safetensors.zipfs")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts) == FILE_KEYS
    assert facts["ratio"] == round(facts["stored_size"] / facts["plain_size"], 4) < 0.7
    assert (facts["chunk_size"], facts["num_chunks"]) == (CHUNK, -(-facts["plain_size"] // CHUNK))
    (segment,) = facts["segments"]
    assert list(segment) == SEGMENT_KEYS
    assert (segment["name"], segment["dtype"], segment["shape"]) == ("w", "BF16", [1000, 1000])
    assert main(["info", "--json", str(tmp_path / "dst")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts) == ["files", "total"] and len(facts["files"]) == 3
    assert all(list(file) == FILE_KEYS for file in facts["files"])
    assert facts["total"]["plain_size"] == sum(path.stat().st_size for path in model.iterdir())
    assert facts["total"]["stored_size"] == sum(path.stat().st_size for path in (tmp_path / "dst").iterdir())
    assert facts["files"][-1] | {"path": ""} == {
        **dict.fromkeys(FILE_KEYS, 0),
        "path": "",
        "plain_size": 100_000,
        "stored_size": 100_000,
        "ratio": 1.0,
        "sha256": None,
        "segments": [],
    }


def test_info_goes_on_without_a_damaged_segment_table(model, tmp_path, capsys):
    zipfs.compress(model, tmp_path / "dst")
    path = tmp_path / "dst/m.safetensors.zipfs"
    damage(path, path.stat().st_size - 1)
    assert main(["info", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["segments"] == []
    assert main(["info", str(path)]) == 0
    assert str(path) in capsys.readouterr().out


def test_info_of_kernels(monkeypatch):
    monkeypatch.delenv("ZIPFS_KERNEL", raising=False)
    names_there = [name for name, built, lacks in _native.kernels() if built and not lacks]
    assert names_there[-1] == "scalar", "the kernel that runs everywhere is the last choice"
    for demanded in (None, *names_there):
        done = run("info", "--kernels", "--json", env=os.environ | ({"ZIPFS_KERNEL": demanded} if demanded else {}))
        facts = json.loads(done.stdout)
        assert list(facts) == ["machine", "demanded", "used", "kernels"]
        assert (facts["demanded"], facts["used"]) == (demanded, demanded or names_there[0])
        assert [list(kernel) for kernel in facts["kernels"]] == [KERNEL_KEYS] * len(facts["kernels"])
        assert [kernel["name"] for kernel in facts["kernels"] if kernel["used"]] == [facts["used"]]
    text = run("info", "--kernels", env=os.environ | {"ZIPFS_KERNEL": "scalar"}).stdout
    assert text.splitlines()[-1] == "scalar   in use, as ZIPFS_KERNEL demands"


def test_info_of_a_kernel_that_cannot_be_had():
    for demanded in ("mmx", "AVX2", *(name for name, built, lacks in _native.kernels() if lacks or not built)):
        done = run("info", "--kernels", env=os.environ | {"ZIPFS_KERNEL": demanded})
        assert (done.returncode, done.stdout) == (2, "")
        assert "ZIPFS_KERNEL demands a kernel that is unknown, not built or beyond this CPU" in done.stderr


def test_info_says_why_a_kernel_is_not_used():
    kernels = [("avx512", True, "avx512vbmi2"), ("avx2", True, None), ("neon", False, None), ("scalar", True, None)]
    kernels = [{"name": name, "built": built, "lacks": lacks, "used": name == "avx2"} for name, built, lacks in kernels]
    assert describe_kernels({"machine": "x86_64", "demanded": None, "kernels": kernels}).splitlines() == [
        "avx512   not for this CPU, which lacks avx512vbmi2",
        "avx2     in use",
        "neon     not built for x86_64",
        "scalar   runs here",
    ]


def test_info_takes_a_path_or_kernels(model, capsys):
    for arguments in ([], [str(model), "--kernels"]):
        assert main(["info", *arguments]) == 2
        assert capsys.readouterr().err == "zipfs: info takes either a PATH or --kernels\n"


def test_info_as_text(model, tmp_path, capsys):
    zipfs.compress(model, tmp_path / "dst")
    assert main(["info", str(tmp_path / "dst/m.safetensors.zipfs")]) == 0
    out = capsys.readouterr().out
    assert "BF16" in out and "1000x1000" in out and "1.9 MiB" in out
    assert main(["info", str(tmp_path / "dst")]) == 0
    assert "total of 3 files" in capsys.readouterr().out


def test_estimate_is_close_and_writes_nothing(model, tmp_path, capsys):
    assert main(["estimate", "--json", str(model)]) == 0
    estimated = json.loads(capsys.readouterr().out)
    assert sorted(os.listdir(model)) == ["config.json", "m.safetensors", "noise"]
    zipfs.compress(model, tmp_path / "dst")
    stored = sum(path.stat().st_size for path in (tmp_path / "dst").iterdir())
    assert estimated["total"]["stored_size"] == pytest.approx(stored, rel=0.01)
    assert main(["estimate", "--json", str(model / "noise")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts) == ["path", "plain_size", "stored_size", "ratio", "sample_size", "action"]
    assert facts["stored_size"] == facts["plain_size"] == 100_000


def test_help_tells_about_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and "zipfs compress models/ stored/" in text
    for command in COMMANDS:
        assert f"    {command} " in text or f"    {command}\n" in text
        with pytest.raises(SystemExit):
            main([command, "--help"])
        text_of_command = capsys.readouterr().out
        assert max(map(len, text_of_command.splitlines())) <= 80
        if "compress" in command:
            assert "Outputs that exist are an error" in text_of_command


def test_version_is_that_of_the_project(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert capsys.readouterr().out.startswith(f"zipfs {project['version']}, container version 1, kernel ")


def test_odd_names_in_messages_and_json(tmp_path):
    name = os.path.join(os.fsencode(tmp_path), b"a\xff\nb")
    with open(name, "wb") as file:
        file.write(b"text " * 1000)
    done = run("info", "--json", name)
    assert os.fsencode(json.loads(done.stdout)["path"]) == name
    failed = run("compress", name, name + b".zip")
    assert failed.returncode == 2 and len(failed.stderr.splitlines()) == 1 and "a\\udcff\\nb" in failed.stderr


def test_closed_pipe_is_no_traceback(model, tmp_path):
    command = f"{sys.executable} -m zipfs info --json {model} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


def test_interrupt_is_130_and_leaves_nothing(tmp_path):
    source = tmp_path / "sparse"
    with open(source, "wb") as file:
        file.truncate(1 << 40)
    command = [sys.executable, "-m", "zipfs", "compress", source, tmp_path / "x.zipfs"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not any(map(names.temporary_owner, os.listdir(tmp_path))):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert process.stderr.read() == "zipfs: interrupted\n"
    assert os.listdir(tmp_path) == ["sparse"]


@pytest.mark.parametrize("size", [(24, 80), (0, 0)])
def test_progress_only_on_a_terminal(model, tmp_path, size):
    assert run("compress", model, tmp_path / "a").stderr.count("\r") == 0
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    command = [sys.executable, "-m", "zipfs", "compress", model, tmp_path / "b"]
    with subprocess.Popen(command, stderr=slave, stdout=subprocess.PIPE) as process:
        os.close(slave)
        shown = b""
        while process.poll() is None or shown == b"":
            try:
                shown += os.read(master, 10_000)
            except OSError:
                break
        assert process.stdout.read() == b""
    os.close(master)
    assert b"\rcompress:" in shown and b"B/s" in shown and process.returncode == 0


def test_import_is_light():
    program = "import sys, zipfs, zipfs.cli; print(sorted(set(sys.modules) & {'numpy', 'mfusepy', 'fuse', 'tqdm'}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_public_names():
    for name in zipfs.__all__:
        assert getattr(zipfs, name) is not None
    importlib.import_module("zipfs.mount")
    assert callable(zipfs.mount), "the module zipfs.mount must not hide the function"
    errors = [getattr(zipfs, name) for name in zipfs.__all__ if name.endswith("Error")]
    assert all(issubclass(error, zipfs.ZipfsError) for error in errors)
    with pytest.raises(AttributeError):
        zipfs.nothing  # noqa: B018


def test_mount_commands_are_wired(monkeypatch):
    from zipfs.mount import mount_command, umount_command  # noqa: F401

    module = sys.modules["zipfs.mount"]
    calls = []
    monkeypatch.setattr(module, "mount_command", lambda *a, **k: calls.append((a, k)) or 0)
    monkeypatch.setattr(module, "umount_command", lambda *a: calls.append(a) or 0)
    arguments = ["mount", "s", "m", "-f", "--cache-size", "512M", "--jobs", "3", "-o", "a,b", "-o", "c"]
    assert main(arguments) == main(["umount", "m"]) == 0
    (positional, named), unmounted = calls
    assert positional == ("s", "m") and unmounted == ("m",)
    assert {name: value for name, value in named.items() if value is not None} == {
        "foreground": True,
        "cache_size": 512 << 20,
        "jobs": 3,
        "options": ["a,b", "c"],
        "verbose": False,
    }


def test_what_is_missing_comes_before_the_name_of_its_output(tmp_path, capsys):
    assert main(["compress", str(tmp_path / "missing"), str(tmp_path / "dst")]) == 1
    assert capsys.readouterr().err == f"zipfs: {tmp_path / 'missing'}: No such file or directory\n"


def test_verify_of_a_container_that_lost_its_suffix(model, tmp_path, capsys):
    zipfs.compress(model / "config.json", tmp_path / "x.zipfs")
    (tmp_path / "x.zipfs").rename(tmp_path / "x")
    assert main(["verify", str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err == f"zipfs: {tmp_path / 'x'}: is a container without the suffix .zipfs; rename it\n"
