"""Bars of the mount's benchmarks: what was wanted, what was measured, and the word for it."""

from collections.abc import Iterable, Sequence

from . import table


def ratios(speeds: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """Summary of the paired ratios."""
    return table.summary([speed / other for speed, other in zip(speeds, others, strict=True)])


def ratio_bar(name: str, figures: dict[str, float], sense: str, wanted: float, note: str = "") -> dict:
    """Judged by the median; the quartiles stand beside it."""
    return table.bar(name, figures["median"], sense, wanted) | {"figures": figures, "note": note}


def bar(name: str, measured: float, sense: str, wanted: float, note: str = "") -> dict:
    return table.bar(name, measured, sense, wanted) | {"note": note}


def number(value: float) -> str:
    """Three digits or more, without an exponent."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def measured(one: dict) -> str:
    figures = one.get("figures")
    if not figures:
        return number(one["measured"])
    return f"{number(figures['median'])} ({number(figures['q1'])}-{number(figures['q3'])})"


def markdown(bars: Iterable[dict]) -> str:
    rows = [
        [
            one["name"],
            measured(one),
            f"{one['sense']} {number(one['wanted'])}",
            "pass" if one["met"] else "**falls short**",
            one.get("note", ""),
        ]
        for one in bars
    ]
    return table.markdown(["what must hold", "measured (quartiles)", "bar", "verdict", "note"], rows)
