//! Which driver is taken, and what happens without one.

use crate::support::{Folder, Run, compile, library, program, simulator};
use std::path::PathBuf;

/// A small driver of the kind that the macros make.
fn driver(name: &str, macros: &[&str]) -> PathBuf {
    let args = ["-shared", "-fPIC", "-Wl,-Bsymbolic", "-Wl,-soname,libcuda.so.1", "-ldl"];
    compile("driver", name, &[&args, macros].concat())
}

fn probe() -> Run {
    Run::preloaded(&program("probe"))
}

const OPEN: &str = "open:libcuda.so.1";

#[test]
fn without_a_driver_calls_say_so() {
    let run = probe().env("COLDPRESS_REAL_LIBCUDA", "/nonexistent/libcuda.so.1");
    let ops = [OPEN, "init", "version", "proc:cuInit@2000", "call:cuMemFree_v2", "init"];
    let outcome = run.args(ops).outcome().well();
    let wanted = "init 100\nversion 3 -1\nproc cuInit 3 -\ncuMemFree_v2 3\ninit 100\n";
    assert_eq!(outcome.stdout, wanted);
    let [line] = outcome.said()[..] else { panic!("{outcome:#?}") };
    assert!(line.starts_with("COLDPRESS_REAL_LIBCUDA: /nonexistent/libcuda.so.1:"), "{line}");
    assert!(line.ends_with("; CUDA calls will return errors"), "{line}");
}

#[test]
fn without_a_driver_anywhere() {
    // SAFETY: opens a library by name; its constructors are made for any program.
    let present = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_LAZY) };
    if !present.is_null() {
        return;
    }
    let empty = Folder::new();
    let outcome =
        probe().env("LD_LIBRARY_PATH", empty.path()).args([OPEN, "init"]).outcome().well();
    assert_eq!(outcome.stdout, "init 100\n");
    let line = "no CUDA driver (libcuda.so.1) found, COLDPRESS_REAL_LIBCUDA can name it; \
                CUDA calls will return errors";
    assert_eq!(outcome.said(), [line]);
}

#[test]
fn a_file_that_is_no_library_is_passed_over() {
    let (broken, good) = (Folder::new(), Folder::with_driver(&simulator()));
    std::fs::write(broken.join("libcuda.so.1"), "no library").expect("a file");
    let path = format!("{}:{}", broken.path().display(), good.path().display());
    let outcome = probe().env("LD_LIBRARY_PATH", path).args([OPEN, "init"]).outcome().well();
    assert_eq!(outcome.stdout, "init 0\n");
}

#[test]
fn of_two_drivers_the_loaders_choice_is_taken() {
    let first = Folder::with_driver(&driver("driver-12010", &["-DVERSION=12010"]));
    let second = Folder::with_driver(&driver("driver-12020", &["-DVERSION=12020"]));
    let path = format!("{}:{}", first.path().display(), second.path().display());
    let plain = Run::new(&program("probe")).env("LD_LIBRARY_PATH", &path);
    let plain = plain.args([OPEN, "version"]).outcome().well();
    assert_eq!(plain.stdout, "version 0 12010\n");
    let with = probe().env("LD_LIBRARY_PATH", &path).args([OPEN, "version"]).outcome().well();
    assert_eq!(with.stdout, plain.stdout);
}

#[test]
fn a_named_driver_wins() {
    let named = driver("driver-12010", &["-DVERSION=12010"]);
    let run = probe().env("COLDPRESS_REAL_LIBCUDA", named);
    assert_eq!(run.args([OPEN, "version"]).outcome().well().stdout, "version 0 12010\n");
}

#[test]
fn coldpress_is_never_its_own_driver() {
    let outcome =
        probe().env("COLDPRESS_REAL_LIBCUDA", library()).args([OPEN, "init"]).outcome().well();
    assert_eq!(outcome.stdout, "init 100\n");
    let [line] = outcome.said()[..] else { panic!("{outcome:#?}") };
    assert!(line.starts_with("COLDPRESS_REAL_LIBCUDA names coldpress itself: "), "{line}");
}

#[test]
fn a_copy_of_coldpress_is_no_driver_either() {
    let copies = Folder::new();
    std::fs::copy(library(), copies.join("libcuda.so.1")).expect("a copy");
    let path = format!("{}:{}", copies.path().display(), probe().folder().path().display());
    let real = Folder::with_driver(&simulator());
    let outcome = probe()
        .env("LD_LIBRARY_PATH", format!("{path}:{}", real.path().display()))
        .args([OPEN, "init"])
        .outcome()
        .well();
    assert_eq!(outcome.stdout, "init 0\n");
    assert_eq!(outcome.calls("cuInit"), 1);
    let named = probe().env("COLDPRESS_REAL_LIBCUDA", copies.join("libcuda.so.1"));
    let outcome = named.args([OPEN, "init"]).outcome().well();
    assert_eq!(outcome.stdout, "init 100\n");
}

#[test]
fn a_driver_whose_resolver_leads_back_is_refused() {
    let away = driver("driver-away", &["-DLEADS_AWAY"]);
    let run = probe().env("COLDPRESS_REAL_LIBCUDA", &away);
    let outcome = run.args([OPEN, "init", "version"]).outcome().well();
    assert_eq!(outcome.stdout, "init 100\nversion 3 -1\n");
    let [line] = outcome.said()[..] else { panic!("{outcome:#?}") };
    let why = "its resolver leads back to coldpress, refused; CUDA calls will return errors";
    assert_eq!(line, format!("{}: {why}", away.display()));
}

#[test]
fn names_the_driver_lacks_are_not_found() {
    let run = probe().env("COLDPRESS_REAL_LIBCUDA", driver("driver-12000", &[]));
    // A plain one, one that latches, one with a hook.
    let ops = [OPEN, "init", "call:cuCtxGetFlags", "call:cuGraphCreate", "call:cuMemAlloc_v2"];
    let outcome = run.args(ops).outcome().well();
    let wanted = "init 0\ncuCtxGetFlags 500\ncuGraphCreate 500\ncuMemAlloc_v2 500\n";
    assert_eq!(outcome.stdout, wanted);
    assert!(!outcome.stderr.contains("eviction off"), "{}", outcome.stderr);
}

#[test]
fn a_resolver_with_other_addresses_goes_by_version() {
    let other = driver("driver-other", &["-DOTHER_POINTERS"]);
    let ask = |spec: &str| {
        let run = probe().env("COLDPRESS_REAL_LIBCUDA", &other);
        run.args([OPEN, "init", "proc:cuInit@12000", "last", spec, "last"]).outcome().well()
    };
    let outcome = ask("proc:cuGraphAddKernelNode@11000");
    assert!(outcome.stdout.starts_with("init 0\nproc cuInit 0 libcoldpress.so\nlast 0\n"));
    assert!(outcome.stdout.ends_with("last 44\n"), "{outcome:#?}");
    // Listed, so no thunk; it is an entry point without rules all the same.
    assert!(outcome.stderr.contains("eviction off: cuGraphAddKernelNode"), "{outcome:#?}");
    // Its second form has no symbol here: what the resolver hands out still works.
    let outcome = ask("proc:cuGraphAddKernelNode@12000");
    assert!(outcome.stdout.ends_with("last 44\n"), "{outcome:#?}");
    let why = "eviction off: unknown entry point cuGraphAddKernelNode@12000";
    assert!(outcome.stderr.contains(why), "{outcome:#?}");
}

#[test]
fn a_name_in_no_list_works_behind_a_thunk() {
    let run = probe().env("COLDPRESS_REAL_LIBCUDA", driver("driver-12000", &[]));
    let ops = [OPEN, "init", "proc:cuNotInAnyList@12000", "last"];
    let outcome = run.args(ops).outcome().well();
    assert!(outcome.stdout.contains("proc cuNotInAnyList 0 libcoldpress.so\n"), "{outcome:#?}");
    assert!(outcome.stdout.ends_with("last 44\n"), "{outcome:#?}");
    let why = "eviction off: unknown entry point cuNotInAnyList@12000";
    assert!(outcome.stderr.contains(why), "{outcome:#?}");
}

#[test]
fn when_thunks_run_out_eviction_goes_off_and_all_work() {
    let run = probe().env("COLDPRESS_REAL_LIBCUDA", driver("driver-12000", &[]));
    let outcome = run.args([OPEN, "init", "many:600"]).outcome().well();
    assert_eq!(outcome.stdout, "init 0\nours 512 others 88 same 600 called 600\n");
    let why = "eviction off: unknown entry point cuUnknown512@12000";
    assert!(outcome.stderr.contains(why), "{outcome:#?}");
}

#[test]
fn a_driver_that_calls_exported_names_reaches_itself() {
    let back = driver("driver-back", &["-DCALLS_BACK"]);
    let run = probe().env("COLDPRESS_REAL_LIBCUDA", back);
    let outcome = run.args([OPEN, "init", "call:cuMemGetInfo_v2"]).outcome().well();
    assert_eq!(outcome.stdout, "init 0\ndepth 0\ndepth 1\ncuMemGetInfo_v2 0\n");
}

#[test]
fn the_first_call_keeps_every_argument() {
    let registers = compile("registers", "registers", &["-ldl"]);
    let small = driver("driver-12000", &[]);
    let run = |what: &str| {
        let run = Run::preloaded(&registers).env("COLDPRESS_REAL_LIBCUDA", &small);
        run.arg(what).outcome().well().stdout
    };
    assert_eq!(run("clamp"), "clamp 7 1.5 -2.25\n43\n");
    assert_eq!(run("node"), "node 1 2 3 4 5 6 7\n44\n");
    assert_eq!(run("launch"), "launch 1 2 3 4 5 6 7 8 9 10 11\n42\n");
}

#[test]
fn the_first_calls_may_come_from_many_threads() {
    for _ in 0..8 {
        assert_eq!(probe().args([OPEN, "race"]).outcome().well().stdout, "race 16\n");
    }
}
