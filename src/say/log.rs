//! `COLDPRESS_LOG`: detail through `tracing`, written by a subscriber of our own. The library
//! links its own copy of `tracing`, so a host program's subscriber is never touched.

use crate::os::Kept;
use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber, span};

/// Installs the subscriber if the user asked for one; once.
pub fn install() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let Ok(text) = std::env::var("COLDPRESS_LOG") else { return };
        match Log::parse(&text) {
            // Refused only when there is one already, which is as good.
            Ok(log) => drop(tracing::subscriber::set_global_default(log)),
            Err(why) => super::line(&why),
        }
    });
}

struct Log {
    level: LevelFilter,
    file: Option<Kept>,
    started: Instant,
    spans: AtomicU64,
}

impl Log {
    /// Reads `LEVEL` or `LEVEL:FILE`.
    fn parse(text: &str) -> Result<Log, String> {
        let (level, path) = match text.split_once(':') {
            Some((level, path)) => (level, Some(path)),
            None => (text, None),
        };
        let level = level.trim().parse().map_err(|_| {
            format!("COLDPRESS_LOG takes error, warn, info, debug or trace, not {level:?}")
        })?;
        let file = path
            .map(|p| OpenOptions::new().append(true).create(true).open(p).and_then(Kept::new))
            .transpose()
            .map_err(|e| format!("COLDPRESS_LOG: {e}"))?;
        Ok(Log { level, file, started: Instant::now(), spans: AtomicU64::new(0) })
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Lines on stderr are there already; in a file they give the detail its place.
        *metadata.level() <= self.level
            && (self.file.is_some() || metadata.target() != "coldpress::say")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::with_capacity(128));
        let at = self.started.elapsed();
        // Writing to a String cannot fail.
        let _ = write!(
            line.0,
            "coldpress {:>5}.{:06} {:5} {}:",
            at.as_secs(),
            at.subsec_micros(),
            event.metadata().level(),
            event.metadata().target()
        );
        event.record(&mut line);
        line.0.push('\n');
        match &self.file {
            // A full disk must not stop a job.
            Some(file) => drop(file.write_all(line.0.as_bytes())),
            None => super::write(line.0.as_bytes()),
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// One event as text: the message, then `name=value`.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_go_to_the_file() {
        let path = std::env::temp_dir().join(format!("coldpress-log-{}", std::process::id()));
        let log = Log::parse(&format!("debug:{}", path.display())).expect("log");
        tracing::subscriber::with_default(log, || {
            tracing::debug!(target: "coldpress::test", block = 7, "evicted");
            tracing::trace!(target: "coldpress::test", "too fine");
        });
        let text = std::fs::read_to_string(&path).expect("file");
        std::fs::remove_file(&path).expect("clean");
        assert!(text.ends_with("DEBUG coldpress::test: evicted block=7\n"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn a_wrong_level_is_named() {
        let why = Log::parse("loud").err();
        assert_eq!(
            why.as_deref(),
            Some("COLDPRESS_LOG takes error, warn, info, debug or trace, not \"loud\"")
        );
    }
}
