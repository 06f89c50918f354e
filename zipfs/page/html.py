"""The HTML of the page. Every name goes through _text(); nothing else of what a file holds gets into the page."""

import html
import importlib.resources
import time
from collections.abc import Iterator

import zipfs
from zipfs.names import show
from zipfs.page.sums import Bar, Sums
from zipfs.report import size_text
from zipfs.tally import COPIED, OTHER

MAX_BARS = 40
"""Of files, folders and tensors, those that save most; the rest is one bar."""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The page loads nothing and runs nothing, even if a name got past the escaping."""

_FAMILIES = (
    ("BF16", "bf16"),
    ("F16", "f16"),
    ("F32", "f32"),
    ("F64", "f64"),
    ("F8", "f8"),
    ("F4", "f8"),
    ("F6", "f8"),
    ("C", "f64"),
    ("I", "int"),
    ("U", "int"),
    ("BOOL", "int"),
)


def render(path: str, sums: Sums, failures: list[Exception]) -> str:
    """The whole page."""
    style = importlib.resources.files("zipfs.page").joinpath("page.css").read_text("utf-8")
    body = "\n".join([*_head(path, sums), *_failures(failures), *_charts(sums), *_tensors(sums)])
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>zipfs report: {html.escape(show(path))}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
<footer>zipfs {zipfs.__version__}, {time.strftime("%Y-%m-%d %H:%M")}. Sizes in powers of 1024.</footer>
</main>
</body>
</html>
"""


def _head(path: str, sums: Sums) -> Iterator[str]:
    total = sums.total
    yield f"<header><h1>{_text(path)}</h1>"
    yield '<dl class="figures">'
    for name, value, remark in (
        ("plain", size_text(total.plain_size), _count(sums.num_files, "file")),
        ("stored", size_text(total.stored_size), _percent(total.stored_size, total.plain_size)),
        ("saved", _size(total.saved), _percent(total.saved, total.plain_size)),
    ):
        yield f'<div class="{name}"><dt>{name}</dt><dd>{value}<small>{remark}</small></dd></div>'
    yield "</dl></header>"


def _failures(failures: list[Exception]) -> Iterator[str]:
    if failures:
        yield f"<section><h2>{_count(len(failures), 'file')} could not be read</h2><ul>"
        for error in failures[:MAX_BARS]:
            yield f"<li>{_text(str(error))}</li>"
        yield "</ul></section>"


def _charts(sums: Sums) -> Iterator[str]:
    yield _legend(sums)
    yield from _chart("By dtype", "What the elements of tensors are.", sums.by_dtype)
    yield from _chart("By kind of tensor", "As their names tell; output heads count as embeddings.", sums.by_kind)
    if len(sums.by_folder) > 1:
        yield from _chart("By folder", "Files that lie right in it.", _longest(sums.by_folder, "folders"))
    yield from _chart("By file", "As it is called in the folder.", _longest(sums.by_file, "files"))


def _tensors(sums: Sums) -> Iterator[str]:
    if sums.tensors:
        yield from _chart("By tensor", "Those that save most.", _longest(sums.tensors, "tensors"))


def _legend(sums: Sums) -> str:
    families: dict[str, list[str]] = {}
    for bar in sums.by_dtype:
        families.setdefault(_family(bar.name), []).append(_text(bar.name))
    items = "".join(f'<li><i class="{family}"></i>{", ".join(found)}</li>' for family, found in families.items())
    return f'<ul class="legend"><li><i class="rest"></i>saved</li>{items}</ul>'


def _chart(title: str, remark: str, bars: list[Bar]) -> Iterator[str]:
    longest = max((bar.plain_size for bar in bars), default=0)
    yield f'<section><h2>{title}</h2><p>{remark}</p><ul class="chart">'
    for bar in bars:
        yield _bar(bar, longest)
    yield "</ul></section>"


def _bar(bar: Bar, longest: int) -> str:
    """One line: name, a bar as long as the plain bytes with the stored ones filled in, and figures."""
    length = max(bar.plain_size, bar.stored_size, 1)
    parts = "".join(
        f'<i class="{_family(dtype)}" style="width:{100 * stored / length:.3f}%"></i>'
        for dtype, stored in bar.parts
        if stored > 0
    )
    sizes = f"{size_text(bar.plain_size)} → {size_text(max(bar.stored_size, 0))}"
    saved = f"<b>{_percent(bar.saved, bar.plain_size)}</b> saved" if bar.plain_size else "overhead"
    return (
        f'<li><span class="name">{_text(bar.name)}</span>'
        f'<span class="track"><span class="bar" style="width:{100 * bar.plain_size / max(longest, 1):.3f}%">'
        f'{parts}</span></span><span class="sizes">{sizes}, {saved}</span></li>'
    )


def _longest(bars: list[Bar], what: str) -> list[Bar]:
    """The first bars, and one for all others."""
    if len(bars) <= MAX_BARS + 1:
        return bars
    rest = bars[MAX_BARS:]
    stored: dict[str, int] = {}
    for bar in rest:
        for dtype, size in bar.parts:
            stored[dtype] = stored.get(dtype, 0) + size
    plain = sum(bar.plain_size for bar in rest)
    return [*bars[:MAX_BARS], Bar(f"{len(rest)} other {what}", plain, sum(stored.values()), tuple(stored.items()))]


def _family(dtype: str) -> str:
    """The class of CSS that colours a dtype."""
    if dtype in (OTHER, COPIED):
        return "none"
    return next((family for beginning, family in _FAMILIES if dtype.startswith(beginning)), "packed")


def _text(text: str) -> str:
    """`text` as text; long names may be cut behind dots and slashes."""
    return html.escape(show(text)).replace(".", ".<wbr>").replace("/", "/<wbr>")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "0 %"


def _size(size: int) -> str:
    return size_text(size) if size >= 0 else f"-{size_text(-size)}"
