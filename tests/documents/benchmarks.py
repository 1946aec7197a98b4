"""What benchmarks_test.cc needs to know of the benchmarks.

  benchmarks.py arithmetic           tests benchmarks/figures.py and suites.py
  benchmarks.py complete RESULT      whether a result has all of our own ways
"""

import importlib.machinery
import importlib.util
import json
import os
import sys
import unittest

BENCHMARKS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "benchmarks")
sys.path.insert(0, BENCHMARKS)
sys.dont_write_bytecode = True

import figures  # noqa: E402
import suites  # noqa: E402


def load(name):
    """A program of the benchmarks that is Python without .py."""
    loader = importlib.machinery.SourceFileLoader(name, os.path.join(BENCHMARKS, name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


plot = load("plot")


class Arithmetic(unittest.TestCase):
    def test_median_is_the_middle_whatever_the_order(self):
        self.assertEqual(figures.median([5, 1, 3]), 3)
        self.assertEqual(figures.median([5, 1, 3, 100]), 4)
        self.assertEqual(figures.median([7]), 7)

    def test_a_run_is_compared_with_the_raw_runs_next_to_it(self):
        # raw 10, A, raw 30, B, raw 50
        self.assertEqual(figures.neighbours([10, 30, 50]), [20, 40])
        self.assertEqual(figures.ratios([10, 80], [20, 40]), [0.5, 2.0])

    def test_a_verdict_has_no_tolerance(self):
        self.assertEqual(figures.verdict(1.02, 1.02, "less"), "pass")
        self.assertEqual(figures.verdict(1.0204, 1.02, "less"), "short")
        self.assertEqual(figures.verdict(0.90, 0.90, "more"), "pass")
        self.assertEqual(figures.verdict(0.8999, 0.90, "more"), "short")
        self.assertIsNone(figures.verdict(1, None, "less"))

    def test_a_row_is_judged_by_the_median_of_its_ratios(self):
        # The median of the samples over that of raw would be 1.0.
        one = figures.row([20, 30, 40], [10, 30, 80], "less", 1.0, way="A")
        self.assertEqual(one["ratios"], [2.0, 1.0, 0.5])
        spread = one["ratio"], one["ratio_min"], one["ratio_max"]
        self.assertEqual(spread, (1.0, 0.5, 2.0))
        self.assertEqual((one["value"], one["verdict"], one["way"]), (30, "pass", "A"))
        self.assertEqual(figures.row([20, 30, 40], [10, 20, 80], "less", 1.0)["verdict"], "short")

    def test_a_row_without_raw_is_judged_by_its_value(self):
        self.assertEqual(figures.row([300], [], "less", 256)["verdict"], "short")
        self.assertEqual(figures.row([200], [], "less", 256)["verdict"], "pass")
        self.assertNotIn("ratio", figures.row([200], [], "less", 256))
        self.assertNotIn("verdict", figures.row([200], [], "less"))

    def test_quantiles_are_values_that_occurred(self):
        of_hundred = figures.quantiles(range(101))
        self.assertEqual(of_hundred["0"], 0)
        self.assertEqual(of_hundred["0.5"], 50)
        self.assertEqual(of_hundred["0.99"], 99)
        self.assertEqual(of_hundred["1"], 100)
        self.assertEqual(figures.quantiles([4])["0.999"], 4)
        self.assertEqual(
            figures.merge_quantiles([{"1": 1}, {"1": 9}, {"1": 2}]), {"1": 2}
        )

    def test_rates_and_numbers(self):
        self.assertEqual(figures.rate(1000, 500_000_000), 2000)
        self.assertEqual(figures.number(14123, "ns"), "14.1 us")
        self.assertEqual(figures.number(81.0, "ns"), "81 ns")
        self.assertEqual(figures.number(53.2e6, "1/s"), "53.2 M/s")
        self.assertEqual(figures.number(2.9e9, "B/s"), "2.9 GB/s")
        self.assertEqual(figures.number(256, "KiB"), "256 KiB")

    def test_tables_show_value_ratio_spread_target_and_verdict(self):
        one = figures.row(
            [20, 30, 40],
            [10, 30, 80],
            "more",
            0.9,
            way="A",
            work="w",
            placement="same",
            measure="rate",
            unit="1/s",
        )
        [(title, rows)] = figures.groups([one])
        self.assertEqual(title, "w, same, rate")
        self.assertIn(
            "| A | 30 /s | 1.000 | 0.500-2.000 | >= 0.90 | pass |", figures.markdown_table(rows)
        )
        self.assertRegex(
            figures.plain_table(title, rows),
            r"A +30 /s +1\.000 +0\.500-2\.000 +>= 0\.90 +pass",
        )
        self.assertEqual(
            figures.summary([one]), "1 figures have a target: 1 pass, 0 are short"
        )


def row_of(way, placement, value, target, **members):
    """A row of a work whose raw takes 10 ns."""
    members.update(suite="s", work="w", measure="time", unit="ns", way=way, placement=placement)
    return figures.row([value], [10], "less", target, **members)


class Tables(unittest.TestCase):
    ROWS = [
        row_of("Client", "same", 12, 1.1, target_number="10"),
        row_of("streams", "same", 10.5, 1.1, target_number=2),
        row_of("asio", "same", 11, None, is_peer=True),
        row_of("poco", "split", 9, None, is_peer=True),
    ]

    def test_a_document_gets_its_tables_and_keeps_the_rest(self):
        kept = "b\n<!-- table: two -->\nkept\n<!-- end -->\n"
        document = "a\n<!-- table: one -->\nold\n<!-- end -->\n" + kept
        filled = plot.fill(document, {"one": "new", "three": "nowhere", "two": ""})
        self.assertEqual(
            filled,
            "a\n<!-- table: one -->\n\nnew\n\n<!-- end -->\n" + kept,
        )
        self.assertEqual(plot.fill(filled, {"one": "new"}), filled)

    def test_targets_are_in_order_with_the_best_peer_of_the_same_work(self):
        lines = plot.targets_text(self.ROWS).split("\n")
        self.assertEqual(lines[0], "2 figures have a target: 1 pass, 1 are short.")
        self.assertEqual(
            lines[4:],
            [
                "| 2 | w, same, time | streams | <= 1.10 | 1.050 | 1.050-1.050 | asio 1.10 | pass |",
                "| 10 | w, same, time | Client | <= 1.10 | 1.200 | 1.200-1.200 | asio 1.10 | **short** |",
            ],
        )

    def test_of_two_results_with_one_suite_the_later_counts(self):
        def result(way, *names):
            rows = [{"suite": name, "work": name, "way": way} for name in names]
            warnings = ["{}, same: of {}".format(name, way) for name in names]
            return {"program": "run", "rows": rows, "warnings": warnings}

        kept = plot.of_each_suite_the_last(
            [result("old", "s", "t"), result("gone", "s"), result("new", "s")]
        )
        self.assertEqual(
            [(row["suite"], row["way"]) for one in kept for row in one["rows"]],
            [("t", "old"), ("s", "new")],
        )
        self.assertEqual(
            [plot.notes_of(one, "warnings") for one in kept],
            [["t, same: of old"], ["s, same: of new"]],
        )

    def test_growth_has_a_column_for_each_size(self):
        rows = [
            dict(work="w", way="A", measure="time", unit="ns", x=x, x_name="bytes", value=y)
            for x, y in ((16, 1.5), (1048576, 2500.0))
        ]
        self.assertEqual(
            plot.growth_text(rows),
            "**time, ns**\n\n| bytes | 16 | 1 Mi |\n|---|--:|--:|\n| A, w | 1.5 | 2.5e+03 |",
        )

    def test_the_document_has_a_table_for_each_suite(self):
        names = set(suites.SUITES) | {"micro", "machine", "targets", "tails"} | set(plot.SHOWN)
        path = os.path.join(BENCHMARKS, "..", "docs", "performance.md")
        with open(path, encoding="utf-8") as file:
            document = file.read()
        for name in names:
            self.assertNotEqual(plot.fill(document, {name: "x"}), document, name)


class Suites(unittest.TestCase):
    def setUp(self):
        self.works = [work for works in suites.SUITES.values() for work in works()]

    def test_every_work_has_its_noise_beside_it(self):
        for work in self.works:
            self.assertEqual(work.ways[0].program, "raw", work.title)
            again = work.ways[0]._replace(label=work.raw.label)
            self.assertEqual(again, work.raw, work.title)

    def test_no_two_ways_of_a_work_have_one_name(self):
        for work in self.works:
            labels = [way.label for way in work.ways]
            self.assertEqual(len(labels), len(set(labels)), labels)

    def test_targets_are_those_of_the_table(self):
        ways = [way for work in self.works for way in work.ways if way.targets]
        self.assertEqual(
            {str(way.number) for way in ways}, {str(n) for n in range(1, 15)} | {"8b", "new"}
        )
        spin = [
            way.targets
            for work in self.works
            for way in work.ways
            if (work.suite, work.placement) == ("ping_pong", "split")
            and way.label == "streams, spin"
        ]
        self.assertEqual(spin, [(0.16,)])


def complete(path):
    """Prints what the result lacks."""
    with open(path, encoding="utf-8") as file:
        result = json.load(file)
    found = {
        (row["work"], row["placement"], row["measure"], row["way"]) for row in result["rows"]
    }
    for works in suites.SUITES.values():
        for work in works():
            if work.placement == "split" and len(os.sched_getaffinity(0)) < 2:
                continue
            for way in work.ways:
                for measure in work.measures:
                    key = work.title, work.placement, measure, way.label
                    if way.program in ("raw", "ours") and key not in found:
                        print("no row: " + ", ".join(key))


def main(arguments):
    if arguments == ["arithmetic"]:
        done = unittest.main(argv=["benchmarks.py"], exit=False)
        return 0 if done.result.wasSuccessful() and done.result.testsRun else 1
    if arguments[0] == "complete":
        complete(arguments[1])
        return 0
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
