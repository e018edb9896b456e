//! The result as a small table.

use super::Report;
use coldpress::units::{Bytes, Span};
use std::fmt::{self, Write};

/// Characters of the longest bar.
const BAR: u64 = 24;

pub fn table(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, report);
    out
}

fn write(out: &mut String, r: &Report) -> fmt::Result {
    let peak = r.peak_bytes.map_or("unknown".to_owned(), |p| Bytes(p).to_string());
    let (kept, equal) = (mark(r.within_limit), mark(r.digests_equal));
    writeln!(out, "\n{:<11}{:<14}under coldpress", "", "without")?;
    let limit = Bytes(r.limit_bytes);
    let footprint = Bytes(r.footprint_bytes).to_string();
    writeln!(out, "{:<11}{footprint:<14}{peak:<10} limit {limit}  {kept}", "memory")?;
    writeln!(out, "{:<11}{} {}", "", bar(r.footprint_bytes, r.footprint_bytes), footprint)?;
    let peak_bar = bar(r.peak_bytes.unwrap_or(0), r.footprint_bytes);
    writeln!(out, "{:<11}{peak_bar} {peak}, as counted by {}", "", r.peak_counted_by)?;
    let under = Span::from_nanos(r.time_under_ns);
    writeln!(out, "{:<11}{:<14}{under}", "time", Span::from_nanos(r.time_without_ns).to_string())?;
    let short = |digest: &str| digest.chars().take(12).collect::<String>();
    let (without, under) = (short(&r.digest_without), short(&r.digest_under));
    writeln!(out, "{:<11}{without:<14}{under:<14} {equal}", "digest")?;
    writeln!(out, "\n{:<11}{:<36}restored", "phase", "evicted")?;
    let most = r.phases.iter().flat_map(|p| [p.moved.evicted_bytes, p.moved.restored_bytes]).max();
    let most = most.unwrap_or(0);
    for phase in &r.phases {
        let moved = &phase.moved;
        let cell = |bytes| format!("{:<10}{}", Bytes(bytes).to_string(), bar(bytes, most));
        let evicted = cell(moved.evicted_bytes);
        writeln!(out, "{:<11}{evicted:<36}{}", phase.name, cell(moved.restored_bytes).trim_end())?;
    }
    let t = &r.total;
    writeln!(
        out,
        "{:<11}{:<36}{}",
        "total",
        Bytes(t.evicted_bytes).to_string(),
        Bytes(t.restored_bytes)
    )?;
    writeln!(
        out,
        "\n{} waits, {} together; {} verified",
        t.waits,
        Span::from_nanos(t.wait_ns),
        Bytes(t.verified_bytes)
    )?;
    writeln!(out, "{}", verdict(r))
}

fn verdict(r: &Report) -> &'static str {
    match (r.digests_equal, r.within_limit) {
        (true, true) => "The results are equal and the limit was kept.",
        (false, _) => "THE RESULTS DIFFER: please report this with the seed and this output.",
        (true, false) => "The results are equal, but THE LIMIT WAS PASSED.",
    }
}

fn mark(good: bool) -> &'static str {
    if good { "ok" } else { "WRONG" }
}

/// A bar of `part` in `whole`; what is not nothing is seen.
fn bar(part: u64, whole: u64) -> String {
    let length = if whole == 0 { 0 } else { (part.min(whole) * BAR).div_ceil(whole) };
    "#".repeat(length as usize)
}

#[cfg(test)]
mod tests {
    use super::super::{Moved, Phase};
    use super::*;

    const MIB: u64 = 1 << 20;

    fn report() -> Report {
        let phase = |name: &str, evicted, restored| Phase {
            name: name.to_owned(),
            moved: Moved {
                evicted_bytes: evicted * MIB,
                restored_bytes: restored * MIB,
                ..Moved::default()
            },
        };
        Report {
            schema: "coldpress.demo",
            version: 1,
            driver: "/sim/libsimcuda.so".into(),
            simulated: true,
            data: None,
            seed: 1,
            footprint_bytes: 256 * MIB,
            limit_bytes: 102 * MIB,
            peak_bytes: Some(101 * MIB),
            peak_counted_by: "the simulated driver",
            within_limit: true,
            digest_without: "0123456789abcdef".to_owned(),
            digest_under: "0123456789abcdef".to_owned(),
            digests_equal: true,
            time_without_ns: 1_200_000_000,
            time_under_ns: 3_400_000_000,
            phases: vec![phase("load", 150, 0), phase("backward", 75, 300)],
            total: Moved {
                evictions: 9,
                evicted_bytes: 225 * MIB,
                restores: 11,
                restored_bytes: 300 * MIB,
                waits: 7,
                wait_ns: 120_000_000,
                verified_bytes: 525 * MIB,
            },
        }
    }

    #[test]
    fn the_table() {
        let expected = "
           without       under coldpress
memory     256 MiB       101 MiB    limit 102 MiB  ok
           ######################## 256 MiB
           ########## 101 MiB, as counted by the simulated driver
time       1.2 s         3.4 s
digest     0123456789ab  0123456789ab   ok

phase      evicted                             restored
load       150 MiB   ############              0 B
backward   75 MiB    ######                    300 MiB   ########################
total      225 MiB                             300 MiB

7 waits, 120 ms together; 525 MiB verified
The results are equal and the limit was kept.
";
        assert_eq!(table(&report()), expected);
    }

    #[test]
    fn what_is_wrong_is_loud() {
        let mut report = report();
        report.within_limit = false;
        assert!(table(&report).ends_with("THE LIMIT WAS PASSED.\n"));
        report.digests_equal = false;
        assert!(table(&report).contains("THE RESULTS DIFFER"));
    }
}
