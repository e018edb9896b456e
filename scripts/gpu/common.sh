# For first.sh and second.sh: where the programs are, where results go, how one step runs.

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"

usage() {
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
}

simulated=no
out=
chosen=
while [ $# -gt 0 ]; do
    case "$1" in
    --simulator) simulated=yes ;;
    --out)
        [ $# -gt 1 ] || { echo "${0##*/}: --out needs a folder" >&2; exit 2; }
        out="$2"
        shift
        ;;
    --bin)
        [ $# -gt 1 ] || { echo "${0##*/}: --bin needs a folder" >&2; exit 2; }
        chosen="$(cd "$2" && pwd)"
        shift
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
    shift
done

# A packed folder has bin/, a checkout has target/.
for bin in "$chosen" "$root/bin" "$root/target/release" "$root/target/debug"; do
    [ -n "$bin" ] && [ -x "$bin/cuda-conformance" ] && [ -e "$bin/libcoldpress.so" ] && break
    bin=
done
if [ -z "$bin" ]; then
    echo "${0##*/}: nothing is built: cargo build --release --workspace, or --bin FOLDER" >&2
    exit 2
fi

driver=()
if [ "$simulated" = yes ]; then
    out="${out:-$(mktemp -d "${TMPDIR:-/tmp}/coldpress-gpu.XXXXXX")}"
    # The loader knows the simulator by the driver's name.
    mkdir -p "$out/driver"
    ln -sf "$bin/libsimcuda.so" "$out/driver/libcuda.so.1"
    export LD_LIBRARY_PATH="$out/driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    driver=(--driver "$bin/libsimcuda.so")
fi
out="${out:-$root/benchmarks/results}"

failed=0
# step NAME SECONDS COMMAND..: one command, one result.
step() {
    local name="$1" seconds="$2" start=$SECONDS status=0
    shift 2
    python3 "$here/record.py" --bin "$bin" --out "$out" --name "$name" --timeout "$seconds" -- "$@" ||
        status=$?
    if [ "$status" -ne 0 ]; then
        failed=1
        echo "  $name: exit $status after $((SECONDS - start)) s" >&2
    fi
}

finish() {
    echo "results in $out (${SECONDS} s)"
    exit "$failed"
}
