"""The controls of compress: which files, level, dtype and saving; what it would do; the report."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios

import numpy as np
import pytest
from models import safetensors_bytes, weights

import zipfs
from zipfs import _native
from zipfs.cli import main
from zipfs.info import file_info
from zipfs.selection import LEVELS


@pytest.fixture
def model(rng, tmp_path):
    """Two tensor files, a raw one, text and noise."""
    src = tmp_path / "src"
    (src / "sub").mkdir(parents=True)
    tensors = {"w": ("BF16", [600, 1000], weights(rng, "BF16", 600_000)), "b": ("F32", [999], weights(rng, "F32", 999))}
    (src / "m.safetensors").write_bytes(safetensors_bytes(tensors))
    (src / "sub/m.safetensors").write_bytes(safetensors_bytes({"v": tensors["w"]}))
    (src / "kv.raw").write_bytes(weights(rng, "F16", 200_000) + b"?")
    (src / "config.json").write_bytes(b'{"a": 1}' * 1000)
    (src / "noise").write_bytes(rng.bytes(100_000))
    return src


def stored(folder) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(parent, name), folder) for parent, _, files in os.walk(folder) for name in files
    )


def level_of(path) -> int:
    with open(path, "rb") as file, _native.Reader(file.fileno()) as reader:
        return reader.header["level"]


def test_what_is_not_selected_is_copied(model, tmp_path):
    summary = zipfs.compress(model, tmp_path / "dst", include=["*.safetensors", "*.raw"], exclude=["sub"])
    assert stored(tmp_path / "dst") == [
        "config.json", "kv.raw.zipfs", "m.safetensors.zipfs", "noise", "sub/m.safetensors",
    ]  # fmt: skip
    assert summary.num_files == 5
    zipfs.decompress(tmp_path / "dst", tmp_path / "back")
    for name in stored(model):
        assert (tmp_path / "back" / name).read_bytes() == (model / name).read_bytes()


def test_files_that_need_their_wrapping_keep_it(model, tmp_path):
    """A copy of a container would be shown as the file in it."""
    zipfs.compress(model / "config.json", model / "old.zipfs")
    zipfs.compress(model, tmp_path / "dst", exclude=["**"])
    assert "old.zipfs.zipfs" in stored(tmp_path / "dst")
    zipfs.decompress(tmp_path / "dst", tmp_path / "back")
    assert stored(tmp_path / "back") == stored(model)


def test_one_file_is_matched_by_its_name(model, tmp_path):
    (tmp_path / "dst").mkdir()
    zipfs.compress(model / "m.safetensors", tmp_path / "dst", exclude=["m.*"])
    assert stored(tmp_path / "dst") == ["m.safetensors"]
    with pytest.raises(zipfs.UsageError, match="is not selected"):
        zipfs.compress(model / "m.safetensors", tmp_path / "x.zipfs", include=["*.bin"])
    with pytest.raises(zipfs.ZipfsError, match="is not selected; left as it is"):
        zipfs.compress(model / "m.safetensors", model, exclude=["m.*"])
    assert not (tmp_path / "x.zipfs").exists()


def test_levels(model, tmp_path):
    arguments = ["--level", "*.json=max", "--level", "fast", "--level", "sub/*=max", "--level", "*.json=default"]
    assert main(["compress", str(model), str(tmp_path / "dst"), *arguments]) == 0
    levels = {name: level_of(tmp_path / "dst" / name) for name in stored(tmp_path / "dst") if name.endswith(".zipfs")}
    assert levels == {
        "config.json.zipfs": LEVELS["default"],
        "kv.raw.zipfs": LEVELS["fast"],
        "m.safetensors.zipfs": LEVELS["fast"],
        "sub/m.safetensors.zipfs": LEVELS["max"],
    }


def test_dtypes_of_raw_files(model, tmp_path):
    arguments = ["--dtype", "**=F16", "--exclude", "config.json"]
    assert main(["compress", str(model), str(tmp_path / "dst"), *arguments]) == 0
    (segment,) = file_info(str(tmp_path / "dst/kv.raw.zipfs"))["segments"]
    assert (segment["dtype"], segment["shape"], segment["plain_size"]) == ("F16", [200_000], 400_000)
    found = {segment["dtype"] for segment in file_info(str(tmp_path / "dst/m.safetensors.zipfs"))["segments"]}
    assert found == {"BF16", "F32"}, "what a file tells itself holds"
    zipfs.decompress(tmp_path / "dst", tmp_path / "back")
    assert (tmp_path / "back/kv.raw").read_bytes() == (model / "kv.raw").read_bytes()


def test_smallest_saving(model, tmp_path):
    plain, packed = (model / "kv.raw").stat().st_size, tmp_path / "kv.zipfs"
    zipfs.compress(model / "kv.raw", packed)
    saving = 100 * (1 - packed.stat().st_size / plain)
    for share, is_worth_it in ((saving - 0.1, True), (saving + 0.1, False)):
        zipfs.compress(model, tmp_path / f"{is_worth_it}", min_saving=share)
        assert (f"kv.raw{'.zipfs' if is_worth_it else ''}") in stored(tmp_path / f"{is_worth_it}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--level", "*=best"],
        ["--level", "=best"],
        ["--dtype", "BF16"],
        ["--dtype", "*=bfloat"],
        ["--min-saving", "120"],
        ["--min-saving", "some"],
        ["--include", ""],
    ],
)
def test_wrong_usage_is_2(model, tmp_path, arguments):
    try:
        assert main(["compress", str(model), str(tmp_path / "dst"), *arguments]) == 2
    except SystemExit as ended:
        assert ended.code == 2
    assert not (tmp_path / "dst").exists()


def test_dry_run_tells_what_will_be_done(model, tmp_path, capsys):
    arguments = [str(model), str(tmp_path / "dst"), "--include", "*.safetensors", "--include", "noise", "--json"]
    assert main(["compress", "--dry-run", *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert os.listdir(tmp_path) == ["src"], "nothing is written"
    assert {os.path.relpath(file["path"], model): file["action"] for file in told["files"]} == {
        "config.json": "copy",
        "kv.raw": "copy",
        "m.safetensors": "compress",
        "noise": "copy",
        "sub/m.safetensors": "compress",
    }
    assert main(["compress", *arguments]) == 0
    done = json.loads(capsys.readouterr().out)
    assert told["total"]["num_files"] == done["num_files"] == 5
    assert told["total"]["plain_size"] == done["plain_size"]
    assert told["total"]["stored_size"] == pytest.approx(done["stored_size"], rel=0.01)
    assert [row["dtype"] for row in told["dtypes"]] == [row["dtype"] for row in done["dtypes"]]
    summary = zipfs.compress(model, tmp_path / "other", include=["*.safetensors", "noise"], dry_run=True)
    assert (summary.num_files, summary.stored_size) == (5, told["total"]["stored_size"])
    assert not (tmp_path / "other").exists()


def test_dry_run_tells_what_will_fail(model, tmp_path, capsys):
    (tmp_path / "dst").mkdir()
    (tmp_path / "dst/noise").write_bytes(b"")
    (tmp_path / "dst/m.safetensors.zipfs").write_bytes(b"")
    arguments = ["compress", "-n", str(model), str(tmp_path / "dst")]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out.count("\ncompress ") == 3 and err.count("exists already; --force replaces it") == 2
    assert main([*arguments, "--force"]) == 0
    assert main(["compress", "-n", str(model), str(model / "inside")]) == 2
    assert main(["compress", "-n", str(model / "noise"), str(tmp_path / "noise")]) == 2
    capsys.readouterr()
    assert main(["compress", "-n", str(model / "noise"), str(tmp_path / "dst/m.safetensors.zipfs")]) == 1
    assert "exists already" in capsys.readouterr().err


def test_report_by_dtype(model, tmp_path, capsys):
    assert main(["compress", str(model), str(tmp_path / "dst"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts) == ["num_files", "plain_size", "stored_size", "ratio", "dtypes", "notes"]
    rows = {row["dtype"]: row for row in facts["dtypes"]}
    assert list(rows)[0] == "BF16", "what saves most comes first"
    assert {dtype: (row["num_files"], row["plain_size"]) for dtype, row in rows.items()} == {
        "BF16": (2, 2_400_000),
        "F32": (1, 3996),
        "other": (4, facts["plain_size"] - 2_400_000 - 3996 - 100_000),
        "as it is": (1, 100_000),
    }
    for key in ("plain_size", "stored_size"):
        assert sum(row[key] for row in rows.values()) == facts[key]
    assert all(row["saved"] == row["plain_size"] - row["stored_size"] for row in rows.values())
    assert facts["stored_size"] == sum((tmp_path / "dst" / name).stat().st_size for name in stored(tmp_path / "dst"))


def test_report_in_place_counts_each_file(model, capsys):
    assert main(["compress", "--in-place", "--json", str(model)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"dtype": "as it is", "num_files": 1} == {key: facts["dtypes"][-1][key] for key in ("dtype", "num_files")}
    for key in ("plain_size", "stored_size"):
        assert sum(row[key] for row in facts["dtypes"]) == facts[key]


def test_report_as_text_also_after_failures(model, tmp_path, capsys):
    (tmp_path / "dst").mkdir()
    (tmp_path / "dst/config.json").write_bytes(b"")
    assert main(["compress", str(model), str(tmp_path / "dst")]) == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and lines[0].split() == ["dtype", "files", "plain", "stored", "saved"]
    assert lines[1].split()[:2] == ["BF16", "2"] and "4 files, plain" in err
    assert lines[-1].endswith("config.json: exists already; --force replaces it")


def test_progress_tells_the_ratio_so_far(tmp_path, rng):
    plain = tmp_path / "x"
    plain.write_bytes(rng.normal(0, 0.02, 1 << 24).astype(np.float16).tobytes())
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    command = [sys.executable, "-m", "zipfs", "compress", plain, tmp_path / "x.zipfs"]
    with subprocess.Popen(command, stderr=slave, env=os.environ | {"TQDM_MININTERVAL": "0"}) as process:
        os.close(slave)
        shown = b""
        try:
            while data := os.read(master, 10_000):
                shown += data
        except OSError:
            pass
    os.close(master)
    assert process.returncode == 0
    last = [part for part in shown.split(b"\r") if b"B/s, stored " in part][-1]
    assert b"<" in last, "time left"
    ratio = float(last.partition(b"stored ")[2].partition(b"%")[0])
    whole = 100 * (tmp_path / "x.zipfs").stat().st_size / plain.stat().st_size
    assert ratio == pytest.approx(whole, abs=1)
