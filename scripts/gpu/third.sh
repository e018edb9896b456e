#!/usr/bin/env bash
# After second.sh: PyTorch trained to equal losses in less memory, and the codec's kernels by themselves.
#
# usage: scripts/gpu/third.sh [--simulator] [--out FOLDER] [--bin FOLDER]
#
#   --simulator   only says that there is nothing to do: PyTorch's kernels do not run there
#   --out FOLDER  where results go; benchmarks/results if left out
#   --bin FOLDER  where the programs are; bin/, target/release or target/debug if left out
#
# Needs what first.sh needs, PyTorch and numpy; CORPUS=FOLDER with tensors for the codec.
set -euo pipefail
. "$(dirname "$0")/common.sh"

if [ "$simulated" = yes ]; then
    echo "nothing of this runs on the simulated driver"
    exit 0
fi
step frameworks 250 python3 "$here/frameworks.py" --bin "$bin" \
    --only under,uncached-70,pluggable-70 -- --layers 8 --steps 12
[ -z "${CORPUS-}" ] || step codec 60 python3 "$here/codec-bench" --bin "$bin" --quick "$CORPUS"/*.bin
finish
