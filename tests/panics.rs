//! The library panics: before and after the call of every hooked function, and in the middle of
//! evictions and restores. The program sees the driver's own answer, or one error, and every byte;
//! the driver is never called twice; nothing is managed anew, and what is there can be used and freed.
//!
//! `tests/panics/*.c` has a case for each hooked function; the list of these is read from the
//! library's sources, so a new one without a case fails here. Where the engine panics on its way,
//! random programs go on (`cuda-fuzz --sweep panic`).

mod support;

use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fs, thread};
use support::full::{Suite, full, pick};
use support::{Outcome, Run, artefact, simulator};

/// CUDA_ERROR_UNKNOWN
const UNKNOWN: i64 = 999;

/// The driver cannot do these in our place, so nothing but the hook can: memory of ours is freed or
/// asked about.
const SERVED: &[&str] = &[
    "cuMemFree_v2",
    "cuMemFreeAsync",
    "cuMemFreeAsync_ptsz",
    "cuMemGetAccess",
    "cuMemGetAddressRange_v2",
    "cuPointerGetAttribute",
    "cuPointerGetAttributes",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(root().join(folder)).expect(folder) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            let inner = path.strip_prefix(root()).expect("inside").to_string_lossy().into_owned();
            text.push_str(&sources(&inner));
        } else {
            text.push_str(&fs::read_to_string(&path).expect("source"));
        }
    }
    text
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect()
}

/// Every exported function that is hooked: those of the list that the sources of the hooks name.
fn hooks() -> Vec<String> {
    let text = ["src/hooks", "src/intercept"].map(sources).concat();
    let named = words(&text);
    let list = fs::read_to_string(root().join("src/driver/surface.txt")).expect("the list");
    let mut out = Vec::new();
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [name, versions, per_thread, _, action] = fields[..] else { continue };
        // As the build script reads it: older variants of the name are not hooked.
        let from: u32 = match action.split_once('@') {
            Some(("hook", from)) => from.parse().expect("a version"),
            None if action == "hook" => 0,
            _ => continue,
        };
        let suffix = per_thread.split_once(':').map(|(suffix, _)| suffix);
        for (i, version) in (1..).zip(versions.split(',')) {
            if version.parse::<u32>().expect("a version") < from {
                continue;
            }
            let exported = if i == 1 { name.to_owned() } else { format!("{name}_v{i}") };
            let variants = [Some(exported.clone()), suffix.map(|s| format!("{exported}_{s}"))];
            out.extend(variants.into_iter().flatten().filter(|n| named.contains(n.as_str())));
        }
    }
    out
}

/// Every function of the C interface and of the one for PyTorch.
fn interface() -> Vec<String> {
    let text = sources("src/capi");
    let names = text.split("extern \"C\" fn ").skip(1).filter_map(|rest| rest.split('(').next());
    names.filter(|n| n.starts_with("coldpress_")).map(str::to_owned).collect()
}

/// The victim and the image of its kernels.
struct Built {
    victim: PathBuf,
    image: PathBuf,
}

fn build() -> Built {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let unique = |name: &str| folder.join(format!("panics-{name}-{}", std::process::id()));
    let built = Built { victim: unique("victim"), image: unique("kernels.so") };
    let parts =
        ["victim.c", "memory.c", "other.c"].map(|part| root().join("tests/panics").join(part));
    let done = Command::new("cc")
        .args(["-O1", "-g", "-Wall", "-Werror", "-pthread", "-o"])
        .arg(&built.victim)
        .args(parts)
        .arg("-ldl")
        .status();
    assert!(done.expect("cc").success());
    let done = Command::new("c++")
        .args(["-std=c++17", "-O1", "-x", "c++", "-fPIC", "-shared", "-fvisibility=hidden", "-o"])
        .arg(&built.image)
        .arg(root().join("kernels/demo/demo.cu"))
        .status();
    assert!(done.expect("c++").success());
    built
}

impl Drop for Built {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.victim);
        let _ = fs::remove_file(&self.image);
    }
}

/// What the victim said of the call under test.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    status: i64,
    calls: i64,
    left: serde_json::Value,
}

/// Runs the victim; what it told, if all was well with its memory.
fn victim(built: &Built, place: &str, hook: &str, stuck: bool) -> Result<Told, String> {
    let run = Run::preloaded(&built.victim).args([place, hook]).arg(&built.image);
    let run = if stuck { run.arg("stuck") } else { run };
    let run = run.env("SIMCUDA_LIBRARY", simulator()).env("SIMCUDA_DEVICES", "2");
    let run = run.env("SIMCUDA_MEMORY", "64MiB").env("SIMCUDA_GRANULARITY", "64KiB");
    // Kernels of the library itself would be counted as the program's launches.
    let run = run.env("COLDPRESS_CODEC", "cpu");
    let outcome = run.timeout(Duration::from_secs(60)).outcome();
    let bad = |why: &str| Err(format!("{place} {hook} stuck={stuck}: {why}: {outcome:#?}"));
    if outcome.hung || !outcome.status.success() || !outcome.stdout.ends_with("ok\n") {
        return bad("not well");
    }
    let report = outcome.report.as_ref().expect("a report");
    if report["faults"].as_array().map(Vec::len) != Some(0) {
        return bad("device work met an unmapped page");
    }
    let wanted = usize::from(place != "none");
    if panics(&outcome) != wanted
        || outcome.stderr.matches("managing nothing new").count() != wanted
    {
        return bad("not one panic, said once");
    }
    let line = outcome.stdout.lines().find_map(|l| l.strip_prefix("status "));
    let numbers = line.and_then(|l| l.split_once(" calls "));
    let parsed = numbers.and_then(|(s, c)| Some((s.parse().ok()?, c.parse().ok()?)));
    let Some((status, calls)) = parsed else { return bad("no status") };
    let mut left = report["leaks"].clone();
    // The range of addresses stays, where there ever was one.
    left["reservations"].take();
    Ok(Told { status, calls, left })
}

fn panics(outcome: &Outcome) -> usize {
    outcome.stderr.matches("TEST_COLDPRESS_PANIC at").count()
}

/// What must be told of a panic at `place`, where `usual` is told without one.
fn judge(hook: &str, place: &str, stuck: bool, usual: &Told, told: &Told) -> Result<(), String> {
    let bad =
        |why: &str| Err(format!("{place} {hook} stuck={stuck}: {why}: {told:?}, not {usual:?}"));
    // Refused, or not known to the simulator: the context lives on, and memory is kept ready for it.
    let ends = ["cuCtxDestroy", "cuCtxDestroy_v2", "cuCtxDetach"].contains(&hook);
    let lives_on = ends && told.status != 0;
    let more = |(what, n): (&String, &serde_json::Value)| {
        n.as_u64() > usual.left[what].as_u64() && !(lives_on && what == "handles")
    };
    if told.left.as_object().is_none_or(|left| left.iter().any(more)) {
        return bad("something is left in the driver");
    }
    if hook.starts_with("coldpress_") {
        // An error of its own, or nothing at all: the victim has looked at what it did.
        return Ok(());
    }
    let early = matches!(place, "enter" | "before");
    if !early {
        return match told.status == usual.status && told.calls == usual.calls {
            true => Ok(()),
            false => bad("not the answer of the call that was made"),
        };
    }
    // The context's memory is gone before the call is made, so nothing is away any more.
    let ends = hook.starts_with("cuDevicePrimaryCtxRe") && !hook.ends_with("Retain");
    if SERVED.contains(&hook) || (stuck && !(ends && told.status == usual.status)) {
        return match told.status != 0 && told.calls <= usual.calls.max(1) {
            true if (stuck || place == "before") && (told.status, told.calls) != (UNKNOWN, 0) => {
                bad("must be unknown, without a call")
            }
            true => Ok(()),
            false => bad("done although nobody could"),
        };
    }
    let allocates = hook.starts_with("cuMemAlloc") && !hook.contains("Host");
    match told.status == usual.status
        && (told.calls == usual.calls || (allocates && told.calls == 1))
    {
        true => Ok(()),
        false => bad("must be the driver's own answer, asked once"),
    }
}

/// Runs `job` for each of `items` on all processors; what went wrong.
fn each<T: Sync>(items: &[T], job: impl Fn(&T) -> Result<(), String> + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(text) = job(item) {
                        failures.lock().expect("no panic").push(text);
                    }
                }
            });
        }
    });
    failures.into_inner().expect("no panic")
}

#[test]
fn every_hook_may_panic() {
    let suite = Suite::begin("panics");
    let built = build();
    let (hooks, interface) = (hooks(), interface());
    assert!(hooks.len() > 100 && interface.len() > 20, "{} {}", hooks.len(), interface.len());
    let ways: &[(&str, bool)] = pick(
        &[("before", false), ("after", false), ("before", true)],
        &[
            ("enter", false),
            ("before", false),
            ("after", false),
            ("leave", false),
            ("enter", true),
            ("before", true),
            ("after", true),
            ("leave", true),
        ],
    );
    let runs = AtomicUsize::new(0);
    let names: Vec<&String> = hooks.iter().chain(&interface).collect();
    let failures = each(&names, |hook| {
        let usual = victim(&built, "none", hook, false)?;
        let ours = hook.starts_with("coldpress_");
        // Before such a hook has done anything its context is known, and then it is gone.
        let ends = hook.starts_with("cuCtxDe") || hook.starts_with("cuDevicePrimaryCtxRe");
        let early = [("enter", false)].into_iter().filter(|way| ends && !ways.contains(way));
        for (place, stuck) in ways.iter().copied().chain(early) {
            // In the C interface there is no call to be before or after.
            let place = match place {
                "before" if ours => "enter",
                "after" if ours => "leave",
                place => place,
            };
            if !can_panic(hook, place, stuck) {
                continue;
            }
            let told = victim(&built, place, hook, stuck)?;
            judge(hook, place, stuck, &usual, &told)?;
            runs.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    let engine = engine(&runs);
    let failures: Vec<String> = failures.into_iter().chain(engine.1).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n\n"));
    suite.end(json!({
        "hooks": hooks.len(),
        "interface": interface.len(),
        "ways": ways.len(),
        "all_ways": full(),
        "runs": runs.into_inner(),
        "engine": engine.0,
    }));
}

/// What has no such way.
fn can_panic(hook: &str, place: &str, stuck: bool) -> bool {
    // Nothing that could panic comes before such a hook knows whose memory it is about.
    if place == "enter" && SERVED.contains(&hook) {
        return false;
    }
    // Leads on to a hook of the driver's, which has its own case; or only hands out what is kept.
    if ["coldpress_malloc", "coldpress_free", "coldpress_last_error"].contains(&hook) {
        return false;
    }
    // Nothing is away when these are called, or before anything is there (see the victim).
    let nothing_away = [
        "cuInit",
        "cuMemcpyHtoDAsync_v2",
        "cuMemcpyDtoHAsync_v2",
        "cuStreamCreate",
        "cuStreamDestroy_v2",
        "cuMemHostRegister_v2",
        "cuMemHostUnregister",
        // Here the call itself is refused, before it could be made, when something stays away.
        "cuPointerSetAttribute",
        "coldpress_torch_free",
    ];
    // New memory of ours has to be mapped itself.
    if stuck && hook.starts_with("cuMemAlloc") && !hook.contains("Host") {
        return matches!(place, "enter" | "before");
    }
    !(stuck && nothing_away.contains(&hook))
}

/// Where the engine itself can be asked to panic.
const PLACES: &[&str] = &[
    "evict-marked",
    "evict-copying",
    "evict-copied",
    "evict-unmapped",
    "scan",
    "quiet",
    "rescue",
    "kernels",
    "search",
    "store-grows",
    "store-moves",
    "restore-begun",
    "restore-mapped",
    "restore-filled",
];

/// Random programs in which the engine panics on its way; runs a place, and what went wrong.
fn engine(runs: &AtomicUsize) -> (BTreeMap<String, usize>, Vec<String>) {
    let text = sources("src/residency");
    let points = text.split("fault::point(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let points: BTreeSet<&str> = points.collect();
    assert_eq!(
        points,
        PLACES.iter().copied().collect(),
        "each place is tried, and there are no others"
    );
    // Granule, limit, torture, host memory.
    let settings = [
        ("4KiB", "524288", "off", "25%"),
        ("64KiB", "4194304", "off", "1MiB"),
        ("4KiB", "524288", "on", "0"),
        ("64KiB", "4194304", "on", "2MiB"),
    ];
    let mut jobs = Vec::new();
    for place in PLACES {
        for n in 1..=pick(3, 12) {
            for (i, setting) in settings.iter().enumerate() {
                jobs.push((
                    *place,
                    n * (1 + i),
                    *setting,
                    ["eager", "lazy", "random:5"][(n + i) % 3],
                ));
            }
        }
    }
    let reached = Mutex::new(BTreeMap::new());
    let failures = each(&jobs, |&(place, n, (granularity, limit, torture, host), streams)| {
        let budget = (4 * limit.parse::<u64>().expect("a number")).to_string();
        let seed = (n + 40).to_string();
        let run = Run::preloaded(&artefact("cuda-fuzz"))
            .args(["--sweep", "panic", "--seed", &seed, "--steps", "60", "--limit", limit])
            .args(["--budget", &budget])
            .env("COLDPRESS_HOST_LIMIT", host)
            .env("SIMCUDA_LIBRARY", simulator())
            .env("SIMCUDA_STREAMS", streams)
            .env("SIMCUDA_GRANULARITY", granularity)
            .env("SIMCUDA_MEMORY", "64MiB")
            .env("COLDPRESS_LIMIT", limit)
            .env("COLDPRESS_TORTURE", torture)
            .env("TEST_COLDPRESS_PANIC", format!("{place}:{n}"))
            .timeout(Duration::from_secs(90));
        let outcome = run.outcome();
        let done: Vec<&str> = outcome.stdout.lines().filter(|l| l.starts_with("done ")).collect();
        let refused = |line: &str| ["refused=0 ", "refused=1 "].iter().any(|r| line.contains(r));
        // What a panic at the end of a context leaves in limbo goes with the next one.
        let limbo = |line: &str| line.contains("left=handles:") && !line.contains("events");
        let well = !outcome.hung
            && outcome.status.success()
            && done.len() == 2
            && done.iter().all(|line| refused(line))
            && (0..2).all(|i| {
                done[i].ends_with("left=")
                    || (place == "quiet" && limbo(done[i]) && done[1 - i].ends_with("left="))
            });
        runs.fetch_add(1, Ordering::Relaxed);
        *reached.lock().expect("no panic").entry(place.to_owned()).or_default() += panics(&outcome);
        if well && panics(&outcome) <= 1 {
            Ok(())
        } else {
            Err(format!("{place}:{n}: {outcome:#?}"))
        }
    });
    let reached: BTreeMap<String, usize> = reached.into_inner().expect("no panic");
    println!("panics of the engine: {reached:?}");
    for (place, n) in &reached {
        assert!(*n > 0, "{place} was never reached");
    }
    (reached, failures)
}
