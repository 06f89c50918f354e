"""What zipfs set out to reach, and whether it did: each bar is a ratio taken within a run, or a size."""

from . import peers, rows, sizes, table, unaligned

OTHERS = ("f32", "f16", "f8_e4m3", "f8_e5m2", "f32_of_bf16")
DECOMPRESS = {"bf16": {"avx512": 6, "avx2": 3, "scalar": 0.6}}
DECOMPRESS |= {name: {"avx512": 4, "avx2": 2, "scalar": 0.5} for name in OTHERS}
COMPRESS = {"avx512": 4, "avx2": 2}
OVER_COPY, FRESH = 0.9, 4.5
MAX_OVER_ENTROPY, MAX_DECOMPRESS = 1.003, 1.5
FAST_OVER_COPY, FAST_PERCENT = 1.0, 71
NEAR_ZSTD_19 = 1.01
TWO_CORES, END_TO_END = 1.8, 1.5
OVER_ALIGNED = 0.5


def ratio_bar(name: str, kernel: str, figures: dict | None, wanted: float) -> list[dict]:
    """None in place of figures: there was nothing to compare with."""
    if figures is None:
        return []
    return [table.bar(name, figures["median"], ">=", wanted) | {"kernel": kernel, "figures": figures}]


def speed_bars(kernel: str, results: list[dict], is_best: bool) -> list[dict]:
    """Of one kernel; data sets and peers that were not measured have none."""
    found = []
    for result in results:
        name, codecs = result["data"], {row["codec"]: row for row in result["codecs"]}
        zipfs = codecs.get(peers.Zipfs.name, {})
        if kernel in DECOMPRESS.get(name, {}):
            wanted = DECOMPRESS[name][kernel]
            found += ratio_bar(f"{name}: decompress over ZipNN", kernel, zipfs.get("decompress_ratio"), wanted)
        if name in DECOMPRESS and kernel in COMPRESS:
            found += ratio_bar(f"{name}: compress over ZipNN", kernel, zipfs.get("compress_ratio"), COMPRESS[kernel])
        if name == "bf16" and is_best:
            found += bf16_bars(kernel, codecs)
    return found


def bf16_bars(kernel: str, codecs: dict[str, dict]) -> list[dict]:
    """The bars that BF16 has besides."""
    found = []
    for codec, against, name, wanted in (
        (peers.Zipfs, "decompress_over_copy", "bf16: decompress over memcpy", OVER_COPY),
        (peers.ZipfsHuge, "decompress_ratio", "bf16: decompress into fresh memory, had as zipfs has it, over ZipNN", FRESH),
        (peers.ZipfsFresh, "decompress_ratio", "bf16: the same, in pages of 4 KiB", FRESH),
        (peers.ZipfsMax, "decompress_ratio", "bf16: `max` decompress over ZipNN", MAX_DECOMPRESS),
        (peers.ZipfsFast, "decompress_over_copy", "bf16: `fast` decompress over memcpy", FAST_OVER_COPY),
    ):
        found += ratio_bar(name, kernel, codecs.get(codec.name, {}).get(against), wanted)
    if fast := codecs.get(peers.ZipfsFast.name):
        found.append(table.bar("bf16: size of `fast`, %", fast["size_percent"], "<=", FAST_PERCENT))
    return found


def size_bar(name: str, wanted: float, over: dict[str, float]) -> list[dict]:
    """The worst of some rows' ratios, and the rows that are above what is wanted."""
    if not over:
        return []
    missed = sorted((row for row in over if over[row] > wanted), key=over.get, reverse=True)
    share = f"{len(over) - len(missed)} of {len(over)} rows"
    note = share + "".join(f"; {row} {over[row]:.4f}" for row in missed)
    return [table.bar(name, max(over.values()), "<=", wanted) | {"note": note}]


def stored_over(results: list[dict], column: str, other: str, names: tuple[str, ...] | None = None) -> dict[str, float]:
    """Stored bytes over the other's, by row."""
    return {
        result["row"]: result["stored"][column] / result["stored"][other]
        for result in results
        if other in result["stored"] and (names is None or result["row"] in names)
    }


def size_bars(results: list[dict]) -> list[dict]:
    found = []
    for column, other in (
        (sizes.DEFAULT, peers.ZipNN.name),
        (sizes.GUESSED, peers.ZipNN.name),
        (sizes.DEFAULT, sizes.OPENZL),
        (sizes.DEFAULT, peers.Zstd.name),
    ):
        found += size_bar(f"size: {column} over {other}", 1.0, stored_over(results, column, other))
    near = stored_over(results, sizes.DEFAULT, peers.Zstd19.name, rows.NEAR_ZSTD_19)
    found += size_bar("size: zipfs over zstd -19, integers, few values, sparse", NEAR_ZSTD_19, near)
    over = {one["row"]: one["stored"][sizes.MAX] / one["joint_entropy"] for one in results if one["joint_entropy"]}
    return found + size_bar("size: zipfs max over the joint entropy of BF16 words", MAX_OVER_ENTROPY, over)


def scaling_bars(result: dict) -> list[dict]:
    return [
        bar
        for name, figures in result["codec"].items()
        for bar in ratio_bar(f"{name}: two cores over one", "", figures["ratio"], TWO_CORES)
    ]


def unaligned_bars(results: list[dict]) -> list[dict]:
    """The slowest row of each direction."""
    found = []
    for direction in unaligned.DIRECTIONS:
        over = {row["case"]: row[f"{direction}_ratio"]["median"] for row in results if row["base"]}
        slowest = min(over, key=over.get)
        num_met = sum(ratio >= OVER_ALIGNED for ratio in over.values())
        note = f"{num_met} of {len(over)} rows, slowest: {slowest}"
        name = f"{direction}: F64, complex and unaligned tensors over aligned ones"
        found.append(table.bar(name, over[slowest], ">=", OVER_ALIGNED) | {"note": note})
    return found


def file_bars(result: dict) -> list[dict]:
    to_memory = result["ways"][0]
    return ratio_bar(f"{to_memory['way']} over ZipNN's in memory", "", to_memory["ratio"], END_TO_END)


def all_bars(report: dict) -> list[dict]:
    """Of the parts that were measured."""
    found = []
    for number, (kernel, results) in enumerate(report.get("speed", {}).items()):
        found += speed_bars(kernel, results, number == 0)
    makers = {"sizes": size_bars, "unaligned": unaligned_bars, "cores": scaling_bars, "files": file_bars}
    for part, make in makers.items():
        if part in report:
            found += make(report[part])
    return found


def verdict(bar: dict) -> str:
    figures = bar.get("figures")
    measured = table.spread(figures) if figures else f"{bar['measured']:.4f}"
    return f"{measured}, wanted {bar['sense']} {bar['wanted']:g}: {'pass' if bar['met'] else '**falls short**'}"


def markdown(found: list[dict]) -> str:
    """A row for each bar, a column for each kernel that has it."""
    kernels = list(dict.fromkeys(bar["kernel"] for bar in found if bar.get("kernel")))
    by_name: dict[str, dict[str, dict]] = {}
    for bar in found:
        by_name.setdefault(bar["name"], {})[bar.get("kernel", "")] = bar
    lines = []
    for name, per_kernel in by_name.items():
        if "" in per_kernel:
            continue
        lines.append([name, *(verdict(per_kernel[one]) if one in per_kernel else "-" for one in kernels)])
    others = [[name, verdict(found[""]), found[""].get("note", "")] for name, found in by_name.items() if "" in found]
    tables = [table.markdown(["bar", *kernels], lines)] if lines else []
    if others:
        tables.append(table.markdown(["bar", "measured", "rows that meet it; those that do not"], others))
    return "\n\n".join(tables)
