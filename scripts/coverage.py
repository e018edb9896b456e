"""Sums up line counts (lcov) per folder and file of src; scripts/coverage runs it.

usage: coverage.py JSON|- [--missing] LINES ..

A line counts as run if it ran in one of LINES.
"""
import collections, json, os, re, sys

GATED = ("src/residency", "src/heap", "src/vmm")
LEAST = 90.0


def left_out(path):
    """Lines of items that only tests or debug builds have: the attribute to the item's last line."""
    lines = open(path, encoding="utf-8").read().split("\n")
    out, until = set(), None
    for number, line in enumerate(lines, 1):
        if until is None:
            found = re.match(r"(\s*)#\[cfg\((test|debug_assertions)\)\]", line)
            if not found:
                continue
            until = found.group(1)
        out.add(number)
        # An item ends at its own indentation, with a brace or, when it has no body, a semicolon.
        ends = line.startswith((until + "}", until + ")")) or (
            line.startswith(until) and not line.startswith(until + " ") and line.endswith((";", "}")))
        if ends and not line.lstrip().startswith("#["):
            until = None
    return out


def read(paths):
    files, source = collections.defaultdict(collections.Counter), None
    for path in paths:
        for line in open(path, encoding="utf-8"):
            key, _, value = line.strip().partition(":")
            if key == "SF":
                source = os.path.relpath(value)
            elif key == "DA":
                number, count = value.split(",")[:2]
                files[source][int(number)] += int(count)
    for source, counts in files.items():
        for number in left_out(source):
            counts.pop(number, None)
        # A module that is left out is a line in its parent.
        text = open(source, encoding="utf-8").read()
        for name in re.findall(r"#\[cfg\((?:test|debug_assertions)\)\]\n(?:pub )?mod (\w+);", text):
            files.get(os.path.join(os.path.dirname(source), name + ".rs"), {}).clear()
    return {source: counts for source, counts in sorted(files.items()) if counts}


def percent(run, lines):
    return 100.0 * run / lines if lines else 100.0


def main():
    files = read([a for a in sys.argv[2:] if a != "--missing"])
    rows, folders = {}, collections.Counter()
    for source, counts in files.items():
        run, lines = sum(c > 0 for c in counts.values()), len(counts)
        rows[source] = {"run": run, "lines": lines}
        folder = os.path.dirname(source)
        folders[folder, "run"] += run
        folders[folder, "lines"] += lines
    names = sorted({folder for folder, _ in folders})
    sums = {n: {"run": folders[n, "run"], "lines": folders[n, "lines"]} for n in names}
    failed = []
    for name in names:
        run, lines = sums[name]["run"], sums[name]["lines"]
        gate = ""
        if name in GATED:
            good = percent(run, lines) >= LEAST
            gate = f"  at least {LEAST:.0f} %: {'ok' if good else 'FAILED'}"
            if not good:
                failed.append(name)
        print(f"{name:<28}{run:>5} of {lines:>5} lines {percent(run, lines):6.1f} %{gate}")
        if name in GATED:
            for source, row in rows.items():
                if os.path.dirname(source) == name:
                    print(f"    {os.path.basename(source):<24}{row['run']:>5} of {row['lines']:>5}       "
                          f"{percent(row['run'], row['lines']):6.1f} %")
    missing_gates = [name for name in GATED if name not in sums]
    if missing_gates:
        print("nothing was counted for", ", ".join(missing_gates))
        failed += missing_gates
    if "--missing" in sys.argv:
        for source, counts in files.items():
            if os.path.dirname(source) in GATED:
                text = open(source, encoding="utf-8").read().split("\n")
                for number, count in counts.items():
                    if count == 0:
                        print(f"{source}:{number}: {text[number - 1].strip()}")
    if sys.argv[1] != "-":
        with open(sys.argv[1], "w", encoding="utf-8") as out:
            json.dump({"schema": "coldpress.coverage", "version": 1, "folders": sums, "files": rows}, out, indent=1)
            out.write("\n")
    results = os.environ.get("TEST_COLDPRESS_RESULTS")
    if results:
        os.makedirs(results, exist_ok=True)
        counts = {f"{os.path.basename(name)} %": round(percent(sums[name]["run"], sums[name]["lines"]), 1) for name in GATED if name in sums}
        with open(os.path.join(results, "coverage.json"), "w", encoding="utf-8") as out:
            seconds = int(os.environ.get("COVERAGE_SECONDS", "0"))
            json.dump({"suite": "coverage", "form": "full", "seconds": seconds, "counts": counts}, out)
    sys.exit(f"coverage: below {LEAST:.0f} %: {', '.join(failed)}" if failed else 0)


main()
