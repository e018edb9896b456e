#!/usr/bin/env python3
"""Does a PyTorch training reach the same losses in less memory, and what does that cost?

usage: frameworks.py --bin FOLDER [--only NAME,..] [-- ARGUMENTS of train.py]

Runs train.py plain, then under coldpress without and with a limit, with PyTorch's allocator, without its cache
and with the pluggable one. Peaks are what the vendor's management library says of the card, read every 10 ms, less
what was taken before; so they hold the context too. Limits are parts of the plain run's peak less its context.
A row is good if losses and digest are those of the plain run, bit for bit. Prints one JSON document.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pynvml

HERE = Path(__file__).resolve().parent


class Watch:
    """The most memory of the card that was taken while the block ran, in bytes above what was taken before."""

    def __enter__(self):
        self.card = pynvml.nvmlDeviceGetHandleByIndex(0)
        self.before = self.used()
        self.peak = self.before
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def used(self):
        return pynvml.nvmlDeviceGetMemoryInfo(self.card).used

    def look(self):
        while not self.ended.wait(0.01):
            self.peak = max(self.peak, self.used())

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def bytes(self):
        return self.peak - self.before


def run(name, folder, limit, changes, arguments, seconds=100):
    """One training; its row."""
    environment = dict(os.environ)
    command = [sys.executable, str(HERE / "train.py"), *arguments]
    said = tempfile.NamedTemporaryFile(suffix=".log")
    if changes is not None:
        environment |= {"LD_PRELOAD": str(folder / "libcoldpress.so"), "COLDPRESS_LOG": "info"}
        environment |= changes
        if limit:
            environment["COLDPRESS_LIMIT"] = str(limit)
    row = {"name": name, "limit_bytes": limit}
    with Watch() as watch:
        try:
            began = time.monotonic()
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment, timeout=seconds)
            row["exit_status"], row["seconds"] = done.returncode, round(time.monotonic() - began, 2)
            output = done.stdout
        except subprocess.TimeoutExpired:
            row["exit_status"], output = 124, ""
    row["card_peak_bytes"] = watch.bytes()
    row["said"] = Path(said.name).read_text(errors="replace")[-3000:].splitlines()[-25:]
    try:
        row["result"] = json.loads(output.splitlines()[-1])
        row["step_s"] = statistics.median(row["result"]["steps_s"][2:])
    except (IndexError, ValueError, statistics.StatisticsError):
        row["result"] = None
    return row


def main():
    options = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].removeprefix("usage: "))
    options.add_argument("--bin", type=Path, required=True)
    options.add_argument("--only", default="")
    options.add_argument("arguments", nargs="*")
    chosen = options.parse_args()
    folder = chosen.bin.resolve()
    pynvml.nvmlInit()
    with Watch() as watch:
        subprocess.run([sys.executable, "-c", "import torch; torch.zeros(1, device='cuda'); torch.cuda.synchronize()"], check=True)
    context = watch.bytes()
    plain = run("plain", folder, None, None, chosen.arguments)
    rows = [plain]
    if plain["result"] is None:
        print(json.dumps({"good": False, "rows": rows}))
        return 1
    need = plain["card_peak_bytes"] - context
    uncached = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    plug = ["--plug", str(folder / "libcoldpress.so")]
    for name, part, changes, arguments in (
        ("under", None, {}, []),
        ("uncached", None, uncached, []),
        ("pluggable", None, {}, plug),
        ("under-80", 0.8, {}, []),
        ("uncached-70", 0.7, uncached, []),
        ("uncached-50", 0.5, uncached, []),
        ("pluggable-70", 0.7, {}, plug),
        ("pluggable-50", 0.5, {}, plug),
    ):
        if chosen.only and name not in chosen.only.split(","):
            continue
        limit = int(need * part) if part else None
        row = run(name, folder, limit, changes, [*chosen.arguments, *arguments])
        row["part_of_plain"] = part
        result = row["result"]
        row["equal"] = result is not None and all(result[k] == plain["result"][k] for k in ("losses", "digest"))
        row["peak_to_plain"] = round((row["card_peak_bytes"] - context) / need, 3)
        if result:
            row["step_to_plain"] = round(row["step_s"] / plain["step_s"], 3)
        rows.append(row)
        print(json.dumps({k: v for k, v in row.items() if k not in ("said", "result")}), file=sys.stderr, flush=True)
    good = all(row["equal"] for row in rows[1:])
    print(json.dumps({"good": good, "context_bytes": context, "need_bytes": need, "rows": rows}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
