"""Counts GoogleTest cases after a `bazel test`.

  count_tests.py EVENTS BAZEL_EXIT_STATUS

EVENTS is what --build_event_json_file wrote. The last line printed is
"N passed, N failed", with ", N skipped" appended when there are any; the lines
before it say which were skipped, and why. A target that does not build, crashes, hangs, or fails beside its cases (a leak found at
exit) counts as one failed. The exit status is 0 only if something ran and
nothing failed.
"""

import json
import sys
import urllib.parse
import urllib.request
import xml.etree.ElementTree


def count_cases(path):
    """Returns passed, failed and skipped of one test.xml; of the last, texts."""
    passed = failed = 0
    skipped = []
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif (
            case.get("status") == "notrun"
            or case.get("result") in ("skipped", "suppressed")
            or case.find("skipped") is not None
        ):
            skipped.append(describe_skipped(case))
        else:
            passed += 1
    return passed, failed, skipped


def describe_skipped(case):
    """One line: the test, and the reason that it gave, if it gave one."""
    name = "{}.{}".format(case.get("classname"), case.get("name"))
    reason = case.find("skipped")
    # "FILE:LINE", then what the test has said.
    lines = (reason.get("message") or "").splitlines() if reason is not None else []
    said = " ".join(line.strip() for line in lines[1:] if line.strip())
    return "{}: {}".format(name, said) if said else name


def local_path(uri):
    parts = urllib.parse.urlsplit(uri)
    return urllib.request.url2pathname(parts.path) if parts.scheme == "file" else None


def read_events(path):
    events = []
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    events.append(json.loads(line))
                except ValueError:
                    pass  # Bazel was killed while it wrote.
    except OSError:
        pass
    return events


def main(events_path, bazel_status):
    tests = set()  # every test target that was asked for
    runs = {}  # (target, run, shard) -> (attempt, status, path of test.xml)
    broken = {}  # target -> why
    for event in read_events(events_path):
        ident = event.get("id", {})
        if "targetConfigured" in ident and "testSize" in event.get("configured", {}):
            tests.add(ident["targetConfigured"]["label"])
        elif "targetCompleted" in ident:
            if not event.get("completed", {}).get("success", False):
                label = ident["targetCompleted"]["label"]
                broken[label] = "does not build"
        elif "testResult" in ident and "testResult" in event:
            result = event["testResult"]
            ident = ident["testResult"]
            key = ident["label"], ident.get("run", 1), ident.get("shard", 1)
            attempt = ident.get("attempt", 1)
            report = None
            for output in result.get("testActionOutput", []):
                if output.get("name") == "test.xml":
                    report = local_path(output.get("uri", ""))
            if key not in runs or attempt >= runs[key][0]:
                runs[key] = attempt, result.get("status", "NO_STATUS"), report

    passed = failed = 0
    skipped = []
    for (label, _, _), (_, status, report) in sorted(runs.items()):
        counts = None
        if report:
            try:
                counts = count_cases(report)
            except (OSError, xml.etree.ElementTree.ParseError):
                pass
        good = status in ("PASSED", "FLAKY")
        if counts is None:
            counts = (1, 0, []) if good else (0, 1, [])
        elif not good and counts[1] == 0:
            counts = counts[0], 1, counts[2]
        if not good:
            print("FAILED: {} ({})".format(label, status.lower()))
        passed += counts[0]
        failed += counts[1]
        skipped += ["{} {}".format(label, text) for text in counts[2]]

    for label in tests - {key[0] for key in runs}:
        broken.setdefault(label, "did not run")
    for label in sorted(broken):
        print("FAILED: {} ({})".format(label, broken[label]))
        failed += 1

    # 0: all well, 3: a test failed, 4: no tests; else Bazel itself has failed.
    if failed == 0 and bazel_status not in (0, 4):
        print("FAILED: bazel ended with status {}".format(bazel_status))
        failed += 1
    if passed + failed == 0 and not skipped:
        print("FAILED: no test ran")
        failed += 1

    summary = "{} passed, {} failed".format(passed, failed)
    if skipped:
        summary += ", {} skipped".format(len(skipped))
        for text in skipped:
            print("SKIPPED: " + text)
    print(summary)
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
