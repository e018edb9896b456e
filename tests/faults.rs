//! Every driver call that a program reaches fails once, whether the program made it or the library.
//!
//! `cuda-fuzz --sweep` (tests/fuzz/src/sweep) runs the programs, one for each point: the n-th call
//! of a function returns an error and does nothing. The program goes on; what was refused did not
//! happen. At its end every byte is what the model says, and the driver holds nothing of it any more
//! but what [`ALLOWED`] says, which the next program must find gone.
//!
//! TEST_COLDPRESS_FAULTS_SEED    seed of the first program (default: the day; printed)

mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use support::full::{Suite, full, pick};
use support::{Folder, artefact, library, simulator};

/// What a failing call of a function may do besides being reported once or not at all.
struct Allowed {
    name: &'static str,
    /// What may be left of the program at its end: it is gone after the next one.
    leaves: &'static [&'static str],
    /// Eviction may be off afterwards.
    off: bool,
}

const ALLOWED: &[Allowed] = &[
    // The handle stays in the pool and goes with it the next time.
    Allowed { name: "cuMemRelease", leaves: &["handles"], off: false },
    // The block stays in limbo, mapped, and is taken apart the next time.
    Allowed { name: "cuMemUnmap", leaves: &["handles", "mappings"], off: false },
    // A kernel whose parameters are not known can reach anything.
    Allowed { name: "cuFuncGetParamInfo", leaves: &[], off: true },
    // What the library knew of a context is gone with the attempt to destroy it.
    Allowed { name: "cuDevicePrimaryCtxRelease_v2", leaves: &[], off: true },
];

/// One way to run the programs.
#[derive(Clone, Copy, Debug)]
struct Setting {
    streams: &'static str,
    granularity: &'static str,
    limit: Option<u64>,
    torture: bool,
    steps: u64,
    codec: &'static str,
    /// Memory of the host for pages; what does not fit stays in the device's store.
    host: &'static str,
}

/// Streams whose order is the same every time, so that the n-th call is the same one; both sizes of
/// granules; short of memory, and evicting after every operation; pages coded by the device and by the
/// processor, in limits that are large enough for a store of them.
const SETTINGS: &[Setting] = &[
    Setting { limit: Some(512 << 10), steps: 60, ..setting("eager", "4KiB") },
    Setting { limit: Some(1 << 20), steps: 100, ..setting("lazy", "64KiB") },
    Setting { torture: true, steps: 25, ..setting("random", "4KiB") },
    Setting { limit: Some(1 << 20), torture: true, steps: 25, ..setting("eager", "64KiB") },
    Setting { limit: Some(1 << 20), steps: 100, ..setting("random", "64KiB") },
    Setting { limit: Some(512 << 10), torture: true, steps: 25, ..setting("lazy", "4KiB") },
    Setting { limit: Some(4 << 20), steps: 80, host: "1MiB", ..setting("eager", "64KiB") },
    Setting {
        limit: Some(4 << 20),
        steps: 80,
        host: "0",
        codec: "cpu",
        ..setting("lazy", "64KiB")
    },
    Setting {
        limit: Some(4 << 20),
        torture: true,
        steps: 25,
        host: "1MiB",
        codec: "cpu",
        ..setting("random", "64KiB")
    },
];

const fn setting(streams: &'static str, granularity: &'static str) -> Setting {
    let (codec, host) = ("auto", "25%");
    Setting { streams, granularity, limit: None, torture: false, steps: 0, codec, host }
}

/// A program in a setting.
#[derive(Clone, Copy, Debug)]
struct Case {
    setting: Setting,
    seed: u64,
}

impl Case {
    fn command(&self, what: &str, folder: &Folder) -> Command {
        let Setting { streams, granularity, limit, torture, steps, codec, host } = self.setting;
        let mut command = Command::new(artefact("cuda-fuzz"));
        for (name, _) in std::env::vars() {
            if name.starts_with("COLDPRESS_") || name.starts_with("SIMCUDA_") {
                command.env_remove(name);
            }
        }
        let streams = match streams {
            "random" => format!("random:{}", self.seed),
            other => other.to_owned(),
        };
        let simulator = simulator();
        command
            .args(["--sweep", what, "--timeout", "60"])
            .args(["--seed", &self.seed.to_string(), "--steps", &steps.to_string()])
            .env("LD_PRELOAD", library())
            .env("COLDPRESS_REAL_LIBCUDA", &simulator)
            .env("XDG_RUNTIME_DIR", folder.path())
            .env("SIMCUDA_LIBRARY", &simulator)
            .env("SIMCUDA_STREAMS", streams)
            .env("SIMCUDA_GRANULARITY", granularity)
            .env("SIMCUDA_MEMORY", "64MiB")
            .env("COLDPRESS_CODEC", codec)
            .env("COLDPRESS_HOST_LIMIT", host)
            .env("COLDPRESS_TORTURE", if torture { "on" } else { "off" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(limit) = limit {
            command.args(["--limit", &limit.to_string()]).env("COLDPRESS_LIMIT", limit.to_string());
            // Where there is room for a store there is more to put into it.
            if limit > 1 << 20 {
                command.args(["--budget", &(4 * limit).to_string()]);
            }
        }
        command
    }

    /// How a failure is told, so that it can be repeated by hand.
    fn told(&self, what: &str, point: &str, text: &str) -> String {
        let command = self.command(what, &Folder::new());
        let mut told = format!("{point}: {text}\n ");
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                let _ = write!(told, " {}={}", name.to_string_lossy(), value.to_string_lossy());
            }
        }
        if what == "cold" {
            let _ = write!(told, " SIMCUDA_FAIL={point}");
        }
        for arg in [command.get_program()].into_iter().chain(command.get_args()) {
            let _ = write!(told, " {}", arg.to_string_lossy());
        }
        if what == "points" {
            let _ = write!(told, " <<<{point}");
        }
        told
    }
}

/// What happened at one point.
#[derive(Debug)]
struct Done {
    reached: bool,
    refused: u32,
    off: bool,
    left: Vec<String>,
}

impl Done {
    /// From `done reached=1 refused=0 off=0 left=handles:1`.
    fn read(line: &str) -> Option<Done> {
        let fields: BTreeMap<&str, &str> =
            line.strip_prefix("done ")?.split(' ').filter_map(|f| f.split_once('=')).collect();
        let left = fields.get("left")?.split(',').filter(|l| !l.is_empty());
        Some(Done {
            reached: *fields.get("reached")? == "1",
            refused: fields.get("refused")?.parse().ok()?,
            off: *fields.get("off")? == "1",
            left: left.filter_map(|l| Some(l.split_once(':')?.0.to_owned())).collect(),
        })
    }

    /// What about it is not allowed.
    fn judge(&self, name: &str) -> Option<String> {
        let allowed = ALLOWED.iter().find(|a| a.name == name);
        let leaves = allowed.map_or(&[][..], |a| a.leaves);
        if self.refused > 1 {
            return Some(format!("one failing call is seen {} times", self.refused));
        }
        if let Some(what) = self.left.iter().find(|what| !leaves.contains(&what.as_str())) {
            return Some(format!("{what} are left"));
        }
        (self.off && !allowed.is_some_and(|a| a.off)).then(|| "eviction is off".to_owned())
    }
}

/// What the suite counts for one function.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    /// Calls that the programs make.
    calls: u64,
    /// Points tried.
    points: u64,
    /// Where the call came to be made.
    reached: u64,
    /// Where the program saw an error.
    seen: u64,
}

#[derive(Debug, Default)]
struct Results {
    warm: BTreeMap<String, Counted>,
    cold: BTreeMap<String, Counted>,
    failures: Vec<String>,
}

impl Results {
    fn add(&mut self, cold: bool, case: &Case, point: &str, done: Result<Done, String>) {
        let name = point.split(':').next().unwrap_or(point);
        let all = if cold { &mut self.cold } else { &mut self.warm };
        let counted = all.entry(name.to_owned()).or_default();
        counted.points += 1;
        let bad = match &done {
            Ok(done) => {
                counted.reached += u64::from(done.reached);
                counted.seen += u64::from(done.refused > 0);
                done.judge(name)
            }
            Err(text) => Some(text.clone()),
        };
        if let Some(text) = bad {
            let what = if cold { "cold" } else { "points" };
            self.failures.push(case.told(what, point, &text));
        }
    }
}

/// The code with which the n-th call of a function fails: memory is short, or nobody knows why.
fn point(name: &str, n: u64) -> String {
    format!("{name}:{n}={}", if n.is_multiple_of(4) { 999 } else { 2 })
}

/// At most `most` of the numbers 1 to `all`, evenly from a start that the seed gives.
fn some_of(all: u64, most: u64, seed: u64) -> Vec<u64> {
    if all <= most {
        return (1..=all).collect();
    }
    let start = seed % all;
    let mut out: Vec<u64> = (0..most).map(|i| (start + i * all / most) % all + 1).collect();
    out.sort_unstable();
    out
}

/// `KIND NAME N` lines of the counting run.
fn count(case: &Case) -> Result<Vec<(bool, String, u64)>, String> {
    let folder = Folder::new();
    let output = case.command("count", &folder).output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(case.told("count", "no point", &format!("{}: {text}{errors}", output.status)));
    }
    let line = |line: &str| {
        let mut words = line.split(' ');
        let (kind, name, n) = (words.next()?, words.next()?, words.next()?);
        Some((kind == "cold", name.to_owned(), n.parse().ok()?))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// Ends the process whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One process for as many of the points as it gets to; what happened at each, and how it ended.
fn process(case: &Case, points: &[String]) -> (Vec<Result<Done, String>>, ExitStatus) {
    let folder = Folder::new();
    let mut running = Running(case.command("points", &folder).spawn().expect("cuda-fuzz starts"));
    let child = &mut running.0;
    let (mut input, output) = (child.stdin.take().expect("piped"), child.stdout.take());
    let mut errors = child.stderr.take().expect("piped");
    let list = points.join("\n") + "\n";
    let mut done: Vec<Result<Done, String>> = Vec::new();
    let mut begun = 0;
    let mut said = String::new();
    let complaints = std::thread::scope(|scope| {
        // It may end before it has read them all.
        scope.spawn(move || drop(input.write_all(list.as_bytes())));
        let complaints = scope.spawn(move || {
            let mut bytes = Vec::new();
            let _ = errors.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        for line in BufReader::new(output.expect("piped")).lines().map_while(Result::ok) {
            if line.starts_with("point ") {
                begun += 1;
            } else if let Some(one) = Done::read(&line) {
                done.push(Ok(one));
            } else {
                said = line;
            }
        }
        complaints.join().expect("reader")
    });
    let status = running.0.wait().expect("wait");
    let fine = status.success() || status.code() == Some(TURNED_OFF);
    if !fine {
        // At the last one begun, or in the run after it, which finds what it left behind.
        done.truncate(begun.max(1) - 1);
        done.push(Err(format!("{status}: {said}\n{complaints}")));
    }
    (done, status)
}

/// See tests/fuzz/src/sweep/mod.rs.
const TURNED_OFF: i32 = 4;

/// All points of a case in as many processes as it takes.
fn sweep(case: &Case, mut points: &[String], results: &Mutex<Results>) {
    while !points.is_empty() {
        let (done, status) = process(case, points);
        let n = done.len();
        let mut results = results.lock().expect("no panic");
        if n == 0 {
            results.failures.push(case.told("points", &points[0], &format!("{status}: nothing")));
            return;
        }
        for (point, done) in points.iter().zip(done) {
            results.add(false, case, point, done);
        }
        // One bug shows at many points; some are enough.
        if results.failures.len() > 20 {
            return;
        }
        points = &points[n.min(points.len())..];
    }
}

/// A call that only the first program of a process makes.
fn cold(case: &Case, point: &str) -> Result<Done, String> {
    let folder = Folder::new();
    let mut command = case.command("cold", &folder);
    let output = command.env("SIMCUDA_FAIL", point).stdin(Stdio::null()).output();
    let output = output.map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let done = text.lines().find_map(Done::read);
    done.filter(|_| output.status.success()).ok_or_else(|| {
        format!("{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr))
    })
}

/// Runs `job` for each of `items`, on as many threads as there are processors.
fn each<T: Sync>(items: &[T], job: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    job(item);
                }
            });
        }
    });
}

fn first_seed() -> u64 {
    let day = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() / 86_400);
    std::env::var("TEST_COLDPRESS_FAULTS_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(day)
}

#[test]
fn every_call_may_fail_once() {
    let suite = Suite::begin("faults");
    let seed = first_seed();
    println!("TEST_COLDPRESS_FAULTS_SEED={seed}");
    let cases: Vec<Case> =
        SETTINGS.iter().zip(seed..).map(|(&setting, seed)| Case { setting, seed }).collect();
    let results = Mutex::new(Results::default());
    let work = Mutex::new(Vec::new());
    let starts = Mutex::new(BTreeSet::new());
    each(&cases, |case| {
        let counts = count(case);
        let mut results = results.lock().expect("no panic");
        let counts = match counts {
            Ok(counts) => counts,
            Err(text) => return results.failures.push(text),
        };
        let warm: BTreeMap<&str, u64> =
            counts.iter().filter(|c| !c.0).map(|(_, name, n)| (name.as_str(), *n)).collect();
        for (is_cold, name, n) in &counts {
            let counted = match is_cold {
                true => results.cold.entry(name.clone()).or_default(),
                false => results.warm.entry(name.clone()).or_default(),
            };
            // What a first program does more of is its start.
            let n = if *is_cold {
                n.saturating_sub(*warm.get(name.as_str()).unwrap_or(&0))
            } else {
                *n
            };
            counted.calls += n;
            if *is_cold {
                let mut starts = starts.lock().expect("no panic");
                starts.extend(some_of(n, pick(2, 8), seed).into_iter().map(|n| point(name, n)));
                continue;
            }
            let points = some_of(n, pick(6, u64::MAX), case.seed);
            let points: Vec<String> = points.into_iter().map(|n| point(name, n)).collect();
            // In pieces, so that the processors share them.
            let pieces = points.chunks(200).map(|piece| (*case, piece.to_vec()));
            work.lock().expect("no panic").extend(pieces);
        }
    });
    let work = join(work.into_inner().expect("no panic"));
    each(&work, |(case, points)| sweep(case, points, &results));
    let starts: Vec<String> = starts.into_inner().expect("no panic").into_iter().collect();
    each(&starts, |point| {
        let case = cases[point.len() % cases.len()];
        let done = cold(&case, point);
        results.lock().expect("no panic").add(true, &case, point, done);
    });

    let results = results.into_inner().expect("no panic");
    let counts = report(&results, seed, cases.len());
    assert!(results.failures.is_empty(), "{}", results.failures.join("\n\n"));
    for (name, counted) in &results.warm {
        assert!(counted.reached > 0, "{name}: no call was reached in {} tries", counted.points);
    }
    suite.end(counts);
}

/// Pieces of one case put together up to a size at which a process pays.
fn join(pieces: Vec<(Case, Vec<String>)>) -> Vec<(Case, Vec<String>)> {
    let mut out: Vec<(Case, Vec<String>)> = Vec::new();
    for (case, points) in pieces {
        match out.iter_mut().find(|(c, list)| c.seed == case.seed && list.len() < 150) {
            Some((_, list)) => list.extend(points),
            None => out.push((case, points)),
        }
    }
    out
}

/// Prints the coverage; the numbers to keep.
fn report(results: &Results, seed: u64, programs: usize) -> Value {
    let mut names = serde_json::Map::new();
    for (kind, all) in [("", &results.warm), (" at the start", &results.cold)] {
        for (name, c) in all.iter().filter(|(_, c)| c.points > 0) {
            let Counted { calls, points, reached, seen } = *c;
            println!(
                "{:<44} {points:>5} of {calls:>5} calls failed, {reached:>5} reached, {seen:>5} seen \
                 by the program",
                format!("{name}{kind}")
            );
            let counts =
                json!({"calls": calls, "points": points, "reached": reached, "seen": seen});
            names.insert(format!("{name}{kind}"), counts);
        }
    }
    let all = || results.warm.values().chain(results.cold.values());
    let sum = |of: fn(&Counted) -> u64| all().map(of).sum::<u64>();
    json!({
        "seed": seed,
        "programs": programs,
        "all_points": full(),
        "functions": names.len(),
        "points": sum(|c| c.points),
        "reached": sum(|c| c.reached),
        "seen": sum(|c| c.seen),
        "names": names,
    })
}
