"""The page of `zipfs report`: its figures, that names cannot break out, and that a browser shows it as it should."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from models import safetensors_bytes, weights

import zipfs
from zipfs.cli import main
from zipfs.info import info
from zipfs.page import html
from zipfs.page.kinds import KINDS, kind_of
from zipfs.page.sums import Sums

HOSTILE = '"><script>alert(1)</script><img src=http://x.invalid/ onerror=alert(2)>&amp;\u202e\n'
TAGS = {"html", "head", "meta", "link", "title", "style", "body", "main", "header", "section", "footer"} | {
    "h1", "h2", "p", "dl", "div", "dt", "dd", "small", "ul", "li", "i", "span", "b", "wbr",
}  # fmt: skip
WIDTHS = (390, 1280)
PROBE = """
addEventListener("load", () => setTimeout(() => {
  const sizes = [...document.querySelectorAll(".name, .sizes")].map(e => parseFloat(getComputedStyle(e).fontSize));
  console.log(`probed ${innerWidth} ${document.documentElement.scrollWidth} ${Math.min(...sizes)}`);
}, 100));
"""

OF_KIND = {
    "attention": [
        "model.layers.0.self_attn.q_proj.weight", "encoder.layer.0.attention.output.dense.weight",
        "blk.3.attn_output.weight", "h.0.attn.c_attn.weight", "layers.1.wq.weight", "unet.mid.to_out.0.weight",
        "transformer.h.1.attention.query_key_value.weight", "decoder.block.0.layer.0.SelfAttention.k.weight",
    ],
    "mlp": [
        "model.layers.0.mlp.down_proj.weight", "encoder.layer.0.intermediate.dense.weight", "h.0.mlp.c_fc.bias",
        "encoder.layer.0.output.dense.weight", "blk.3.ffn_up.weight", "layers.1.feed_forward.w2.weight",
        "model.layers.9.block_sparse_moe.experts.3.w1.weight", "text_model.encoder.layers.0.fc1.weight",
    ],
    "embedding": [
        "model.embed_tokens.weight", "token_embd.weight", "wte.weight", "lm_head.weight", "output.weight",
        "embeddings.position_embeddings.weight", "shared.weight", "tok_embeddings.weight",
    ],
    "norm": [
        "model.norm.weight", "embeddings.LayerNorm.weight", "ln_f.bias", "h.0.ln_1.weight", "blk.0.attn_norm.weight",
        "model.layers.0.input_layernorm.weight", "self_attn.q_norm.weight", "layer1.0.bn1.weight",
    ],
    "other": ["conv1.weight", "pooler.dense.weight", "scale", "", "time.step", "classifier.weight"],
}  # fmt: skip


@pytest.fixture
def stored(rng, tmp_path):
    """A folder with containers, a copy, and hostile names everywhere."""
    src = tmp_path / "src"
    tensors = {
        "model.embed_tokens.weight": ("BF16", [400, 1000], weights(rng, "BF16", 400_000)),
        "layers.0.mlp.up_proj.weight": ("F32", [300, 1000], weights(rng, "F32", 300_000)),
        HOSTILE: ("F16", [999], weights(rng, "F16", 999)),
        "x" * 300: ("I64", [99], weights(rng, "I64", 99)),
    }
    (src / "sub").mkdir(parents=True)
    (src / "m.safetensors").write_bytes(safetensors_bytes(tensors))
    (src / HOSTILE.replace("/", "")).write_bytes(b"text " * 2000)
    (src / "sub/noise").write_bytes(rng.bytes(50_000))
    zipfs.compress(src, tmp_path / "stored")
    return tmp_path / "stored"


class Page(HTMLParser):
    def __init__(self, page: str):
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes.update(attributes)

    def handle_data(self, data):
        self.text += data


def page_of(stored: Path, tmp_path: Path) -> str:
    assert main(["report", str(stored), "-o", str(tmp_path / "report.html")]) == 0
    return (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_by_name(kind):
    assert {name: kind_of(name) for name in OF_KIND[kind]} == dict.fromkeys(OF_KIND[kind], kind)


def test_sums_add_up(stored):
    facts, _ = info(str(stored))
    sums = Sums(str(stored), facts["files"])
    for bars in (sums.by_dtype, sums.by_kind, sums.by_folder, sums.by_file):
        assert sum(bar.plain_size for bar in bars) == facts["total"]["plain_size"]
        assert sum(bar.stored_size for bar in bars) == facts["total"]["stored_size"]
        assert all(sum(size for _, size in bar.parts) == bar.stored_size for bar in bars)
        assert [bar.saved for bar in bars] == sorted((bar.saved for bar in bars), reverse=True)
    kinds = {bar.name: bar.plain_size for bar in sums.by_kind}
    assert (kinds["embedding"], kinds["mlp"], kinds["as it is"]) == (800_000, 1_200_000, 50_000)
    assert len(sums.tensors) == 4 and [bar.name for bar in sums.by_folder] == [".", "sub"]


def test_names_cannot_break_out(stored, tmp_path):
    page = Page(page_of(stored, tmp_path))
    assert page.tags == TAGS, "tags of ours alone"
    assert '"><script>alert(1)</script><img src=http://x.invalid/' in page.text.replace("\n", "")
    assert "\\u202e\\n" in page.text and "\u202e" not in page.text
    names = {name for name, _ in page.attributes}
    assert names == {"lang", "charset", "http-equiv", "content", "name", "rel", "href", "class", "style"}


def test_page_loads_nothing(stored, tmp_path):
    page = page_of(stored, tmp_path)
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style
    assert {value for name, value in Page(page).attributes if name == "href"} == {"data:,"}


def test_many_files_are_one_bar_at_the_end(tmp_path):
    for number in range(html.MAX_BARS + 20):
        (tmp_path / "many").mkdir(exist_ok=True)
        (tmp_path / f"many/{number}").write_bytes(b"x" * (number + 1))
    text = Page(page_of(tmp_path / "many", tmp_path)).text
    assert "20 other files" in text and "60 files" in text


def test_single_container_and_empty_folder(stored, tmp_path):
    (tmp_path / "empty").mkdir()
    for number, path in enumerate((stored / "m.safetensors.zipfs", stored / "sub/noise", tmp_path / "empty")):
        assert main(["report", str(path), "-o", str(tmp_path / f"{number}.html")]) == 0
        assert path.name in Page((tmp_path / f"{number}.html").read_text("utf-8")).text


def test_output_that_exists_stays(stored, tmp_path, capsys):
    (tmp_path / "report.html").write_text("mine")
    arguments = ["report", str(stored), "-o", str(tmp_path / "report.html")]
    assert main(arguments) == 1
    assert "report.html: exists already" in capsys.readouterr().err
    assert (tmp_path / "report.html").read_text() == "mine"
    assert main([*arguments, "--force"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "src", "stored"]


def test_damage_is_told_on_the_page_as_well(stored, tmp_path, capsys):
    path = stored / "m.safetensors.zipfs"
    path.write_bytes(path.read_bytes()[:5000])
    assert main(["report", str(stored), "-o", str(tmp_path / "report.html")]) == 1
    assert "m.safetensors.zipfs: damaged" in capsys.readouterr().err
    assert "1 file could not be read" in Page((tmp_path / "report.html").read_text("utf-8")).text


def browse(tmp_path: Path, page: Path, width: int, *options: str) -> subprocess.CompletedProcess:
    browser = shutil.which("chromium") or pytest.skip("Debian's chromium is not installed")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'browser'}",
    ]
    command += ["--enable-logging=stderr", f"--window-size={width},2000", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("width", WIDTHS)
def test_browser_shows_it_without_complaint(stored, tmp_path, width):
    page_of(stored, tmp_path)
    shot = tmp_path / "shot.png"
    done = browse(tmp_path, tmp_path / "report.html", width, f"--screenshot={shot}")
    assert done.returncode == 0 and shot.stat().st_size > 10_000
    assert "CONSOLE" not in done.stderr, "no errors, no refused loads"


@pytest.mark.parametrize("width", WIDTHS)
def test_page_is_as_wide_as_the_screen(stored, tmp_path, width):
    """Nothing sticks out at the side, and letters are large enough to read; told by a copy that may run a script."""
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page_of(stored, tmp_path))
    (tmp_path / "probe.html").write_text(page.replace("</body>", f"<script>{PROBE}</script></body>"), "utf-8")
    told = browse(tmp_path, tmp_path / "probe.html", width, f"--screenshot={tmp_path / 'x.png'}").stderr
    inner, scroll, smallest = map(float, re.search(r"probed ([\d.]+) ([\d.]+) ([\d.]+)", told).groups())
    assert (inner, scroll) == (width, width) and smallest >= 13


def test_browser_complains_where_there_is_reason(stored, tmp_path):
    """The test above would see a script that the policy stops."""
    page = page_of(stored, tmp_path).replace("</body>", "<script>alert(1)</script></body>")
    (tmp_path / "bad.html").write_text(page, "utf-8")
    assert "CONSOLE" in browse(tmp_path, tmp_path / "bad.html", 390, f"--screenshot={tmp_path / 'x.png'}").stderr
