//! `coldpress doctor`: one line a check, with the next step where something is wrong.

use super::real::{self, Real};
use super::{Result, args, elf, locate, preload, print, print_json};
use coldpress::config::{self, host};
use coldpress::say::{Card, driver_shown, machine};
use coldpress::stats;
use coldpress::units::Bytes;
use serde::Serialize;
use std::ffi::CStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Fail,
}

#[derive(Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    text: String,
    /// What to do about it.
    next: Option<String>,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    version: u32,
    checks: Vec<Check>,
}

impl Check {
    fn ok(name: &'static str, text: impl Into<String>) -> Check {
        Check { name, status: Status::Ok, text: text.into(), next: None }
    }

    fn warn(name: &'static str, text: impl Into<String>, next: impl Into<String>) -> Check {
        Check { name, status: Status::Warn, text: text.into(), next: Some(next.into()) }
    }

    fn fail(name: &'static str, text: impl Into<String>, next: impl Into<String>) -> Check {
        Check { name, status: Status::Fail, text: text.into(), next: Some(next.into()) }
    }
}

pub fn doctor(args: &args::Doctor) -> Result {
    if args.probe {
        return probe();
    }
    let mut checks = Vec::new();
    let started = match real::find() {
        Ok(driver) => driver_checks(&driver, &mut checks),
        Err(why) => {
            checks.push(Check::fail(
                "driver",
                format!("none: {why}"),
                "install the NVIDIA driver, or name its library in COLDPRESS_REAL_LIBCUDA; \
                 coldpress demo works without",
            ));
            false
        }
    };
    library_checks(started, &mut checks);
    host_checks(&mut checks);
    environment_checks(&mut checks);
    let failed = checks.iter().any(|c| c.status == Status::Fail);
    if args.json {
        print_json(&Document { schema: "coldpress.doctor", version: 1, checks })?;
    } else {
        print(&listing(&checks))?;
    }
    Ok(ExitCode::from(u8::from(failed)))
}

fn listing(checks: &[Check]) -> String {
    let mut out = String::new();
    for check in checks {
        let status = match check.status {
            Status::Ok => "ok  ",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{status} {:<9} {}", check.name, check.text);
        if let Some(next) = &check.next {
            let _ = writeln!(out, "{:15}-> {next}", "");
        }
    }
    out
}

/// Says whether the driver starts.
fn driver_checks(driver: &Real, checks: &mut Vec<Check>) -> bool {
    let version = driver.cuda_version();
    let shown = driver_shown(version);
    let cuda = format!("CUDA {}.{}", version / 1000, version % 1000 / 10);
    let both = if shown == cuda { cuda } else { format!("version {shown}, {cuda}") };
    checks.push(Check::ok("driver", format!("{}: {both}", driver.path.display())));
    let cards = match driver.cards() {
        Ok(cards) if !cards.is_empty() => cards,
        Ok(_) => {
            let next = "check CUDA_VISIBLE_DEVICES and nvidia-smi";
            checks.push(Check::fail("devices", "the driver has no device", next));
            return false;
        }
        Err(status) => {
            let text = format!("the driver does not start: CUDA error {status}");
            checks.push(Check::fail("devices", text, "check nvidia-smi"));
            return false;
        }
    };
    let known: Vec<Card> =
        cards.iter().map(|c| Card { name: c.name.clone(), bytes: c.bytes }).collect();
    checks.push(Check::ok("devices", machine(&known)));
    let mut granules: Vec<u64> = cards.iter().filter_map(|c| c.granule).collect();
    granules.dedup();
    let shown: Vec<String> = granules.iter().map(|&g| Bytes(g).to_string()).collect();
    checks.push(if cards.iter().all(|c| c.vmm) && !granules.is_empty() {
        let text = format!("virtual memory management, granules of {}", shown.join(" and "));
        Check::ok("memory", text)
    } else {
        Check::fail(
            "memory",
            "a device has no virtual memory management",
            "coldpress will pass everything through; it needs a card of 2016 or later, not vGPU",
        )
    });
    true
}

fn library_checks(started: bool, checks: &mut Vec<Check>) {
    let library = match locate::library() {
        Ok(path) => path,
        Err(e) => {
            let next = "build it with cargo build, or install coldpress as one folder";
            checks.push(Check::fail("library", e.text, next));
            return;
        }
    };
    let soname = |path: &Path| elf::Elf::open(path).and_then(|e| e.soname());
    let shown = library.display();
    if soname(&library).as_deref() != Some("libcuda.so.1") {
        let text = format!("{shown} has another SONAME than libcuda.so.1");
        checks.push(Check::fail("library", text, "build it anew; COLDPRESS_LIBRARY names it"));
        return;
    }
    let alias = library.with_file_name("libcoldpress-alias.so");
    checks.push(if soname(&alias).as_deref() != Some("libcuda.so") {
        Check::warn(
            "library",
            format!("{shown}, but libcoldpress-alias.so is missing beside it"),
            "programs that open \"libcuda.so\" by that name get the driver; install both files",
        )
    } else if let Some(folder) = linked_folder(&library) {
        Check::warn(
            "library",
            format!("{shown} lies in a folder that ldconfig reads"),
            format!(
                "move it out of {}, or ldconfig makes it the system's driver",
                folder.display()
            ),
        )
    } else {
        Check::ok("library", shown.to_string())
    });
    checks.push(preload_check(&library, started));
}

/// The folder of `library` if `ldconfig` reads it.
fn linked_folder(library: &Path) -> Option<PathBuf> {
    let folder = library.parent()?.canonicalize().ok()?;
    let usual = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"].map(PathBuf::from);
    let files = std::fs::read_dir("/etc/ld.so.conf.d").into_iter().flatten().flatten();
    let texts = files.filter_map(|f| std::fs::read_to_string(f.path()).ok());
    let named: Vec<PathBuf> = texts
        .flat_map(|t| t.lines().map(|l| PathBuf::from(l.trim())).collect::<Vec<_>>())
        .filter(|p| p.is_absolute())
        .collect();
    let reads = |p: &PathBuf| p.canonicalize().is_ok_and(|p| p == folder);
    usual.iter().chain(&named).any(reads).then_some(folder)
}

/// Starts this command under the preload and asks what it got.
fn preload_check(library: &Path, started: bool) -> Check {
    const NAME: &str = "preload";
    let next = "run LD_DEBUG=libs coldpress run true to see what the loader does";
    let answer = match ask_probe(library) {
        Ok(answer) => answer,
        Err(why) => return Check::fail(NAME, why, next),
    };
    let ours = library.canonicalize().map(|p| p.display().to_string()).unwrap_or_default();
    let mut lines = answer.lines();
    if lines.next() != Some(ours.as_str()) {
        return Check::fail(NAME, "libcuda.so.1 is not coldpress under the preload", next);
    }
    if lines.next() != Some(ours.as_str()) {
        let next = "libcoldpress-alias.so must lie beside libcoldpress.so";
        return Check::warn(NAME, "libcuda.so is not coldpress under the preload", next);
    }
    match lines.next() {
        Some("0") => Check::ok(NAME, "programs get coldpress, and the driver starts under it"),
        // No driver: the usual answer is CUDA_ERROR_NO_DEVICE.
        Some("100") if !started => Check::ok(NAME, "programs get coldpress"),
        Some(status) if started => {
            let text = format!("cuInit fails under coldpress only: CUDA error {status}");
            Check::fail(NAME, text, "run with COLDPRESS_LOG=debug")
        }
        other => {
            let text = format!("cuInit answers {} without a driver", other.unwrap_or("nothing"));
            Check::warn(NAME, text, "programs expect CUDA error 100")
        }
    }
}

fn ask_probe(library: &Path) -> std::result::Result<String, String> {
    let command = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut child = Command::new(command)
        .args(["doctor", "--probe"])
        .env("LD_PRELOAD", preload::first(library).map_err(|f| f.text)?)
        .env("COLDPRESS_VERBOSE", "0")
        .env_remove("COLDPRESS_DISABLE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot start a program under the preload: {e}"))?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while child.try_wait().map_err(|e| e.to_string())?.is_none() {
        if Instant::now() > deadline {
            // It may have ended meanwhile; either way it is gone after this.
            let _ = child.kill();
            let _ = child.wait();
            return Err("a program under the preload hangs".to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(format!("a program under the preload fails: {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Under the preload: where `cuInit` comes from by either name, and what it says.
fn probe() -> Result {
    let mut out = String::new();
    let mut init = None;
    for name in [c"libcuda.so.1", c"libcuda.so"] {
        let found = look_up(name);
        let path = found.and_then(|f| real::image_of(f as *const _));
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}", path.unwrap_or_default().display());
        init = init.or(found);
    }
    if let Some(init) = init {
        let _ = writeln!(out, "{}", init(0));
    }
    print(&out)
}

fn look_up(name: &CStr) -> Option<extern "C" fn(u32) -> u32> {
    // SAFETY: a terminated string; the library is made to be opened by any program.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY) };
    if handle.is_null() {
        return None;
    }
    // SAFETY: the handle is open and stays so; the name is terminated.
    let found = unsafe { libc::dlsym(handle, c"cuInit".as_ptr()) };
    // SAFETY: null or a function of that type, by the name it was found under.
    unsafe { std::mem::transmute(found) }
}

fn host_checks(checks: &mut Vec<Check>) {
    let headroom = host::headroom().unwrap_or(0);
    let limit = config::get().host_limit_bytes();
    let text = format!(
        "{} can be spared, {} of it for evicted memory (host_limit)",
        Bytes(headroom),
        Bytes(limit)
    );
    checks.push(if limit < 256 << 20 {
        Check::warn(
            "host",
            text,
            "memory can hardly leave the card: raise host_limit or the cgroup",
        )
    } else {
        Check::ok("host", text)
    });
    let mut lock = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `lock` is a live local.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut lock) };
    checks.push(if lock.rlim_cur == libc::RLIM_INFINITY {
        Check::ok("memlock", "unlimited")
    } else {
        let text =
            format!("{} may be locked; the driver pins memory past it", Bytes(lock.rlim_cur));
        Check::ok("memlock", text)
    });
    checks.push(match stats::folder() {
        Ok(folder) => Check::ok("stat", folder.display().to_string()),
        Err(e) => Check::warn(
            "stat",
            format!("no statistics pages: {e}"),
            "set XDG_RUNTIME_DIR to a folder of yours; coldpress stat, off and on need it",
        ),
    });
}

fn environment_checks(checks: &mut Vec<Check>) {
    let loaded = config::loaded();
    if loaded.warnings.is_empty() {
        let set = loaded.settings.iter().filter(|s| s.origin != config::Origin::Default).count();
        checks.push(Check::ok("options", format!("{set} set; coldpress env lists them")));
    }
    for warning in &loaded.warnings {
        checks.push(Check::warn("options", warning, "see coldpress env"));
    }
    if let Some(why) = &loaded.config.disabled {
        checks.push(Check::warn("options", format!("coldpress is off: {why}"), "unset it"));
    }
    let value = |name: &str| std::env::var(name).unwrap_or_default();
    if std::env::var_os("CUDA_MPS_PIPE_DIRECTORY").is_some() {
        checks.push(if loaded.config.mps {
            Check::warn("mps", "eviction under MPS (mps:on)", "one fault would end every client")
        } else {
            let next = "mps:on allows it, at the risk that one fault ends every client";
            Check::warn("mps", "MPS is in use: nothing will be evicted", next)
        });
    }
    for name in ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"] {
        let text = value(name).to_ascii_lowercase().replace(' ', "");
        if text.contains("expandable_segments:true") {
            checks.push(Check::warn(
                "pytorch",
                format!("{name} has expandable_segments:True"),
                "that memory is the program's own to map, so it never leaves the card: drop the \
                 setting",
            ));
        }
    }
    let jax = ["XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"];
    let set = jax.iter().any(|n| std::env::var_os(n).is_some());
    if set && value("XLA_PYTHON_CLIENT_PREALLOCATE") != "false" {
        checks.push(Check::warn(
            "jax",
            "JAX takes most of the card as one allocation",
            "set XLA_PYTHON_CLIENT_PREALLOCATE=false",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_has_a_next_step_under_what_is_wrong() {
        let checks = [Check::ok("driver", "there"), Check::fail("memory", "none", "buy some")];
        assert_eq!(
            listing(&checks),
            "ok   driver    there\nFAIL memory    none\n               -> buy some\n"
        );
    }
}
