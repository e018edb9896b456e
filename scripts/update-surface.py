#!/usr/bin/env python3
"""Rewrites src/driver/surface.txt, the plain list of driver entry points.

usage: scripts/update-surface.py INCLUDE_DIR...

Each INCLUDE_DIR holds the *Typedefs.h headers of one toolkit (for example from the
nvidia-cuda-runtime package). Only facts are taken: names, ABI versions, and whether a
per-thread-default-stream variant exists. Groups and actions already in the file are kept;
new names arrive as group `?`, action `latch`, so that nothing slips in undecided.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SURFACE = ROOT / "src/driver/surface.txt"
HEADERS = ["cudaTypedefs.h", "cudaProfilerTypedefs.h", "cudaGLTypedefs.h",
           "cudaEGLTypedefs.h", "cudaVDPAUTypedefs.h"]
PFN = re.compile(r"\(CUDAAPI \*PFN_(cu\w+?)_v(\d+)(?:_(ptds|ptsz))?\)")

HEAD = """\
# The CUDA driver's entry points: facts only, one name a line.
#   name  versions  per-thread-variants  group  action
# versions: requested versions at which cuGetProcAddress changes its answer, oldest first; the
#   i-th is exported as name, name_v2, name_v3 ..
# per-thread: ptsz or ptds, with the versions that have such a variant; `-` where none has.
# group: letter of the table in docs/driver-surface.md. action: hook (we implement it), pass
#   (tail jump), latch (tail jump; the first call restores everything and turns eviction off).
# Written by scripts/update-surface.py; group and action are edited by hand.
"""


def old_decisions():
    out = {}
    if SURFACE.exists():
        for line in SURFACE.read_text().splitlines():
            if line and not line.startswith("#"):
                f = line.split()
                out[f[0]] = (f[3], f[4])
    return out


def main():
    names = {}
    for d in sys.argv[1:]:
        for h in HEADERS:
            p = pathlib.Path(d) / h
            if not p.exists():
                continue
            for m in PFN.finditer(p.read_text(errors="replace")):
                name, ver, pt = m.group(1), int(m.group(2)), m.group(3)
                e = names.setdefault(name, {"plain": set(), "pt": set(), "sfx": None})
                if pt:
                    e["pt"].add(ver)
                    e["sfx"] = pt
                else:
                    e["plain"].add(ver)
    if not names:
        sys.exit("update-surface: no typedef headers found; give their include folder")
    decided = old_decisions()
    rows = []
    for name in sorted(names):
        e = names[name]
        vers = ",".join(map(str, sorted(e["plain"])))
        pt = "-" if not e["sfx"] else e["sfx"] + ":" + ",".join(map(str, sorted(e["pt"])))
        group, action = decided.get(name, ("?", "latch"))
        rows.append(f"{name} {vers} {pt} {group} {action}")
    SURFACE.write_text(HEAD + "\n".join(rows) + "\n")
    print(f"{len(rows)} names, {sum(len(e['plain']) + len(e['pt']) for e in names.values())} variants")


main()
