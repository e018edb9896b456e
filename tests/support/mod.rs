//! What integration tests share: where the built parts are, a folder in which the simulator is
//! the driver, running a program under a watchdog.
#![allow(dead_code, reason = "each test program uses its part")]

pub mod full;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// A built file of the workspace. A library that was only built for tests is in `deps`, with an
/// older one beside it perhaps, so the youngest counts.
pub fn artefact(name: &str) -> PathBuf {
    let this = env::current_exe().expect("path of this test");
    let deps = this.parent().expect("target/PROFILE/deps");
    let profile = deps.parent().expect("target/PROFILE");
    let age = |path: &PathBuf| fs::metadata(path).and_then(|m| m.modified()).ok();
    [deps.join(name), profile.join(name)]
        .into_iter()
        .filter(|path| path.is_file())
        .max_by_key(age)
        .unwrap_or_else(|| panic!("{name} is not in {}: build the workspace", profile.display()))
}

/// The library under test.
pub fn library() -> PathBuf {
    artefact("libcoldpress.so")
}

/// The simulated driver.
pub fn simulator() -> PathBuf {
    artefact("libsimcuda.so")
}

/// A program of `tests/programs`, compiled when it is first needed.
pub fn program(name: &str) -> PathBuf {
    compile(name, name, &["-ldl", "-lpthread"])
}

/// A source of `tests/programs` (without `.c`) compiled to `target` with `args`.
pub fn compile(source: &str, target: &str, args: &[&str]) -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(source);
    let file = file.with_extension("c");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    fs::create_dir_all(&folder).expect("a folder for programs");
    let made = folder.join(target);
    let age = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let headers = fs::read_dir(file.parent().expect("a folder")).expect("tests/programs");
    let headers = headers.filter_map(|e| Some(e.ok()?.path()));
    let headers = headers.filter(|p| p.extension().is_some_and(|e| e == "h"));
    if headers.chain([file.clone()]).all(|source| age(&made) > age(&source)) {
        return made;
    }
    // Several tests may be at it; each makes its own and the last rename counts.
    let own = folder.join(unique(target));
    let done = Command::new("cc")
        .args(["-O1", "-g", "-Wall", "-Werror", "-pthread"])
        .arg(&file)
        .arg("-o")
        .arg(&own)
        .args(args)
        .status();
    assert!(done.expect("cc").success(), "{} does not compile", file.display());
    fs::rename(&own, &made).expect("the program's name");
    made
}

/// A source of kernels as an image that the simulator loads; `name` is the image's.
pub fn kernels(source: &str, name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let image = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique(name));
    let done = Command::new("c++")
        .args(["-std=c++17", "-O1", "-x", "c++", "-fPIC", "-shared", "-fvisibility=hidden"])
        .arg("-o")
        .args([&image, &root.join(source)])
        .status();
    assert!(done.expect("c++").success(), "{source} does not compile");
    image
}

fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}.{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A folder that goes away.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new one.
    pub fn new() -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("folder"));
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    /// A new one in which `driver` is `libcuda.so.1`.
    pub fn with_driver(driver: &Path) -> Folder {
        let folder = Folder::new();
        std::os::unix::fs::symlink(driver, folder.join("libcuda.so.1")).expect("a link");
        folder
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a program left behind.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Whether the watchdog had to end it.
    pub hung: bool,
    /// Its output.
    pub stdout: String,
    /// Its errors, ours among them.
    pub stderr: String,
    /// What the simulator reported at exit.
    pub report: Option<serde_json::Value>,
}

impl Outcome {
    /// Fails the test unless the program ended well.
    #[track_caller]
    pub fn well(self) -> Outcome {
        assert!(!self.hung, "hung: {self:#?}");
        assert!(self.status.success(), "signal {:?}: {self:#?}", self.status.signal());
        self
    }

    /// The lines the library said, without its name.
    pub fn said(&self) -> Vec<&str> {
        self.stderr.lines().filter_map(|l| l.strip_prefix("coldpress: ")).collect()
    }

    /// How often the simulator saw a call of this exported name.
    pub fn calls(&self, name: &str) -> u64 {
        let report = self.report.as_ref().expect("a report of the simulator");
        report["calls"][name].as_u64().unwrap_or(0)
    }
}

/// A program about to run: on the simulator, without the library, in a clean environment.
#[derive(Debug)]
pub struct Run {
    program: PathBuf,
    args: Vec<OsString>,
    variables: BTreeMap<OsString, OsString>,
    timeout: Duration,
    folder: Folder,
}

impl Run {
    /// The program at `path`; `libcuda.so.1` is the simulator.
    pub fn new(path: &Path) -> Run {
        let folder = Folder::with_driver(&simulator());
        let run = Run {
            program: path.to_path_buf(),
            args: Vec::new(),
            variables: BTreeMap::new(),
            timeout: Duration::from_secs(60),
            folder,
        };
        let report = run.folder.join("report.json");
        let at = run.folder.path().to_path_buf();
        // Tests that provoke panics need no backtraces, which are slow to write.
        let run = run.env("RUST_BACKTRACE", "0");
        // The statistics page goes where nobody else's is.
        run.env("LD_LIBRARY_PATH", &at).env("XDG_RUNTIME_DIR", &at).env("SIMCUDA_REPORT", report)
    }

    /// The program with the library preloaded.
    pub fn preloaded(path: &Path) -> Run {
        Run::new(path).env("LD_PRELOAD", library())
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Run {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Run {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Run {
        self.variables.insert(name.into(), value.as_ref().to_owned());
        self
    }

    /// A thread of it stops at this place of the library (`src/fault.rs`) until the program, which
    /// finds the gate in `TEST_COLDPRESS_GATE`, lets it go on.
    pub fn paused(self, place: &str) -> Run {
        let gate = self.folder.join("gate");
        let made = Command::new("mkfifo").arg(&gate).status();
        assert!(made.expect("mkfifo").success());
        self.env("TEST_COLDPRESS_PAUSE", place).env("TEST_COLDPRESS_GATE", gate)
    }

    /// Gives it so long; the watchdog ends it then.
    pub fn timeout(mut self, timeout: Duration) -> Run {
        self.timeout = timeout;
        self
    }

    /// The folder it runs with.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Runs it to its end.
    pub fn outcome(self) -> Outcome {
        self.outcome_and(|_| ()).0
    }

    /// As [`Run::outcome`], and what `look` finds in its folder then.
    pub fn outcome_and<R>(self, look: impl FnOnce(&Path) -> R) -> (Outcome, R) {
        let mut command = Command::new(&self.program);
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("COLDPRESS_") || text.starts_with("SIMCUDA_") {
                command.env_remove(&name);
            }
        }
        // Cargo's own library path leads to its build folders.
        command.env_remove("LD_LIBRARY_PATH").env_remove("LD_PRELOAD");
        command.args(&self.args).envs(&self.variables);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdout = reader(child.stdout.take());
        let stderr = reader(child.stderr.take());
        let started = Instant::now();
        let mut hung = false;
        let status = loop {
            if let Some(status) = child.try_wait().expect("wait") {
                break status;
            }
            if started.elapsed() > self.timeout {
                hung = true;
                let _ = child.kill();
            }
            thread::sleep(Duration::from_millis(5));
        };
        let report = fs::read(self.folder.join("report.json")).ok();
        let found = look(self.folder.path());
        let outcome = Outcome {
            status,
            hung,
            stdout: stdout.join().expect("reader"),
            stderr: stderr.join().expect("reader"),
            report: report.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
        };
        (outcome, found)
    }
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
