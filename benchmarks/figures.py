"""The arithmetic of the benchmarks, and the tables.

Nothing here measures. `run` makes rows with it, `plot` and the documents read
them; result.md says what a row is.
"""

QUANTILES = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1)


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def neighbours(raws):
    """Of raw runs r0 A r1 B r2 ...: what A, B, ... are compared with."""
    return [(before + after) / 2 for before, after in zip(raws, raws[1:])]


def ratios(samples, raws):
    return [sample / raw for sample, raw in zip(samples, raws)]


def verdict(value, target, better):
    """What the table says of a value; to two digits more than the target has.

    A ratio of 1.0204 is not within 1.02: there is no tolerance.
    """
    if target is None:
        return None
    if better == "less":
        return "pass" if value <= target else "short"
    return "pass" if value >= target else "short"


def quantiles(values, points=QUANTILES):
    """{"0.5": the median, ...}: for each point the value at that rank."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return {"{:g}".format(point): ordered[round(point * last)] for point in points}


def merge_quantiles(of_rounds):
    """For each point the median over the rounds."""
    return {point: median([one[point] for one in of_rounds]) for point in of_rounds[0]}


def rate(ops, nanoseconds):
    return ops * 1e9 / nanoseconds


def row(samples, raws, better, target=None, **members):
    """A row of result.md. `raws` has one number for each sample; it may be empty."""
    result = dict(members)
    result["better"] = better
    result["samples"] = samples
    result["value"] = median(samples)
    judged = result["value"]
    if raws:
        result["raw"] = raws
        result["ratios"] = ratios(samples, raws)
        judged = result["ratio"] = median(result["ratios"])
        result["ratio_min"] = min(result["ratios"])
        result["ratio_max"] = max(result["ratios"])
    if target is not None:
        result["target"] = target
        result["verdict"] = verdict(judged, target, better)
    return result


# --- Tables ---


def number(value, unit):
    """1234567, "1/s" -> "1.23 M/s"."""
    if unit == "us":
        return number(value * 1000, "ns")
    if unit == "ns":
        for name, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
            if value >= size:
                return "{:.3g} {}".format(value / size, name)
        return "{:.3g} ns".format(value)
    if unit == "1/s" or unit == "B/s":
        name = "B/s" if unit == "B/s" else "/s"
        for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
            if value >= size:
                return "{:.3g} {}{}".format(value / size, prefix, name)
        return "{:.3g} {}".format(value, name)
    return "{:.4g} {}".format(value, unit).rstrip()


def bound(one):
    """"<= 1.02", or "" without a target."""
    if "target" not in one:
        return ""
    return "{} {:.2f}".format("<=" if one["better"] == "less" else ">=", one["target"])


def spread(one):
    """"1.010-1.035", or "" if there was one round only."""
    if "ratio_min" not in one:
        return ""
    return "{:.3f}-{:.3f}".format(one["ratio_min"], one["ratio_max"])


def cells(one):
    """What a table says of a row that has a ratio."""
    return [
        one["way"],
        number(one["value"], one.get("unit", "")),
        "{:.3f}".format(one["ratio"]),
        spread(one),
        bound(one),
        one.get("verdict", ""),
    ]


HEADINGS = ["way", "value", "over raw", "spread", "target", ""]


def groups(rows):
    """The rows by table: [(what is measured, rows)]."""
    result = {}
    for one in rows:
        if "ratio" in one:
            title = "{}, {}, {}".format(one["work"], one["placement"], one["measure"])
            result.setdefault(title, []).append(one)
    return list(result.items())


def plain_table(title, rows):
    lines = [[title] + HEADINGS[1:]] + [["  " + cells(one)[0]] + cells(one)[1:] for one in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    widths[0] = max(widths[0], 46)
    return "\n".join(
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )


def markdown_table(rows):
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|--:|--:|--:|--:|---|"]
    for one in rows:
        lines.append("| " + " | ".join(cells(one)) + " |")
    return "\n".join(lines)


def table_over_x(rows):
    """Rows of one measure: a line for each way, a column for each x."""
    xs = sorted({one["x"] for one in rows})
    lines = [[""] + ["{:g} {}".format(x, rows[0]["x_name"]) for x in xs]]
    values = {(one["way"], one["x"]): "{:.3g}".format(one["value"]) for one in rows}
    for way in dict.fromkeys(one["way"] for one in rows):
        lines.append(["  " + way] + [values.get((way, x), "") for x in xs])
    return "\n".join(
        line[0].ljust(28) + "".join(text.rjust(14) for text in line[1:]) for line in lines
    )


def summary(rows):
    judged = [one for one in rows if "verdict" in one]
    short = [one for one in judged if one["verdict"] == "short"]
    return "{} figures have a target: {} pass, {} are short".format(
        len(judged), len(judged) - len(short), len(short)
    )
