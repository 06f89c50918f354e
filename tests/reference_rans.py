"""The second decoder: section 5 of docs/format.md, from an RANS plane to its values. See reference.py."""

import struct

import numpy as np
from reference_common import ceil_div, require, require_zero


def decode_rans(data: bytes, n: int, bits: int) -> np.ndarray:
    require(len(data) >= 16, "BAD_PLANE", "an RANS plane without a header")
    k, has_escape, lanes, num_near, coded_size, num_nibbles, num_far = struct.unpack_from("<BBBBIII", data)
    require(2 <= k <= 64, "BAD_RANS", f"{k} symbols")
    require(has_escape <= 1, "BAD_RANS", f"has_escape {has_escape}")
    require(lanes in (1, 2, 4), "BAD_RANS", f"{lanes} * 64 lanes")
    require(num_near <= (60 if has_escape else 0), "BAD_RANS", f"{num_near} near values")
    require(num_nibbles <= (5 * n if num_near else 0), "BAD_RANS", f"{num_nibbles} nibbles")
    most_far = num_nibbles if num_near else n if has_escape else 0
    require(num_far <= most_far, "BAD_RANS", f"{num_far} far values, {most_far} at most")
    v = 1 if bits <= 8 else 2
    sizes = [k, v * k, v * num_near, 2 * 64 * lanes, coded_size, ceil_div(num_nibbles, 2), v * num_far]
    require(len(data) == 16 + sum(sizes), "BAD_PLANE", "sizes do not fill the plane")
    ends = [16 + sum(sizes[: i + 1]) for i in range(len(sizes))]
    parts = [data[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    freq = np.frombuffer(parts[0], np.uint8).astype(np.uint32)
    require(bool(np.all(freq >= 1)) and int(freq.sum()) == 256, "BAD_RANS", "frequencies do not make 256")
    value, near, far = (np.frombuffer(parts[i], f"<u{v}") for i in (1, 2, 6))
    for values in (value, near, far):
        require(not np.any(values >> bits), "BAD_RANS", f"a value wider than {bits} bits")
    require(not has_escape or value[-1] == 0, "BAD_RANS", "the escape has a value")
    states = np.frombuffer(parts[3], "<u2").astype(np.uint32)
    require(bool(np.all(states >= 256)), "BAD_RANS", "a state under 256")
    coded = np.frombuffer(parts[4], np.uint8).astype(np.uint32)
    escaped = escaped_values(parts[5], num_nibbles, near, far) if num_near else far
    require(len(escaped) <= n, "BAD_RANS", f"{len(escaped)} escapes of {n} values")
    symbols = rans_symbols(freq, states, coded, ceil_div(n, 64 * lanes)).reshape(-1)[:n]
    plain = value[symbols]
    if has_escape:
        where = symbols == k - 1
        require(int(where.sum()) == len(escaped), "BAD_RANS", f"{int(where.sum())} escapes, not {len(escaped)}")
        plain[where] = escaped
    return plain


def escaped_values(packed: bytes, num_nibbles: int, near: np.ndarray, far: np.ndarray) -> np.ndarray:
    """What each escape stands for, in order."""
    nibbles = [nibble for byte in packed for nibble in (byte & 15, byte >> 4)]
    require_zero(bytes(nibbles[num_nibbles:]), "nibbles")
    numbers = numbers_of(nibbles[:num_nibbles])
    require(all(number <= len(near) for number in numbers), "BAD_RANS", f"a number above {len(near)}")
    num_far = numbers.count(len(near))
    require(num_far == len(far), "BAD_RANS", f"{len(far)} far values for {num_far}")
    next_far = iter(far)
    return np.array([near[q] if q < len(near) else next(next_far) for q in numbers], far.dtype)


def numbers_of(nibbles: list[int]) -> list[int]:
    numbers, number = [], 0
    for nibble in nibbles:
        number += nibble
        if nibble < 15:
            numbers.append(number)
            number = 0
    require(number == 0, "BAD_RANS", "nibbles end within a number")
    return numbers


def rans_symbols(freq: np.ndarray, x: np.ndarray, coded: np.ndarray, num_groups: int) -> np.ndarray:
    """The steps of section 5, all lanes of a group at once: a group's lanes take their bytes in ascending order.
    Shape (num_groups, num_lanes).
    """
    start = np.cumsum(freq) - freq
    of_slot = np.repeat(np.arange(len(freq)), freq)
    freq_of_slot, offset_of_slot = freq[of_slot], np.arange(256, dtype=np.uint32) - start[of_slot]
    slots = np.empty((num_groups, len(x)), np.uint8)
    used = 0
    for group in range(num_groups):
        slot = slots[group] = x & 255
        x = freq_of_slot[slot] * (x >> 8) + offset_of_slot[slot]
        needy = np.flatnonzero(x < 256)
        require(used + len(needy) <= len(coded), "BAD_RANS", "out of coded bytes")
        x[needy] = x[needy] << 8 | coded[used : used + len(needy)]
        used += len(needy)
    require(used == len(coded), "BAD_RANS", f"{len(coded) - used} coded bytes left")
    require(bool(np.all(x == 256)), "BAD_RANS", "a state that does not end at 256")
    return of_slot[slots]
