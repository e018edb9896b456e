//! The rules of the sources that a compiler does not check: who may use whom, where `unsafe` may
//! stand, how long a file may be, what the library never calls, and that every driver entry point
//! has been decided upon. docs/architecture.md gives the reasons.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every module and what it may use. Lower layers stand first; the leaves may use each other
/// downwards only.
const USES: &[(&str, &str)] = &[
    ("sync", ""),
    ("units", ""),
    ("os", ""),
    ("config", "units"),
    ("stats", "config units os"),
    ("say", "stats config units os"),
    ("fault", ""),
    ("driver", "LEAVES"),
    ("codec", "LEAVES driver"),
    ("heap", "LEAVES"),
    ("policy", "LEAVES"),
    ("vmm", "LEAVES driver"),
    ("tier", "LEAVES driver codec heap vmm"),
    ("registry", "LEAVES driver"),
    ("residency", "LEAVES driver codec heap policy vmm tier registry"),
    // The driver's face. These four know each other: the exported table names the hooks, and the
    // resolver answers with the table's entries.
    ("exports", "LEAVES driver intercept hooks"),
    ("intercept", "LEAVES driver exports hooks registry residency"),
    ("hooks", "LEAVES driver intercept registry residency"),
    ("capi", "LEAVES driver intercept registry residency"),
    // The command reads what processes publish. It asks the driver, never the engine.
    ("cli", "LEAVES driver codec policy"),
];
const LEAVES: &str = "sync units os config stats say fault";

/// Where `unsafe` may stand: a folder with everything in it, or one file.
const UNSAFE: &[&str] = &[
    "driver/",
    "exports.rs",
    "intercept/",
    "hooks/",
    "capi/",
    "vmm/",
    "os/",
    "tier/",
    "codec/cpu.rs",
    "heap/map.rs",
    "registry/",
    "residency/block.rs",
    "residency/engine.rs",
    "residency/fence.rs",
    "residency/mod.rs",
    "residency/scan.rs",
    "residency/search.rs",
    "residency/section.rs",
    "residency/stream.rs",
    "residency/submit.rs",
    "residency/thread.rs",
    "stats/file.rs",
    "stats/mod.rs",
    "cli/doctor.rs",
    "cli/real.rs",
];

/// A file that is longer is read by nobody in one sitting.
const LONGEST: usize = 500;
/// Lists of cases are skipped through.
const LONGEST_OF_CASES: usize = 650;

struct Source {
    /// Below `src/`.
    path: String,
    /// Without comments and without what stands in quotes.
    code: String,
    lines: usize,
}

impl Source {
    /// The module of the crate it belongs to.
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or("")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, out);
        } else {
            out.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut paths = Vec::new();
    files(&src, &mut paths);
    paths.retain(|p| p.extension().is_some_and(|e| e == "rs"));
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file");
        let path = path.strip_prefix(&src).expect("below src").display().to_string();
        Source { path, lines: text.lines().count(), code: code(&text) }
    };
    paths.into_iter().map(read).collect()
}

/// Rust without comments, strings and characters.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |end| end + 5)
        } else if first == '"' {
            quoted(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\\"'") {
            rest[1..].find('\'').map_or(rest.len(), |end| end + 2)
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        // Whatever stood here, what is around it stays apart.
        out.push(' ');
        rest = &rest[skipped..];
    }
    out
}

/// Length of the string literal that `text` begins with.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return i + 1,
            _ => {}
        }
    }
    text.len()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Names that follow `prefix` in the code, also the several of `prefix{a::b, c}`.
fn named(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].chars().next_back().is_some_and(is_word) {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let first = |text: &str| text.trim_start().chars().take_while(|&c| is_word(c)).collect();
        match rest.strip_prefix('{') {
            None => drop(out.insert(first(rest))),
            Some(list) => {
                let mut depth = 0;
                let mut start = 0;
                for (i, c) in list.char_indices() {
                    match c {
                        ',' | '}' if depth == 0 => {
                            out.insert(first(&list[start..i]));
                            start = i + 1;
                            if c == '}' {
                                break;
                            }
                        }
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        _ => {}
                    }
                }
            }
        }
    }
    out.remove("");
    out
}

/// Uses of a word that is not part of a longer one.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn report(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}\n  {}", found.join("\n  "));
}

#[test]
fn modules_use_only_what_is_below_them() {
    let known: BTreeSet<&str> = USES.iter().map(|(name, _)| *name).collect();
    let mut found = Vec::new();
    for source in sources() {
        let module = source.module();
        if matches!(module, "lib" | "main") {
            continue;
        }
        let Some((_, uses)) = USES.iter().find(|(name, _)| *name == module) else {
            found.push(format!("src/{}: the module {module} is not in the table", source.path));
            continue;
        };
        let uses = uses.replace("LEAVES", LEAVES);
        let mut used = named(&source.code, "crate::");
        used.extend(named(&source.code, "coldpress::"));
        for name in used.iter().filter(|n| known.contains(n.as_str())) {
            if name != module && !uses.split(' ').any(|u| u == name) {
                found.push(format!("src/{}: {module} may not use {name}", source.path));
            }
        }
    }
    report("dependencies against the direction:", found);
}

#[test]
fn unsafe_stays_where_it_is() {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for source in sources() {
        let blocks = words(&source.code, "unsafe").count();
        match UNSAFE.iter().find(|place| source.path.starts_with(**place)) {
            Some(place) if blocks > 0 => drop(seen.insert(*place)),
            None if blocks > 0 => found.push(format!("src/{}: {blocks}", source.path)),
            _ => {}
        }
    }
    report("`unsafe` outside its places:", found);
    let idle = |place: &&&str| !seen.contains(**place) && root().join("src").join(place).exists();
    let idle: Vec<_> = UNSAFE.iter().filter(idle).map(|p| (*p).to_owned()).collect();
    report("allowed `unsafe`, but have none (take them off the list):", idle);
}

#[test]
fn files_are_short() {
    let mut long: Vec<String> = Vec::new();
    for source in sources().iter().filter(|s| s.lines > LONGEST) {
        long.push(format!("src/{}: {} lines", source.path, source.lines));
    }
    let mut paths = Vec::new();
    files(&root().join("tests"), &mut paths);
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "rs" || e == "c")) {
        let lines = fs::read_to_string(path).expect("a source file").lines().count();
        if lines > LONGEST_OF_CASES {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    report("too long:", long);
}

#[test]
fn the_library_never_ends_the_program() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| !matches!(s.module(), "cli" | "main")) {
        for word in ["exit", "_exit", "abort", "quick_exit", "raise", "kill"] {
            for at in words(&source.code, word) {
                let called = source.code[at + word.len()..].starts_with('(');
                // A method of that name is somebody else's trait.
                let defined = source.code[..at].ends_with("fn ");
                if called && !defined {
                    let line = source.code[..at].matches('\n').count() + 1;
                    found.push(format!("src/{}: {word}( near line {line}", source.path));
                }
            }
        }
    }
    report("calls that end the program of somebody else:", found);
}

#[test]
fn every_entry_point_is_decided() {
    let text = fs::read_to_string(root().join("src/driver/surface.txt")).expect("surface.txt");
    let mut found = Vec::new();
    let mut last = "";
    let mut count = 0;
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.starts_with('#')) {
        let fields: Vec<&str> = line.split(' ').collect();
        let [name, versions, _, group, action] = fields[..] else {
            found.push(format!("line {}: not five fields: {line}", i + 1));
            continue;
        };
        count += 1;
        let decided = matches!(action.split('@').next(), Some("hook" | "pass" | "latch"));
        let group = group.starts_with(|c: char| c.is_ascii_uppercase());
        let versions: Vec<_> = versions.split(',').map(str::parse::<u32>).collect();
        let numbers = versions.iter().all(Result::is_ok);
        if !decided || !group || !numbers || line.contains('?') {
            found.push(format!("line {}: undecided: {line}", i + 1));
        }
        if name <= last {
            found.push(format!("line {}: {name} is not after {last}", i + 1));
        }
        last = name;
    }
    report("surface.txt:", found);
    assert!(count > 400, "only {count} entry points: is this the whole driver?");
}

#[test]
fn no_file_names_the_machine_it_was_made_on() {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    // An unpacked archive has no git: then there is nothing to look at.
    let Ok(listed) = listed.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()) else {
        return;
    };
    let common = ["/", "/home", "/root", "/tmp", "/usr", "/opt", "/var", "/srv", "/mnt", "/src"];
    let folders: Vec<String> = root()
        .ancestors()
        .map(|folder| folder.display().to_string())
        .filter(|folder| !common.contains(&folder.as_str()))
        .map(|folder| format!("{folder}/"))
        .collect();
    let mut found = Vec::new();
    for path in listed.split('\0').filter(|p| !p.is_empty()) {
        // Data and files that are gone in the work tree are not text.
        let Ok(text) = fs::read_to_string(root().join(path)) else { continue };
        for (i, line) in text.lines().enumerate() {
            if folders.iter().any(|folder| line.contains(folder.as_str())) {
                found.push(format!("{path}:{}: {line}", i + 1));
            }
        }
    }
    report("paths of this machine:", found);
}

#[test]
fn the_reader_of_rust_sees_what_it_must() {
    let text =
        "// unsafe\nuse crate::{a::b, c, d::{e, f}}; let s = \"unsafe \\\" crate::no\"; '\"'";
    let code = code(text);
    assert_eq!(words(&code, "unsafe").count(), 0, "{code}");
    let expected: BTreeSet<String> = ["a", "c", "d"].map(str::to_owned).into();
    assert_eq!(named(&code, "crate::"), expected);
    assert_eq!(words("unsafe { } unsafe_code", "unsafe").count(), 1);
}
