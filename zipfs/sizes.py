"""Sizes as people write them."""

import re

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """Bytes of a size such as 512M or 2G; ValueError for any other text."""
    match = re.fullmatch(r"(\d+)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE | re.ASCII)
    if not match:
        raise ValueError(f"{text!r} is no size such as 512M or 2G")
    return int(match[1]) * _UNITS[match[2].upper()]
