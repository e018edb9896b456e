#!/usr/bin/env bash
# After first.sh: capture, reservations, queries on addresses, and the demo.
#
# usage: scripts/gpu/second.sh [--simulator] [--out FOLDER] [--bin FOLDER]
#
#   --simulator   on the simulated driver, into a temporary folder: shows that the harness works
#   --out FOLDER  where results go; benchmarks/results if left out
#   --bin FOLDER  where the programs are; bin/, target/release or target/debug if left out
#
# Needs what first.sh needs. Questions, and what changes for each answer: docs/hardware.md.
set -euo pipefail
. "$(dirname "$0")/common.sh"

for name in capture reserve pointers; do
    step "$name" 120 "$bin/cuda-conformance" --measure "$name"
done
step demo-rescue 180 "$bin/coldpress" demo --json
step demo-active 180 "$bin/coldpress" demo --json --mode active
finish
