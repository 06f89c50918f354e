"""The second decoder: section 1 of docs/format.md, what all parts of it need. See reference.py."""

from typing import NoReturn

import xxhash

# ---- 1. conventions ----------------------------------------------------------------------------------------------


class Rejected(Exception):
    """A container breaks a rule. `status` is the name in docs/format.md; args are (status, message)."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(status, message)
        self.status = status


def reject(status: str, message: str) -> NoReturn:
    raise Rejected(status, message)


def require(condition: bool, status: str, message: str) -> None:
    if not condition:
        reject(status, message)


def require_zero(reserved: bytes, where: str) -> None:
    require(not any(reserved), "RESERVED_NOT_ZERO", f"reserved bytes of the {where} are not 0")


def xxh3(data: bytes, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(data, seed)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)
