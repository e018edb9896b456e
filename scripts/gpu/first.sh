#!/usr/bin/env bash
# The first five minutes on a card: what decides everything else.
#
# usage: scripts/gpu/first.sh [--simulator] [--out FOLDER] [--bin FOLDER]
#
#   --simulator   on the simulated driver, into a temporary folder: shows that the harness works
#   --out FOLDER  where results go; benchmarks/results if left out
#   --bin FOLDER  where the programs are; bin/, target/release or target/debug if left out
#
# Needs python3 and what `cargo build --release --workspace` built (scripts/gpu/pack.sh collects it
# for a machine without Rust). Questions, and what changes for each answer: docs/hardware.md.
set -euo pipefail
. "$(dirname "$0")/common.sh"

step conformance 100 "$bin/cuda-conformance" --json
step conformance-under-coldpress 100 \
    "$bin/coldpress" run -- "$bin/cuda-conformance" --json
# On the simulator a quarter of its memory would be filled over and over by one core.
export SIMCUDA_MEMORY=128MiB
step map-cost 60 "$bin/cuda-conformance" --measure map-cost
step map-overlap 60 "$bin/cuda-conformance" --measure map-overlap
unset SIMCUDA_MEMORY
step lookups 180 python3 "$here/lookups.py" --bin "$bin" "${driver[@]}"
finish
