//! The thread that works against the others: evicts, restores, turns coldpress off and on.

use crate::World;
use crate::coldpress::What;
use crate::options::Options;
use crate::rng::Rng;
use crate::worker::Counts;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Until the others have ended.
pub fn run(world: &World, options: &Options) -> Counts {
    let mut rng = Rng::new(options.seed ^ 0xC01D);
    let mut counts = Counts::default();
    // The engine needs a context of this thread for nothing; the driver may.
    let _ = world.driver.ctx_set_current(world.context);
    while !world.stop.load(Ordering::Relaxed) {
        // An address may be another's by the time it is used: that must do no harm either.
        let at = world.shared.somewhere(&mut rng);
        match rng.below(24) {
            0..8 => drop(world.extras.evict(What::All)),
            8..14 => drop(world.extras.evict(What::At(at))),
            14..18 => drop(world.extras.restore(What::At(at))),
            18..20 => drop(world.extras.restore(What::All)),
            20..23 => drop(world.extras.stats()),
            _ => {
                if let Some(command) = &options.switch {
                    counts.switches += u64::from(switch(command, "off"));
                    std::thread::sleep(Duration::from_millis(rng.below(10) as u64));
                    counts.switches += u64::from(switch(command, "on"));
                }
            }
        }
        counts.orders += 1;
        std::thread::sleep(Duration::from_micros(rng.below(3000) as u64));
    }
    if let Some(command) = &options.switch {
        switch(command, "on");
    }
    counts
}

/// Gives the order to this process from outside, as a user does; whether it was followed.
fn switch(command: &Path, what: &str) -> bool {
    let mut command = Command::new(command);
    command.arg(what).arg(std::process::id().to_string()).env_remove("LD_PRELOAD");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
