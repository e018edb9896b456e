//! What is generated and committed is current. To renew it:
//! `coldpress env --markdown > docs/reference/environment.md; coldpress man > docs/man/coldpress.1`

use super::{coldpress, output, stdout};

fn assert_current(path: &str, args: &[&str]) {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    let committed = std::fs::read_to_string(&path).expect("the page");
    let made = stdout(&output(&mut coldpress(args)));
    assert!(committed == made, "{path} is old: coldpress {} > {path}", args.join(" "));
}

#[test]
fn the_reference_is_current() {
    assert_current("docs/reference/environment.md", &["env", "--markdown"]);
}

#[test]
fn the_manual_page_is_current() {
    assert_current("docs/man/coldpress.1", &["man"]);
}

#[test]
fn shells_get_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let made = output(&mut coldpress(&["completions", shell]));
        assert!(made.status.success() && stdout(&made).contains("doctor"), "{shell}");
    }
}
