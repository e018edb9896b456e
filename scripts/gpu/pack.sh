#!/usr/bin/env bash
# Collects what a GPU machine without Rust needs: programs, libraries, this harness.
#
# usage: scripts/gpu/pack.sh [FOLDER]
#
# Builds in release mode, copies to FOLDER (target/gpu if left out) without debug information, and
# says what to run there. Results it writes lie in FOLDER/benchmarks/results; copy them back.
set -euo pipefail
cd "$(dirname "$0")/../.."
case "${1-}" in
-*)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
folder="${1:-target/gpu}"
built="${CARGO_TARGET_DIR:-target}/release"

cargo build --release --workspace
# Once more by itself: whole-program optimisation does not apply beside an rlib.
cargo rustc --release --lib --crate-type cdylib
rm -rf "$folder/bin" "$folder/scripts"
mkdir -p "$folder/bin" "$folder/scripts" "$folder/benchmarks/results"
for name in coldpress cuda-conformance coldpress-demo-program \
    libcoldpress.so libcoldpress-alias.so libsimcuda.so; do
    # A plain copy where there is no strip.
    strip --strip-debug -o "$folder/bin/$name" "$built/$name" 2>/dev/null ||
        cp "$built/$name" "$folder/bin/$name"
done
cp -r scripts/gpu "$folder/scripts/"
cp kernels/coldpress.fatbin "$folder/bin/"
# The same kernels for a processor, to compare with: not of this machine's kind, but of any newer than 2013.
g++ -std=c++17 -O3 -shared -fPIC -mavx2 -mbmi -mbmi2 -mlzcnt -mpopcnt -fno-exceptions -fno-rtti \
    -DCP_ISA=bench '-DCP_EXPORT=extern "C"' -o "$folder/bin/libcpcodec.so" kernels/codec/cpu.cc
git rev-parse HEAD >"$folder/REVISION" 2>/dev/null || echo unknown >"$folder/REVISION"
du -sh "$folder"
echo "on the GPU machine: $folder/scripts/gpu/first.sh, then $folder/scripts/gpu/second.sh"
