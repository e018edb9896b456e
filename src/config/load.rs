//! From variables to a configuration. A wrong value never stops a job: it is said once and the
//! default stays, unless `COLDPRESS_STRICT` asks for more.

use super::table::{LATER, OPTIONS, Opt, VARIABLES};
use super::{Codec, Config, FreeSync, Mode, Safety, Verify};
use crate::units::{self, Size};
use std::time::Duration;

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// `COLDPRESS_CONF`.
    Conf,
    /// The option's own variable.
    Variable,
}

/// The value of one option.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The option.
    pub option: &'static Opt,
    /// The value, as it was written.
    pub value: String,
    /// Where it was written.
    pub origin: Origin,
}

impl Setting {
    /// Where the value came from, as the user knows it.
    pub fn source(&self) -> &'static str {
        match self.origin {
            Origin::Default => "default",
            Origin::Conf => "COLDPRESS_CONF",
            Origin::Variable => self.option.env,
        }
    }
}

/// A configuration and how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// One entry an option, in table order.
    pub settings: Vec<Setting>,
    /// What was wrong, one line each.
    pub warnings: Vec<String>,
}

/// The `COLDPRESS_*` variables of this process.
pub fn variables() -> Vec<(String, String)> {
    // `vars_os`, because a name elsewhere in the environment that is no UTF-8 is none of ours.
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with("COLDPRESS_"))
        .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
        .collect()
}

impl Loaded {
    /// Reads `variables` (names and values).
    pub fn from_variables(mut variables: Vec<(String, String)>) -> Loaded {
        variables.sort();
        let mut loaded = Loaded::default();
        let value = |name: &str| variables.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        for pair in
            value("COLDPRESS_CONF").unwrap_or("").split(',').filter(|p| !p.trim().is_empty())
        {
            let (key, text) = pair.split_once(':').unwrap_or((pair, ""));
            loaded.set(key.trim(), text.trim(), Origin::Conf);
        }
        for (name, text) in &variables {
            let Some(key) = name.strip_prefix("COLDPRESS_") else { continue };
            if VARIABLES.iter().all(|v| v.name != name) {
                loaded.set(&key.to_ascii_lowercase(), text.trim(), Origin::Variable);
            }
        }
        let flag = |name| value(name).is_some_and(|v| !matches!(v.trim(), "" | "0" | "off"));
        loaded.config.verbose = match value("COLDPRESS_VERBOSE").map(units::parse_bool) {
            None | Some(None) => 1,
            Some(Some(more)) => u8::from(more) * 2,
        };
        if flag("COLDPRESS_DISABLE") {
            loaded.config.disabled = Some("COLDPRESS_DISABLE".to_owned());
        } else if flag("COLDPRESS_STRICT") {
            loaded.config.disabled =
                loaded.warnings.first().map(|w| format!("COLDPRESS_STRICT: {w}"));
        }
        loaded
    }

    fn set(&mut self, key: &str, text: &str, origin: Origin) {
        let shown = match origin {
            Origin::Variable => format!("COLDPRESS_{}", key.to_ascii_uppercase()),
            _ => key.to_owned(),
        };
        let Some(index) = OPTIONS.iter().position(|o| o.key == key) else {
            self.warnings.push(if LATER.contains(&key) {
                format!("{shown} is not available in this version")
            } else {
                unknown(&shown, key, origin)
            });
            return;
        };
        let option = &OPTIONS[index];
        if option.later.contains(&text) {
            self.warnings.push(format!(
                "{key}:{text} is not available in this version; {key}:{} stays",
                self.settings[index].value
            ));
        } else if (option.set)(&mut self.config, text) {
            self.settings[index] = Setting { option, value: text.to_owned(), origin };
        } else {
            self.warnings.push(format!(
                "{shown} takes {}, not {text:?}; {key}:{} stays",
                option.values, self.settings[index].value
            ));
        }
    }
}

impl Default for Loaded {
    fn default() -> Self {
        let mut config = Config {
            mode: Mode::Rescue,
            limit: Size::Percent(100.0),
            host_limit: Size::Percent(25.0),
            safety: Safety::Standard,
            verify: Verify::On,
            codec: Codec::Auto,
            watermark: Size::Percent(10.0),
            restore_wait: Duration::from_secs(30),
            free_sync: FreeSync::Auto,
            mps: false,
            torture: false,
            disabled: None,
            verbose: 1,
        };
        let mut settings = Vec::with_capacity(OPTIONS.len());
        for option in OPTIONS {
            // The table's word counts, whatever stands above.
            let accepted = (option.set)(&mut config, option.default);
            debug_assert!(accepted, "default of {}", option.key);
            let value = option.default.to_owned();
            settings.push(Setting { option, value, origin: Origin::Default });
        }
        Loaded { config, settings, warnings: Vec::new() }
    }
}

fn unknown(shown: &str, key: &str, origin: Origin) -> String {
    let keys = OPTIONS.iter().map(|o| o.key);
    let nearest = match origin {
        // A misspelt variable may be meant for one that is no option.
        Origin::Variable => keys
            .chain(VARIABLES.iter().filter_map(|v| v.name.strip_prefix("COLDPRESS_")))
            .min_by_key(|name| distance(&name.to_ascii_lowercase(), key))
            .map(|name| format!("COLDPRESS_{}", name.to_ascii_uppercase())),
        _ => keys.min_by_key(|name| distance(name, key)).map(str::to_owned),
    };
    format!("unknown option {shown}; nearest is {}", nearest.unwrap_or_default())
}

/// Edits that turn `a` into `b`, two neighbours swapped counting as one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = usize::from(a[i - 1] != b[j - 1]);
                let mut best =
                    (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Loaded {
        Loaded::from_variables(
            variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        )
    }

    #[test]
    fn defaults_are_the_tables() {
        let loaded = load(&[]);
        assert!(loaded.warnings.is_empty());
        assert_eq!(loaded.config.mode, Mode::Rescue);
        assert_eq!(loaded.config.limit_for(1000), 1000);
        assert_eq!(loaded.config.disabled, None);
    }

    #[test]
    fn a_variable_wins_over_conf() {
        let loaded =
            load(&[("COLDPRESS_CONF", "limit:40%, mode:active,mps:on"), ("COLDPRESS_LIMIT", "1G")]);
        assert_eq!(loaded.warnings, [""; 0]);
        assert_eq!(loaded.config.limit_for(1000), 1 << 30);
        assert_eq!(loaded.config.mode, Mode::Active);
        assert!(loaded.config.mps);
        let origin = |key| loaded.settings.iter().find(|s| s.option.key == key).map(|s| s.origin);
        assert_eq!(origin("limit"), Some(Origin::Variable));
        assert_eq!(origin("mode"), Some(Origin::Conf));
        assert_eq!(origin("verify"), Some(Origin::Default));
    }

    #[test]
    fn what_is_wrong_is_said_and_the_rest_holds() {
        let loaded = load(&[
            ("COLDPRESS_CONF", "limti:40%,mode:fast,mode:rehearse,oversubscribe:on,torture:on"),
            ("COLDPRESS_DISABEL", "1"),
        ]);
        assert_eq!(
            loaded.warnings,
            [
                "unknown option limti; nearest is limit",
                "mode takes rescue, active, trace, not \"fast\"; mode:rescue stays",
                "mode:rehearse is not available in this version; mode:rescue stays",
                "oversubscribe is not available in this version",
                "unknown option COLDPRESS_DISABEL; nearest is COLDPRESS_DISABLE",
            ]
        );
        assert!(loaded.config.torture);
        assert_eq!(loaded.config.disabled, None);
    }

    #[test]
    fn strict_turns_a_warning_into_passing_through() {
        let strict = ("COLDPRESS_STRICT", "1");
        assert_eq!(load(&[strict]).config.disabled, None);
        let loaded = load(&[strict, ("COLDPRESS_CONF", "limti:1G")]);
        assert_eq!(
            loaded.config.disabled.as_deref(),
            Some("COLDPRESS_STRICT: unknown option limti; nearest is limit")
        );
    }

    #[test]
    fn disable_is_a_flag() {
        assert!(load(&[("COLDPRESS_DISABLE", "1")]).config.disabled.is_some());
        assert!(load(&[("COLDPRESS_DISABLE", "0")]).config.disabled.is_none());
        assert!(load(&[("COLDPRESS_DISABLE", "")]).config.disabled.is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(conf in ".{0,60}", name in "[A-Z_]{0,12}", value in ".{0,20}") {
            let name = format!("COLDPRESS_{name}");
            let loaded = load(&[("COLDPRESS_CONF", &conf), (&name, &value)]);
            proptest::prop_assert_eq!(loaded.settings.len(), OPTIONS.len());
        }
    }
}
