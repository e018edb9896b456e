#!/usr/bin/env bash
# Counts the instructions that coldpress adds to a launch and to alloc + free, and fails beyond the
# limits. Method: callgrind counts only the loop of tests/cost/cost.c, on a driver that does
# nothing (tests/cost/stubcuda.c), with and without the library; the difference between 2,000 and
# 1,000 rounds, a thousandth of it, is the cost of one round. Baseline: the same program without
# the library.
#
#   scripts/cost-gate.sh
#
# TEST_COLDPRESS_RESULTS=FOLDER: the counts are left in FOLDER/cost.json
set -euo pipefail
cd "$(dirname "$0")/.."

LAUNCH_LIMIT=500
ALLOC_LIMIT=600
SPREAD_PERCENT=5

[ $# -eq 0 ] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
command -v valgrind >/dev/null || { echo "cost-gate: valgrind is missing; apt-get install valgrind" >&2; exit 2; }
target=${CARGO_TARGET_DIR:-target}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cc -O2 -shared -fPIC -Wall -Wextra -Wl,-soname,libcuda.so.1 -o "$work/libcuda.so.1" tests/cost/stubcuda.c -ldl
cc -O2 -Wall -Wextra -o "$work/cost" tests/cost/cost.c -ldl
cargo rustc --release --lib --crate-type cdylib --quiet
shim=$target/release/libcoldpress.so

export COLDPRESS_VERBOSE=0
collect() { # what live rounds [library] [annotate file]
    local out=$work/callgrind.out env=()
    [ -n "${4:-}" ] && env=(LD_PRELOAD="$4" COLDPRESS_REAL_LIBCUDA="$work/libcuda.so.1")
    rm -f "$out"
    env LD_LIBRARY_PATH="$work" "${env[@]}" valgrind --tool=callgrind --callgrind-out-file="$out" \
        --toggle-collect='counted_*' "$work/cost" "$1" "$2" "$3" 2>"$work/log" ||
        { cat "$work/log" >&2; exit 1; }
    [ -n "${5:-}" ] && cp "$out" "$5"
    sed -n 's/.*Collected : *//p' "$work/log"
}
per_round() { # what live [library]
    local a b
    a=$(collect "$1" "$2" 1000 "${3:-}")
    b=$(collect "$1" "$2" 2000 "${3:-}")
    echo $(((b - a + 500) / 1000))
}

failed=0
gate() { # text value limit
    local verdict=ok
    [ "$2" -le "$3" ] || { verdict=FAILED; failed=1; }
    printf '%-58s %6d  limit %6d  %s\n' "$1" "$2" "$3" "$verdict"
}

base=$(per_round launch 10)
least= most=0
for live in 10 1000 100000; do
    added=$(($(per_round launch $live "$shim") - base))
    gate "instructions added per launch, 16 pointers, $live live" $added $LAUNCH_LIMIT
    [ -z "$least" ] || [ $added -lt "$least" ] && least=$added
    [ $added -gt $most ] && most=$added
done
gate "difference between them, thousandths of the smallest" $(((most - least) * 1000 / least)) $((SPREAD_PERCENT * 10))

async=$(($(per_round async 1000 "$shim") - $(per_round async 1000)))
gate "alloc + free of a warm buffer, stream-ordered" $async $ALLOC_LIMIT
export COLDPRESS_FREE_SYNC=off
plain=$(($(per_round plain 1000 "$shim") - $(per_round plain 1000)))
gate "alloc + free of a warm buffer, plain, free_sync:off" $plain $ALLOC_LIMIT
unset COLDPRESS_FREE_SYNC

# No allocation and no lock on the launch path. In an unoptimised build nothing is inlined, so
# every function that runs has its name in the profile.
cargo rustc --lib --crate-type cdylib --quiet --target-dir "$target/cost" -- -C opt-level=0
collect launch 1000 100 "$target/cost/debug/libcoldpress.so" "$work/profile" >/dev/null
names() { sed -n 's/^c\{0,1\}fn=([0-9]*) \(..*\)/\1/p' "$1" | sort -u; }
forbidden='malloc|calloc|realloc|memalign|__rust_alloc|alloc::alloc|RawVec|pthread_mutex|pthread_rwlock|lock_api|parking_lot|RawMutex|RawRwLock|futex'
names "$work/profile" >"$work/names"
if grep -E "$forbidden" "$work/names" >"$work/bad"; then
    echo "the launch path allocates or locks:"
    cat "$work/bad"
    failed=1
else
    grep -q 'submit::stamp_all' "$work/names" ||
        { echo "the profile does not show the launch path: the check is blind"; failed=1; }
    echo "no allocation and no lock among $(wc -l <"$work/names") functions of the launch path"
fi
# The check must be able to fail: allocating does take locks and memory.
collect async 1000 100 "$target/cost/debug/libcoldpress.so" "$work/profile" >/dev/null
names "$work/profile" >"$work/names"
grep -qE "$forbidden" "$work/names" || { echo "the check does not see locks at all"; failed=1; }

if [ -n "${TEST_COLDPRESS_RESULTS:-}" ] && [ $failed = 0 ]; then
    mkdir -p "$TEST_COLDPRESS_RESULTS"
    printf '{"suite":"cost","form":"full","seconds":%d,"counts":{"launch":%d,"launch_spread":%d,"alloc_free_async":%d,"alloc_free_plain":%d}}\n' \
        $SECONDS $most $((most - least)) "$async" "$plain" >"$TEST_COLDPRESS_RESULTS/cost.json"
fi
exit $failed
