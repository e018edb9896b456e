//! The option table as text: the reference page and the section of the manual page.

use super::table::{LATER, OPTIONS, VARIABLES};
use std::fmt::Write;

/// `docs/reference/environment.md`.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Options and environment\n\n\
         <!-- Made by `coldpress env --markdown`; do not edit. -->\n\n\
         Options are given as `COLDPRESS_CONF=\"key:value,key:value\"`, each in a variable of its \
         own (which wins), or as `coldpress run --conf key:value`. Sizes are binary (`40GiB`, \
         `512M`), shares are written `70%`, times `30s` or `500ms`. An unknown option or a wrong \
         value is said once and changes nothing.\n\n\
         | option | variable | default | values | |\n|---|---|---|---|---|\n",
    );
    for o in OPTIONS {
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| `{}` | `{}` | `{}` | {} | {} |",
            o.key, o.env, o.default, o.values, o.doc
        );
    }
    out.push('\n');
    for o in OPTIONS {
        let _ = writeln!(out, "## {}\n\n{} (since {})\n", o.key, o.long, o.since);
    }
    out.push_str("## Other variables\n\n| variable | |\n|---|---|\n");
    for v in VARIABLES {
        let _ = writeln!(out, "| `{}` | {} |", v.name, v.doc);
    }
    let _ = writeln!(out, "\nReserved for later versions: `{}`.", LATER.join("`, `"));
    out
}

/// The ENVIRONMENT section of the manual page, in roff.
pub fn man() -> String {
    let plain = |text: &str| text.replace('`', "").replace('\\', "\\\\").replace('-', "\\-");
    let mut out = String::from(".SH OPTIONS OF THE LIBRARY\n");
    for o in OPTIONS {
        let _ = writeln!(
            out,
            ".TP\n\\fB{}\\fR, \\fB{}\\fR (default {})\n{}. Values: {}.\n{}",
            plain(o.key),
            plain(o.env),
            plain(o.default),
            plain(o.doc),
            plain(o.values),
            plain(o.long)
        );
    }
    out.push_str(".SH ENVIRONMENT\n");
    for v in VARIABLES {
        let _ = writeln!(out, ".TP\n\\fB{}\\fR\n{}", plain(v.name), plain(v.doc));
    }
    out
}
