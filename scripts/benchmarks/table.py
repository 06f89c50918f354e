"""Medians with their spread, entropies, bars, and Markdown tables."""

import statistics
from collections.abc import Iterable, Sequence

import numpy as np


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and range of some measurements."""
    ordered = sorted(values)
    quartiles = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
    return {
        "median": statistics.median(ordered),
        "q1": quartiles[0],
        "q3": quartiles[2],
        "min": ordered[0],
        "max": ordered[-1],
        "runs": len(ordered),
    }


def spread(figures: dict[str, float]) -> str:
    """`2.31 (2.20-2.40)`: median and quartiles."""
    return f"{figures['median']:.2f} ({figures['q1']:.2f}-{figures['q3']:.2f})"


def entropy(values: np.ndarray, bits: int) -> float:
    """Order-0 entropy of all values together, in bytes."""
    counts = np.bincount(values.ravel(), minlength=1 << bits)
    counts = counts[counts > 0]
    return float((counts * np.log2(counts.sum() / counts)).sum()) / 8


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def verdict(bar: dict) -> str:
    """One line for a bar: {name, wanted, sense (">=" or "<="), measured}."""
    word = "met" if bar["met"] else "FALLS SHORT"
    return f"- {word}: {bar['name']}: {bar['measured']:.2f} (wanted {bar['sense']} {bar['wanted']:.2f})"


def bar(name: str, measured: float, sense: str, wanted: float) -> dict:
    """A bar and whether it was met."""
    met = measured >= wanted if sense == ">=" else measured <= wanted
    return {"name": name, "measured": measured, "sense": sense, "wanted": wanted, "met": met}
