//! `coldpress demo`: the same program without coldpress and in 40 % of its memory, compared.

mod child;
mod show;

use super::{Failure, Result, args, locate, print, print_json, real, say};
use child::{Child, Finished};
use coldpress::config::Loaded;
use coldpress::units::{Bytes, Size};
use serde::Serialize;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const PROGRAM: &str = "coldpress-demo-program";

/// What came out. Also the JSON document.
#[derive(Serialize)]
pub struct Report {
    schema: &'static str,
    version: u32,
    /// Path of the driver.
    driver: PathBuf,
    /// True on the simulated driver.
    simulated: bool,
    data: Option<PathBuf>,
    seed: u64,
    footprint_bytes: u64,
    limit_bytes: u64,
    /// The highest memory held on the card under coldpress.
    peak_bytes: Option<u64>,
    /// Who counted it.
    peak_counted_by: &'static str,
    within_limit: bool,
    digest_without: String,
    digest_under: String,
    digests_equal: bool,
    time_without_ns: u64,
    time_under_ns: u64,
    phases: Vec<Phase>,
    total: Moved,
}

/// One phase of the run under coldpress.
#[derive(Serialize)]
pub struct Phase {
    name: String,
    #[serde(flatten)]
    moved: Moved,
}

/// What coldpress did.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Moved {
    evictions: u64,
    evicted_bytes: u64,
    restores: u64,
    restored_bytes: u64,
    waits: u64,
    wait_ns: u64,
    verified_bytes: u64,
}

/// A folder for this run, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        let path = env::temp_dir().join(format!("coldpress-demo-{}", std::process::id()));
        fs::create_dir(&path)
            .map_err(|e| Failure::failed(format!("cannot make {}: {e}", path.display())))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind is small and in the temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The driver both runs use.
struct Driver {
    path: PathBuf,
    simulated: bool,
    /// Set when the loader would not find it by itself.
    named: bool,
}

fn driver() -> Result<Driver> {
    let named = env::var_os("COLDPRESS_REAL_LIBCUDA").is_some_and(|v| !v.is_empty());
    // A driver without a card is no use here either.
    if let Some(real) = real::find().ok().filter(|r| r.cards().is_ok_and(|c| !c.is_empty())) {
        let simulated = real.simulated();
        return Ok(Driver { path: real.path, simulated, named });
    }
    Ok(Driver { path: locate::need("libsimcuda.so")?, simulated: true, named: true })
}

pub fn demo(args: &args::Demo) -> Result {
    let share = Size::parse(&args.limit).ok_or_else(|| {
        Failure::usage(format!("--limit takes 40% or 100MiB, not {}", args.limit))
    })?;
    check_mode(&args.mode)?;
    let program = locate::need(PROGRAM)?;
    let driver = driver()?;
    let folder = Folder::new()?;
    say(&format!(
        "demo on {}{}",
        driver.path.display(),
        if driver.simulated { " (simulated: no GPU is used)" } else { "" }
    ));
    say("first without coldpress");
    let mut command = Command::new(&program);
    command.env_remove("LD_PRELOAD");
    if driver.named {
        command.env("LD_LIBRARY_PATH", search_path(&folder.0, &driver.path)?);
    }
    scale_granule(&mut command, &driver);
    let without = Child::start(arguments(&mut command, args), &folder.0)?.finish()?;
    let footprint = without.footprint()?;
    let limit = share.of(footprint);
    say(&format!("now under coldpress, limit {} of {}", Bytes(limit), Bytes(footprint)));
    let mut command = Command::new(env::current_exe().map_err(Failure::failed)?);
    command.args(["run", "--mode", &args.mode, "--limit", &limit.to_string(), "--"]).arg(&program);
    command.env("COLDPRESS_REAL_LIBCUDA", &driver.path);
    scale_granule(&mut command, &driver);
    if driver.simulated {
        // The program asks the simulator itself what it held, past us.
        command.env("SIMCUDA_LIBRARY", &driver.path);
    }
    let under = Child::start(arguments(&mut command, args), &folder.0)?.finish()?;
    let report = report(args, driver, footprint, limit, without, under)?;
    if args.json { print_json(&report) } else { print(&show::table(&report)) }?;
    Ok(ExitCode::from(u8::from(!(report.digests_equal && report.within_limit))))
}

/// The program is a fraction of a real job's size, and so is the simulated card's granule: with
/// 2 MiB a single launch of many small buffers could need more than the limit. The environment
/// may say otherwise.
fn scale_granule(command: &mut Command, driver: &Driver) {
    const GRANULE: &str = "SIMCUDA_GRANULARITY";
    if driver.simulated && env::var_os(GRANULE).is_none() {
        command.env(GRANULE, "64KiB");
    }
}

fn check_mode(mode: &str) -> Result<()> {
    let conf = vec![("COLDPRESS_CONF".to_owned(), format!("mode:{mode}"))];
    match Loaded::from_variables(conf).warnings.first() {
        Some(wrong) => Err(Failure::usage(wrong)),
        None => Ok(()),
    }
}

/// The program's arguments, the same for both runs.
fn arguments<'a>(command: &'a mut Command, args: &args::Demo) -> &'a mut Command {
    command.args(["--json", "--step", "--seed", &args.seed.to_string()]);
    command.args(["--scale", &args.scale.to_string()]);
    if let Some(data) = &args.data {
        command.arg("--data").arg(data);
    }
    command
}

/// `LD_LIBRARY_PATH` with a folder in front where `driver` has the name programs ask for.
fn search_path(folder: &Path, driver: &Path) -> Result<OsString> {
    let link = folder.join("libcuda.so.1");
    let target = fs::canonicalize(driver).map_err(Failure::failed)?;
    std::os::unix::fs::symlink(target, link).map_err(Failure::failed)?;
    let before = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let paths = std::iter::once(folder.to_path_buf())
        .chain(env::split_paths(&before).filter(|p| !p.as_os_str().is_empty()));
    env::join_paths(paths).map_err(Failure::failed)
}

fn report(
    args: &args::Demo,
    driver: Driver,
    footprint: u64,
    limit: u64,
    without: Finished,
    under: Finished,
) -> Result<Report> {
    let (peak, counted_by) = match under.driver_peak {
        Some(peak) => (Some(peak), "the simulated driver"),
        None => (under.own_peak, "coldpress"),
    };
    if under.phases.iter().all(|p| p.moved.is_none()) {
        return Err(Failure::failed("the program under coldpress has no statistics page"));
    }
    let mut before = Moved::default();
    let mut phases = Vec::new();
    for phase in under.phases {
        let now = phase.moved.unwrap_or(before);
        phases.push(Phase { name: phase.name, moved: now.since(before) });
        before = now;
    }
    Ok(Report {
        schema: "coldpress.demo",
        version: 1,
        driver: driver.path,
        simulated: driver.simulated,
        data: args.data.clone().or(env::var_os("COLDPRESS_CORPUS").map(PathBuf::from)),
        seed: args.seed,
        footprint_bytes: footprint,
        limit_bytes: limit,
        peak_bytes: peak,
        peak_counted_by: counted_by,
        within_limit: peak.is_some_and(|p| p <= limit),
        digests_equal: without.digest == under.digest,
        digest_without: without.digest,
        digest_under: under.digest,
        time_without_ns: without.time_ns,
        time_under_ns: under.time_ns,
        phases,
        total: before,
    })
}

impl Moved {
    /// What a statistics page counts so far.
    fn on(page: &coldpress::stats::Page) -> Moved {
        Moved {
            evictions: page.evictions.get(),
            evicted_bytes: page.evicted_bytes.get(),
            restores: page.restores.get(),
            restored_bytes: page.restored_bytes.get(),
            waits: page.launch_waits.count(),
            wait_ns: page.launch_waits.sum_ns(),
            verified_bytes: page.bytes_verified.get(),
        }
    }

    fn since(self, before: Moved) -> Moved {
        Moved {
            evictions: self.evictions - before.evictions,
            evicted_bytes: self.evicted_bytes - before.evicted_bytes,
            restores: self.restores - before.restores,
            restored_bytes: self.restored_bytes - before.restored_bytes,
            waits: self.waits - before.waits,
            wait_ns: self.wait_ns - before.wait_ns,
            verified_bytes: self.verified_bytes - before.verified_bytes,
        }
    }
}
