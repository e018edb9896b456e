//! Which symbol a name means at a version.

use crate::gpu::{Gpu, alone};
use cuda_client::{Code, Lookup, flag};

const SURFACE: &str = include_str!("../../../../../src/driver/surface.txt");

struct Name {
    name: &'static str,
    versions: Vec<u32>,
    per_thread: Option<(&'static str, Vec<u32>)>,
}

fn numbers(list: &str) -> Vec<u32> {
    list.split(',').map(|n| n.parse().expect("a number")).collect()
}

fn names() -> Vec<Name> {
    let lines = SURFACE.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let per_thread = fields[2].split_once(':').map(|(s, v)| (s, numbers(v)));
            Name { name: fields[0], versions: numbers(fields[1]), per_thread }
        })
        .collect()
}

fn plain(name: &Name, version: u32) -> Option<String> {
    let i = name.versions.iter().rposition(|&v| v <= version)?;
    Some(if i == 0 { name.name.to_owned() } else { format!("{}_v{}", name.name, i + 1) })
}

#[test]
fn every_name_at_every_version() {
    alone(&[("SIMCUDA_DRIVER_VERSION", "99000")], || {
        let gpu = Gpu::load(Lookup::Symbols);
        let names = names();
        assert!(names.len() > 500);
        for name in &names {
            let mut versions = name.versions.clone();
            versions.extend(name.per_thread.iter().flat_map(|(_, v)| v));
            for at in versions.iter().flat_map(|&v| [v - 1, v, v + 1]) {
                let (found, status) = gpu.proc_address(name.name, at, 0).expect("an answer");
                let Some(symbol) = plain(name, at) else {
                    assert_eq!((found, status), (0, flag::PROC_TOO_NEW), "{} {at}", name.name);
                    continue;
                };
                assert_eq!(status, flag::PROC_FOUND, "{} {at}", name.name);
                assert_eq!(found, gpu.symbol(&symbol) as usize, "{} {at}", name.name);
                let (twin, _) =
                    gpu.proc_address(name.name, at, flag::PROC_PER_THREAD).expect("an answer");
                let suffix = name.per_thread.as_ref().filter(|(_, v)| v.iter().any(|&v| v <= at));
                let symbol = suffix.map_or(symbol.clone(), |(s, _)| format!("{symbol}_{s}"));
                assert_eq!(twin, gpu.symbol(&symbol) as usize, "{symbol} at {at}");
            }
        }
    });
}

#[test]
fn unknown_names_and_flags() {
    alone(&[], || {
        let gpu = Gpu::load(Lookup::Symbols);
        assert_eq!(gpu.proc_address("cuNoSuchThing", 13000, 0), Ok((0, flag::PROC_NOT_FOUND)));
        assert_eq!(gpu.proc_address("cuMemAlloc", 13000, 3), Err(Code::INVALID_VALUE));
        assert_eq!(gpu.proc_address("cuMemAlloc", 13000, 4), Err(Code::INVALID_VALUE));
        assert_eq!(gpu.export_table([7; 16]), Err(Code::NOT_FOUND));
    });
}

#[test]
fn an_older_driver_lacks_names() {
    alone(&[("SIMCUDA_DRIVER_VERSION", "12000")], || {
        let gpu = Gpu::load(Lookup::Symbols);
        assert_eq!(gpu.version(), Ok(12000));
        let absent = gpu.proc_address("cuCtxRecordEvent", 13000, 0);
        assert_eq!(absent, Ok((0, flag::PROC_TOO_NEW)));
        let (found, _) = gpu.proc_address("cuMemAdvise", 13000, 0).expect("an answer");
        assert_eq!(found, gpu.symbol("cuMemAdvise") as usize);
    });
}

#[test]
fn names_can_be_taken_away_or_made_newer() {
    let settings =
        [("SIMCUDA_MISSING", "cuMemCreate,cuMemMap"), ("SIMCUDA_NEWER", "cuMemAlloc@14000")];
    alone(&settings, || {
        let gpu = Gpu::load(Lookup::Symbols);
        assert_eq!(gpu.proc_address("cuMemCreate", 13000, 0).map(|(at, _)| at), Ok(0));
        let (now, _) = gpu.proc_address("cuMemAlloc", 13000, 0).expect("an answer");
        let (newer, _) = gpu.proc_address("cuMemAlloc", 14000, 0).expect("an answer");
        assert_eq!(now, gpu.symbol("cuMemAlloc_v2") as usize);
        assert!(newer != now && newer != 0);
        gpu.start(0).expect("it starts");
        let mut at = 0u64;
        type Alloc = unsafe extern "C" fn(*mut u64, usize) -> u32;
        // SAFETY: what works like cuMemAlloc_v2.
        let result = unsafe { std::mem::transmute::<usize, Alloc>(newer)(&mut at, 4096) };
        assert_eq!(result, 0);
        assert_eq!(gpu.mem_free(at), Ok(()));
    });
}
