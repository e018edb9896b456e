//! Whatever way a program gets at the driver, it gets this library; and every way ends at the
//! same address for the same variant.

use crate::support::{Folder, Run, compile, library, program, simulator};
use coldpress::exports::{EXPORTS, Export};
use std::path::Path;

/// A driver that has all names of the list.
const NEWEST: &str = "13050";

fn probe() -> Run {
    Run::preloaded(&program("probe")).env("SIMCUDA_DRIVER_VERSION", NEWEST)
}

/// The names of all exports, one a line.
fn names_in(folder: &Folder) -> String {
    let names: Vec<&str> = EXPORTS.iter().map(Export::name).collect();
    let path = folder.join("names");
    std::fs::write(&path, names.join("\n")).expect("a file");
    path.display().to_string()
}

/// Fails unless every exported name was found in the library.
#[track_caller]
fn all_ours(run: Run, ops: &[&str]) {
    let names = format!("names:{}", names_in(run.folder()));
    let outcome = run.args(ops).arg(names).outcome().well();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), EXPORTS.len(), "{ops:?}: {}", outcome.stdout);
    let wrong = lines.iter().find(|line| !line.ends_with(" libcoldpress.so"));
    assert_eq!(wrong, None, "{ops:?}");
}

#[test]
fn every_name_is_in_the_symbol_table() {
    let out = std::process::Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(library())
        .output()
        .expect("nm");
    let text = String::from_utf8_lossy(&out.stdout);
    let found: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(" T ")).map(|p| p.1).collect();
    let missing: Vec<&str> =
        EXPORTS.iter().map(Export::name).filter(|name| !found.contains(name)).collect();
    assert_eq!(missing, [""; 0]);
    let more: Vec<&&str> = found
        .iter()
        .filter(|name| !name.starts_with("coldpress_"))
        .filter(|name| EXPORTS.iter().all(|e| e.name() != **name))
        .collect();
    assert!(more.is_empty(), "exported beside the driver's names: {more:?}");
}

#[test]
fn the_command_and_tests_export_nothing() {
    for file in
        [Path::new(env!("CARGO_BIN_EXE_coldpress")), &std::env::current_exe().expect("path")]
    {
        let out = std::process::Command::new("nm").arg("-D").arg(file).output().expect("nm");
        let text = String::from_utf8_lossy(&out.stdout);
        let cuda = text.lines().find(|line| line.contains(" T cu"));
        assert_eq!(cuda, None, "{} could stand in for the driver", file.display());
    }
}

#[test]
fn preloaded_and_opened_by_soname() {
    all_ours(probe(), &["open:libcuda.so.1"]);
}

#[test]
fn preloaded_and_opened_without_version() {
    all_ours(probe(), &["open:libcuda.so"]);
}

#[test]
fn preloaded_and_opened_lazily_for_everybody() {
    all_ours(probe(), &["lazy:libcuda.so.1"]);
}

#[test]
fn preloaded_and_bound_deeply() {
    all_ours(probe(), &["deep:libcuda.so.1"]);
    all_ours(probe(), &["deep:libcuda.so"]);
}

#[test]
fn preloaded_and_looked_up_without_opening() {
    all_ours(probe(), &["default"]);
}

#[test]
fn loaded_in_the_process_first() {
    let open = format!("open:{}", library().display());
    let run = || Run::new(&program("probe")).env("SIMCUDA_DRIVER_VERSION", NEWEST);
    all_ours(run(), &[&open]);
    all_ours(run(), &[&open, "open:libcuda.so.1"]);
    all_ours(run(), &[&open, "open:libcuda.so"]);
    all_ours(run(), &[&open, "deep:libcuda.so.1"]);
}

#[test]
fn found_in_the_library_path_under_the_drivers_name() {
    let folder = Folder::with_driver(&library());
    let path = format!("{}:{}", folder.path().display(), Folder::new().path().display());
    let run = Run::new(&program("probe")).env("LD_LIBRARY_PATH", path);
    let run = run.env("COLDPRESS_REAL_LIBCUDA", simulator());
    let outcome = run.args(["open:libcuda.so.1", "init"]).outcome().well();
    assert_eq!(outcome.stdout, "init 0\n");
    assert_eq!(outcome.calls("cuInit"), 1);
}

#[test]
fn in_the_library_path_before_the_driver() {
    // Our own link comes first in the search; it is skipped.
    let (ours, real) = (Folder::with_driver(&library()), Folder::with_driver(&simulator()));
    let path = format!("{}:{}", ours.path().display(), real.path().display());
    let run = Run::new(&program("probe")).env("LD_LIBRARY_PATH", path);
    let outcome = run.args(["open:libcuda.so.1", "file:cuInit", "init"]).outcome().well();
    assert!(outcome.stdout.ends_with("init 0\n"), "{outcome:#?}");
    assert_eq!(outcome.calls("cuInit"), 1);
}

#[test]
fn linked_against_the_driver() {
    let driver = simulator();
    let linked = compile("linked", "linked", &[driver.to_str().expect("path"), "-ldl"]);
    let outcome = Run::preloaded(&linked).outcome().well();
    let wanted = "init 0\nsymbol 1\nresolver 0 1\nfile ";
    assert!(outcome.stdout.starts_with(wanted), "{}", outcome.stdout);
    assert!(outcome.stdout.ends_with("libcoldpress.so\n"), "{}", outcome.stdout);
}

/// `base version flags symbol`, for every way to ask for a variant by its own version.
fn questions() -> Vec<String> {
    let mut out = Vec::new();
    let mut ask = |e: &Export, version: i32, flags: u32, symbol: &str| {
        out.push(format!("{} {version} {flags} {symbol}", e.base));
    };
    for e in &EXPORTS {
        let twins = || EXPORTS.iter().filter(|t| t.base == e.base);
        if e.per_thread {
            ask(e, e.version, 2, e.name());
            continue;
        }
        ask(e, e.version, 0, e.name());
        ask(e, e.version, 1, e.name());
        // The per-thread flag means nothing where there is no such variant yet.
        if !twins().any(|t| t.per_thread && t.version <= e.version) {
            ask(e, e.version, 2, e.name());
        }
        // Up to the next variant the answer stays, and the newest has no end.
        let next = twins().filter(|t| !t.per_thread && t.version > e.version).map(|t| t.version);
        match next.min() {
            Some(next) => ask(e, next - 1, 0, e.name()),
            None => ask(e, 99_000, 0, e.name()),
        }
    }
    out
}

#[test]
fn the_resolver_agrees_with_the_symbols() {
    let run = probe();
    let list = run.folder().join("questions");
    let questions = questions();
    std::fs::write(&list, questions.join("\n")).expect("a file");
    let ask = format!("ask:{}", list.display());
    let outcome = run.args(["open:libcuda.so.1", &ask]).outcome().well();
    let all = questions.len() * 2;
    assert_eq!(outcome.stdout, format!("asked {all} same {all}\n"));
    // Nothing was called, so nothing was said.
    assert_eq!(outcome.said(), [""; 0]);
}

#[test]
fn the_resolver_hands_out_itself_in_the_form_asked_for() {
    let outcome = probe()
        .args(["open:libcuda.so.1", "proc1:cuGetProcAddress@11030", "proc:cuGetProcAddress@11030"])
        .args(["proc:cuGetProcAddress@12000"])
        .outcome()
        .well();
    let wanted = "proc cuGetProcAddress 0 libcoldpress.so\n\
                  proc cuGetProcAddress 0 libcoldpress.so again\n\
                  proc cuGetProcAddress 0 libcoldpress.so\n";
    assert_eq!(outcome.stdout, wanted);
}

#[test]
fn errors_of_the_resolver_are_the_drivers() {
    let asked = |run: Run| {
        let ops = [
            "open:libcuda.so.1",
            "proc:cuNoSuchThing@12000",
            "proc:@0",
            "proc:cuMemAlloc@1000",
            "proc:cuMemAlloc@12000@7",
            "proc:cuMemAlloc@-1",
            "proc1:@0",
        ];
        run.args(ops).outcome().well().stdout
    };
    assert_eq!(asked(probe()), asked(Run::new(&program("probe"))));
}

#[test]
fn an_older_driver_answers_as_it_would() {
    let asked = |run: Run| {
        let run = run.env("SIMCUDA_DRIVER_VERSION", "11040");
        let ops = [
            "open:libcuda.so.1",
            "version",
            "proc:cuGraphInstantiateWithParams@12080",
            "proc:cuMemcpyBatchAsync@13000",
            "proc:cuCtxCreate@13000",
            "init",
        ];
        run.args(ops).outcome().well().stdout.replace("libcoldpress.so", "libcuda.so.1")
    };
    let with = asked(probe());
    assert_eq!(with, asked(Run::new(&program("probe"))));
    assert!(with.contains("version 0 11040"), "{with}");
}

#[test]
fn a_name_the_driver_hides_stays_hidden() {
    let asked = |run: Run| {
        let ops = ["open:libcuda.so.1", "proc:cuMemAlloc@12000", "proc1:cuMemAlloc@12000"];
        run.env("SIMCUDA_MISSING", "cuMemAlloc").args(ops).outcome().well().stdout
    };
    let with = asked(probe());
    assert_eq!(with, asked(Run::new(&program("probe"))));
    assert!(with.ends_with(" -\n"), "{with}");
}

/// A driver newer than the list, with a variant nobody has heard of.
fn newer() -> Run {
    let run = Run::preloaded(&program("probe")).env("SIMCUDA_DRIVER_VERSION", "14000");
    run.env("SIMCUDA_NEWER", "cuMemGetInfo@13090").arg("open:libcuda.so.1")
}

#[test]
fn an_unknown_variant_is_only_handed_out() {
    let ops = ["init", "proc:cuMemGetInfo@14000", "proc1:cuMemGetInfo@13090"];
    let outcome = newer().args(ops).outcome().well();
    let wanted = "init 0\nproc cuMemGetInfo 0 libcoldpress.so\n\
                  proc cuMemGetInfo 0 libcoldpress.so again\n";
    assert_eq!(outcome.stdout, wanted);
    assert!(!outcome.stderr.contains("eviction off"), "{}", outcome.stderr);
}

#[test]
fn a_call_of_an_unknown_variant_turns_eviction_off() {
    let ops = ["init", "proc:cuMemGetInfo@14000", "last", "last"];
    let outcome = newer().args(ops).outcome().well();
    assert!(outcome.calls("cuMemGetInfo_v2") >= 2, "{outcome:#?}");
    let why = "eviction off: unknown entry point cuMemGetInfo@14000";
    assert!(outcome.stderr.contains(why), "{}", outcome.stderr);
}

#[test]
fn a_known_variant_of_a_newer_driver_is_ours() {
    let outcome = newer().args(["proc:cuMemGetInfo@13080", "proc:cuInit@14000"]).outcome().well();
    let wanted = "proc cuMemGetInfo 0 libcoldpress.so\nproc cuInit 0 libcoldpress.so\n";
    assert_eq!(outcome.stdout, wanted);
}

#[test]
fn a_call_without_rules_turns_eviction_off() {
    let outcome =
        probe().args(["open:libcuda.so.1", "init", "call:cuGraphCreate"]).outcome().well();
    assert!(outcome.stderr.contains("eviction off: cuGraphCreate"), "{}", outcome.stderr);
    assert_eq!(outcome.calls("cuGraphCreate"), 1);
}
