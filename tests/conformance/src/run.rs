//! Running cases and telling what came of it.

use crate::case::{Case, Outcome, Stop};
use crate::cases;
use crate::context::Cx;
use crate::measure;
use crate::processes;
use cuda_client::{Driver, Lookup};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Names and expectations.
pub fn list() -> String {
    let mut text = String::new();
    for case in cases::all() {
        let seen = case.seen_on.map_or(String::new(), |seen| format!(" [seen: {seen}]"));
        let _ = writeln!(text, "{:32} {}{seen}", case.name, case.expectation);
    }
    text
}

/// Card and driver as JSON.
pub fn describe() -> Result<String, String> {
    let cx = start()?;
    Ok(described(&cx).to_string())
}

fn described(cx: &Cx) -> Value {
    json!({
        "card": cx.device_name(cx.device).ok(),
        "driver_version": cx.version().ok(),
        "driver_path": cx.path(),
        "memory_bytes": cx.device_total_mem(cx.device).ok(),
        "granularity_bytes": cx.granularity(cx.device).ok(),
        "simulated": cx.is_simulated(),
    })
}

fn start() -> Result<Cx, String> {
    Cx::start(Lookup::Symbols).map_err(|stop| match stop {
        Stop::Skip(why) | Stop::Fail(why) => format!("no working driver: {why}"),
    })
}

/// One measurement, with card and driver, as JSON.
pub fn measure(name: &str) -> Result<String, String> {
    let cx = start()?;
    let mut document = measure::run(name, &cx)?;
    document["driver"] = described(&cx);
    Ok(document.to_string())
}

/// Three codes of a driver that nobody has initialised.
pub fn before_init(path: &str) -> Result<String, String> {
    let driver = Driver::open(path, Lookup::Symbols).map_err(|e| e.to_string())?;
    Ok(cases::ask_before_init(&driver))
}

/// Cases in this process, a line of JSON for each as soon as it is known. Ends at the first that
/// fails: it may have spoiled the context for those that follow.
pub fn some(
    names: &[String],
    mut tell: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), String> {
    let all = cases::all();
    let cx = start()?;
    for name in names {
        let case = all.iter().find(|case| case.name == name);
        let case = case.ok_or_else(|| format!("no case is called {name}"))?;
        let outcome = (case.run)(&cx);
        let failed = matches!(outcome, Err(Stop::Fail(_)));
        tell(&outcome_json(outcome).to_string())?;
        if failed {
            break;
        }
    }
    Ok(())
}

fn outcome_json(outcome: Outcome) -> Value {
    match outcome {
        Ok(()) => json!({"result": "passed"}),
        Err(Stop::Skip(why)) => json!({"result": "skipped", "message": why}),
        Err(Stop::Fail(why)) => json!({"result": "failed", "message": why}),
    }
}

#[derive(Default)]
struct Totals {
    passed: usize,
    failed: usize,
    skipped: usize,
    unseen: usize,
}

/// Runs the suite; the text to print and whether nothing failed.
pub fn suite(filter: Option<&str>, as_json: bool) -> Result<(String, bool), String> {
    let driver = described(&start()?);
    let wanted = |case: &Case| filter.is_none_or(|part| case.name.contains(part));
    let chosen: Vec<Case> = cases::all().into_iter().filter(wanted).collect();
    if chosen.is_empty() {
        return Err(format!("no case's name contains {}", filter.unwrap_or_default()));
    }
    let (mut totals, mut text, mut rows) = (Totals::default(), String::new(), Vec::new());
    for (case, outcome) in chosen.iter().zip(processes::outcomes(&chosen)) {
        totals.unseen += usize::from(case.seen_on.is_none());
        match &outcome {
            Ok(()) => totals.passed += 1,
            Err(Stop::Skip(why)) => {
                totals.skipped += 1;
                let _ = writeln!(text, "skipped {}: {why}", case.name);
            }
            Err(Stop::Fail(why)) => {
                totals.failed += 1;
                let _ = writeln!(text, "FAILED  {}: {why}", case.name);
                let _ = writeln!(text, "        expected: {}", case.expectation);
            }
        }
        let mut row = outcome_json(outcome);
        row["name"] = json!(case.name);
        row["expectation"] = json!(case.expectation);
        row["seen_on"] = json!(case.seen_on);
        rows.push(row);
    }
    let Totals { passed, failed, skipped, unseen } = totals;
    let _ = write!(
        text,
        "{passed} passed, {failed} failed, {skipped} skipped; {unseen} expectations not yet seen \
         on a card"
    );
    if as_json {
        let document = json!({
            "schema": "cuda.conformance",
            "version": 1,
            "driver": driver,
            "passed": passed,
            "failed": failed,
            "skipped": skipped,
            "not_seen_on_a_card": unseen,
            "cases": rows,
        });
        text = document.to_string();
    }
    Ok((text, failed == 0))
}
