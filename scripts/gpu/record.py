#!/usr/bin/env python3
"""Runs one command and keeps what it says, with card, driver, date and command.

usage: record.py --bin FOLDER --out FOLDER --name NAME [--text] [--timeout SECONDS] -- COMMAND..

FOLDER of --bin holds cuda-conformance, which names the card and the driver. The command's standard
output is JSON (the last line that is) unless --text is given. Writes
<out>/<date>-<card>-<name>.json and prints its path. What a simulated card says never goes into
benchmarks/results. Exits as the command did.
"""

import argparse
import datetime
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def described(folder):
    """Card and driver, as the driver that is found says."""
    found = subprocess.run([folder / "cuda-conformance", "--describe"], capture_output=True, text=True)
    if found.returncode:
        sys.exit(f"record.py: {found.stderr.strip() or 'no driver'}")
    driver = json.loads(found.stdout)
    try:
        first = Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
        release = re.search(r"\d+\.\d+(\.\d+)?", first)
        driver["kernel_module"] = release.group(0) if release else first
    except OSError:
        driver["kernel_module"] = None
    return driver


def parsed(text):
    """The last line of a program's output that is JSON, or all of it."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    for line in reversed(text.splitlines()):
        if line.startswith(("{", "[")):
            try:
                return json.loads(line)
            except ValueError:
                continue
    return None


def run(command, seconds):
    """Exit status, standard output and the end of standard error."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as stopped:
        out = stopped.stdout or b""
        return 124, out.decode(errors="replace"), f"stopped after {seconds} s"
    except OSError as failed:
        return 127, "", str(failed)
    return done.returncode, done.stdout, done.stderr


def place(out, stem):
    """A name that no earlier result has."""
    for count in range(1, 1000):
        path = out / (f"{stem}.json" if count == 1 else f"{stem}-{count}.json")
        if not path.exists():
            return path
    sys.exit(f"record.py: too many results called {stem}")


def main():
    options = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].removeprefix("usage: "))
    options.add_argument("--bin", type=Path, required=True)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--name", required=True)
    options.add_argument("--text", action="store_true")
    options.add_argument("--timeout", type=float, default=120)
    options.add_argument("command", nargs=argparse.REMAINDER)
    chosen = options.parse_args()
    command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
    if not command:
        options.error("no command")

    driver = described(chosen.bin)
    kept = ROOT / "benchmarks" / "results"
    if driver["simulated"] and chosen.out.resolve().is_relative_to(kept):
        sys.exit("record.py: what a simulated card says is no result")

    started, clock = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
    status, output, errors = run(command, chosen.timeout)
    result = output if chosen.text else parsed(output)
    revision = ROOT / "REVISION"
    document = {
        "schema": "coldpress.result",
        "version": 1,
        "name": chosen.name,
        "date": started.isoformat(timespec="seconds"),
        "simulated": driver["simulated"],
        "card": driver["card"],
        "driver": driver,
        "revision": revision.read_text().strip() if revision.exists() else None,
        "command": shlex.join(command),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(("COLDPRESS_", "SIMCUDA_"))},
        "exit_status": status,
        "elapsed_s": round(time.monotonic() - clock, 3),
        "result": result,
    }
    if result is None or status:
        document["output_tail"] = output[-4000:]
        document["errors_tail"] = errors[-4000:]
    card = re.sub(r"[^a-z0-9]+", "-", (driver["card"] or "unknown").lower()).strip("-")
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = place(chosen.out, f"{started:%Y-%m-%d}-{card}-{chosen.name}")
    # Where the folder lay on that machine is nobody's business.
    path.write_text(json.dumps(document, indent=1).replace(f"{ROOT}/", "") + "\n")
    print(path)
    return status


if __name__ == "__main__":
    sys.exit(main())
