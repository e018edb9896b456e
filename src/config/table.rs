//! The one table of options. Parsing, `coldpress env`, the reference page and the manual page
//! are all made from it; an option that is not here does not exist.

use super::{Codec, Config, FreeSync, Mode, Safety, Verify};
use crate::units::{self, Size};

/// One option.
#[derive(Debug)]
pub struct Opt {
    /// Its key in `COLDPRESS_CONF`.
    pub key: &'static str,
    /// Its own variable.
    pub env: &'static str,
    /// The value it has when nobody says anything, as it would be written.
    pub default: &'static str,
    /// Values it takes, as shown to the user.
    pub values: &'static str,
    /// Values a later version will take.
    pub later: &'static [&'static str],
    /// What it does, in one line.
    pub doc: &'static str,
    /// What else there is to know.
    pub long: &'static str,
    /// The version it appeared in.
    pub since: &'static str,
    /// Puts a value in its field; false when the value is none of `values`.
    pub set: fn(&mut Config, &str) -> bool,
}

/// A variable that is no option.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// Keys of later versions.
pub const LATER: &[&str] = &["idle", "oversubscribe", "sample", "trace"];

/// Puts `value` in a field if there is one.
fn put<T>(field: &mut T, value: Option<T>) -> bool {
    match value {
        Some(value) => {
            *field = value;
            true
        }
        None => false,
    }
}

/// The value that `text` names.
fn choice<T: Copy>(text: &str, values: &[(&str, T)]) -> Option<T> {
    values.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|&(_, value)| value)
}

/// Every option, in the order in which people need them.
pub const OPTIONS: &[Opt] = &[
    Opt {
        key: "mode",
        env: "COLDPRESS_MODE",
        default: "rescue",
        values: "rescue, active, trace",
        later: &["rehearse"],
        doc: "when memory is moved out",
        long: "`rescue`: nothing moves until an allocation would fail or `limit` is reached. \
               `active`: cold memory leaves ahead of time, so that `watermark` stays free. \
               `trace`: allocations stay with the driver, only statistics are kept.",
        since: "0.1",
        set: |config, text| {
            let values =
                [("rescue", Mode::Rescue), ("active", Mode::Active), ("trace", Mode::Trace)];
            put(&mut config.mode, choice(text, &values))
        },
    },
    Opt {
        key: "limit",
        env: "COLDPRESS_LIMIT",
        default: "100%",
        values: "a size (40GiB) or a share of the card (70%)",
        later: &[],
        doc: "GPU memory the process may hold on each card",
        long: "Everything counts: memory in use, kept ready, waiting for a stream, and small \
               buffers. The program sees a card of this size. One operation that needs more at \
               once may pass the limit while the card has memory; that is counted and said once.",
        since: "0.1",
        set: |config, text| put(&mut config.limit, Size::parse(text).filter(|s| s.of(1 << 40) > 0)),
    },
    Opt {
        key: "host_limit",
        env: "COLDPRESS_HOST_LIMIT",
        default: "25%",
        values: "a size (64GiB) or a share of what the host can spare (25%)",
        later: &[],
        doc: "host memory the process may hold for evicted bytes",
        long: "A share is taken of the smaller of available memory and the cgroup's headroom and \
               divided by the number of processes of the job on this node (LOCAL_WORLD_SIZE, \
               OMPI_COMM_WORLD_LOCAL_SIZE, MPI_LOCALNRANKS, SLURM_NTASKS_PER_NODE). Whatever the \
               limit, memory the machine cannot spare is never taken.",
        since: "0.1",
        set: |config, text| put(&mut config.host_limit, Size::parse(text)),
    },
    Opt {
        key: "safety",
        env: "COLDPRESS_SAFETY",
        default: "standard",
        values: "strict, standard, params",
        later: &[],
        doc: "what must be proved before a buffer is evicted",
        long: "`strict`: all memory a kernel could find an address in is scanned each time. \
               `standard`: the same, less what nothing can have written since a clean scan (in \
               this version both scan everything). `params`: only the parameters of launches are \
               looked at. UNSAFE: a kernel that follows a pointer stored in memory will fault.",
        since: "0.1",
        set: |config, text| {
            let values = [
                ("strict", Safety::Strict),
                ("standard", Safety::Standard),
                ("params", Safety::Params),
            ];
            put(&mut config.safety, choice(text, &values))
        },
    },
    Opt {
        key: "verify",
        env: "COLDPRESS_VERIFY",
        default: "on",
        values: "on, strict, restore",
        later: &[],
        doc: "which copies are checked",
        long: "`on`: before the original is given up the copy is decoded from where it is kept, and \
               its hash compared with that of the original; where pages are coded on the host the \
               original is read once more for that. At a restore the hash of what has arrived in \
               the buffer is checked before the buffer is used. A copy that is wrong at an \
               eviction is dropped and the original stays; after three of these nothing is \
               evicted any more. A restore that is wrong twice makes the buffer an error for \
               every operation on it, until it is freed. `strict`: as `on`, and an operation \
               waits for the verdict on what it needs (in this version `on` waits too). \
               `restore`: only the checks at a restore. A copy that went wrong at an eviction is then an \
               error at the restore, or with `codec:cpu` not noticed at all; an eviction does half \
               the work.",
        since: "0.1",
        set: |config, text| {
            let values =
                [("on", Verify::On), ("strict", Verify::Strict), ("restore", Verify::Restore)];
            put(&mut config.verify, choice(text, &values))
        },
    },
    Opt {
        key: "codec",
        env: "COLDPRESS_CODEC",
        default: "auto",
        values: "auto, cpu",
        later: &[],
        doc: "where cold pages are compressed",
        long: "`auto`: by kernels on the device; on the host where a card does not take them. \
               `cpu`: always on the host, which is much slower. There, pages that go to host memory \
               are compressed only once half of `host_limit` is used: until then the bus is \
               faster. The bytes that come back are the same.",
        since: "0.1",
        set: |config, text| {
            put(&mut config.codec, choice(text, &[("auto", Codec::Auto), ("cpu", Codec::Cpu)]))
        },
    },
    Opt {
        key: "watermark",
        env: "COLDPRESS_WATERMARK",
        default: "10%",
        values: "a size (4GiB) or a share of the limit (10%)",
        later: &[],
        doc: "free GPU memory that mode:active keeps",
        long: "Read in `mode:active` only.",
        since: "0.1",
        set: |config, text| put(&mut config.watermark, Size::parse(text)),
    },
    Opt {
        key: "restore_wait",
        env: "COLDPRESS_RESTORE_WAIT",
        default: "30s",
        values: "a time (30s, 500ms)",
        later: &[],
        doc: "how long an operation waits for memory to restore what it needs",
        long: "After that it fails with an out-of-memory error; the data are kept.",
        since: "0.1",
        set: |config, text| put(&mut config.restore_wait, units::parse_duration(text)),
    },
    Opt {
        key: "free_sync",
        env: "COLDPRESS_FREE_SYNC",
        default: "auto",
        values: "auto, on, off",
        later: &[],
        doc: "whether a plain free waits for the device, as the driver's does",
        long: "Programs rely on it (copy to the host, free, read). `auto` waits except for \
               allocators that synchronise themselves. `off` never waits, and gives memory out \
               again once the launches that named it have passed: only for programs whose \
               kernels reach no freed memory by addresses they load.",
        since: "0.1",
        set: |config, text| {
            let values = [("auto", FreeSync::Auto), ("on", FreeSync::On), ("off", FreeSync::Off)];
            put(&mut config.free_sync, choice(text, &values))
        },
    },
    Opt {
        key: "mps",
        env: "COLDPRESS_MPS",
        default: "off",
        values: "on, off",
        later: &[],
        doc: "allow eviction under MPS",
        long: "Under MPS one fault ends every client of the server, so eviction is off there \
               unless this says otherwise.",
        since: "0.1",
        set: |config, text| put(&mut config.mps, units::parse_bool(text)),
    },
    Opt {
        key: "torture",
        env: "COLDPRESS_TORTURE",
        default: "off",
        values: "on, off",
        later: &[],
        doc: "evict everything that may go after every operation",
        long: "For tests: very slow, and finds what a real job would meet once a week.",
        since: "0.1",
        set: |config, text| put(&mut config.torture, units::parse_bool(text)),
    },
];

/// The variables that are no options.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: "COLDPRESS_CONF",
        doc: "options as `key:value,key:value`; a variable of its own wins over it",
    },
    Variable {
        name: "COLDPRESS_DISABLE",
        doc: "`1`: every call goes straight to the driver, nothing is managed",
    },
    Variable {
        name: "COLDPRESS_STRICT",
        doc: "`1`: an unknown option or value is an error: the library says so and manages \
              nothing, the command line exits with 2",
    },
    Variable {
        name: "COLDPRESS_VERBOSE",
        doc: "`0`: only problems are said; `1`: the effective settings are said at start",
    },
    Variable {
        name: "COLDPRESS_LOG",
        doc: "`error`, `warn`, `info`, `debug` or `trace`: detail on stderr; `debug:FILE` appends \
              it to a file",
    },
    Variable {
        name: "COLDPRESS_REAL_LIBCUDA",
        doc: "path of the driver's `libcuda.so.1`, when the loader would find the wrong one",
    },
    Variable {
        name: "COLDPRESS_LIBRARY",
        doc: "path of `libcoldpress.so` for `coldpress run`, when it is not beside the command",
    },
    Variable {
        name: "COLDPRESS_CORPUS",
        doc: "folder of files that `coldpress demo` loads when `--data` is not given",
    },
];
