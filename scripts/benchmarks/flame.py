"""A flame graph as SVG: frames as wide as the share of samples that they are in, callers below."""

import html
from pathlib import Path

MAX_STACKS = 2000
WIDTH, HEIGHT = 1200, 16
"""Of the picture and of a frame, in pixels."""
NARROWEST = 0.6
CHARACTER = 6.2
"""Pixels of a letter."""


def tree(stacks: list) -> dict:
    """{"count", "below": {frame: the same}} of [[count, [frame, ...]], ...], outermost frames first."""
    root: dict = {"count": 0, "below": {}}
    for count, frames in stacks:
        node = root
        node["count"] += count
        for frame in frames:
            node = node["below"].setdefault(frame, {"count": 0, "below": {}})
            node["count"] += count
    return root


def depth(node: dict) -> int:
    return 1 + max((depth(below) for below in node["below"].values()), default=0)


def colour(frame: str) -> str:
    """Warm, and the same for the same frame."""
    seed = sum(frame.encode())
    return f"rgb({205 + seed % 50},{100 + seed * 7 % 110},{seed * 13 % 60})"


def rectangles(frame: str, node: dict, left: float, level: int, scale: float, bottom: int) -> list[str]:
    width = node["count"] * scale
    if width < NARROWEST:
        return []
    top, text = bottom - (level + 1) * HEIGHT, frame[: max(0, int(width / CHARACTER) - 1)]
    title = f"{html.escape(frame)}: {node['count']} samples"
    found = [
        f'<g><title>{title}</title><rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{HEIGHT - 1}" '
        f'fill="{colour(frame)}"/><text x="{left + 2:.1f}" y="{top + 11}">{html.escape(text)}</text></g>'
    ]
    for name, below in sorted(node["below"].items()):
        found += rectangles(name, below, left, level + 1, scale, bottom)
        left += below["count"] * scale
    return found


def draw(stacks: list, path: Path, title: str) -> None:
    root = tree(stacks)
    bottom = (depth(root) + 1) * HEIGHT
    shapes = rectangles(title, root, 0, 0, WIDTH / max(1, root["count"]), bottom)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" font-family="monospace" '
        'font-size="10">'
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *shapes, "</svg>"]) + "\n")
