//! `coldpress env` and `coldpress doctor`.

use super::{coldpress, output, stderr, stdout};
use serde_json::Value;

#[test]
fn a_listing_says_where_values_come_from() {
    let mut command = coldpress(&["env"]);
    command.env("COLDPRESS_CONF", "limit:40%,mode:active").env("COLDPRESS_LIMIT", "20GiB");
    let out = output(&mut command);
    assert!(out.status.success());
    assert_eq!(stderr(&out), "");
    assert_eq!(
        stdout(&out),
        "\
mode          active     COLDPRESS_CONF         when memory is moved out
limit         20GiB      COLDPRESS_LIMIT        GPU memory the process may hold on each card
host_limit    25%        default                host memory the process may hold for evicted bytes
safety        standard   default                what must be proved before a buffer is evicted
verify        on         default                which copies are checked
codec         auto       default                where cold pages are compressed
watermark     10%        default                free GPU memory that mode:active keeps
restore_wait  30s        default                how long an operation waits for memory to restore what it needs
free_sync     auto       default                whether a plain free waits for the device, as the driver's does
mps           off        default                allow eviction under MPS
torture       off        default                evict everything that may go after every operation
COLDPRESS_CONF=limit:40%,mode:active
COLDPRESS_REAL_LIBCUDA=/nonexistent/libcuda.so.1
"
    );
}

#[test]
fn a_wrong_option_is_named_once_with_the_nearest() {
    let mut command = coldpress(&["env"]);
    command.env("COLDPRESS_CONF", "limti:40%").env("COLDPRESS_MODE", "fast");
    let out = output(&mut command);
    assert!(out.status.success(), "a wrong option changes nothing");
    assert_eq!(
        stderr(&out),
        "coldpress: unknown option limti; nearest is limit\n\
         coldpress: COLDPRESS_MODE takes rescue, active, trace, not \"fast\"; mode:rescue stays\n"
    );
    let out = output(command.env("COLDPRESS_STRICT", "1"));
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).ends_with(
        "the library would be off: COLDPRESS_STRICT: unknown option limti; nearest is limit\n"
    ));
}

#[test]
fn json_has_a_schema() {
    let out = output(coldpress(&["env", "--json"]).env("COLDPRESS_TORTURE", "1"));
    let document: Value = serde_json::from_str(&stdout(&out)).expect("JSON");
    assert_eq!(document["schema"], "coldpress.env");
    assert_eq!(document["version"], 1);
    let options = document["options"].as_array().expect("options");
    let torture = options.iter().find(|o| o["key"] == "torture").expect("torture");
    assert_eq!(torture["value"], "1");
    assert_eq!(torture["source"], "COLDPRESS_TORTURE");
    assert_eq!(torture["default"], "off");
}

#[test]
fn doctor_without_a_driver() {
    let out = output(&mut coldpress(&["doctor"]));
    assert_eq!(out.status.code(), Some(1));
    let text = stdout(&out);
    assert!(
        text.starts_with(
            "\
FAIL driver    none: /nonexistent/libcuda.so.1: cannot open shared object file: No such file or directory
               -> install the NVIDIA driver, or name its library in COLDPRESS_REAL_LIBCUDA; coldpress demo works without
"
        ),
        "{text}"
    );
    for name in ["library", "host", "memlock", "stat", "options"] {
        assert!(text.lines().any(|l| l.get(5..).is_some_and(|l| l.starts_with(name))), "{name}");
    }
}

#[test]
fn doctor_knows_what_gets_in_the_way() {
    let mut command = coldpress(&["doctor", "--json"]);
    command.env("CUDA_MPS_PIPE_DIRECTORY", "/tmp").env("COLDPRESS_LIMTI", "1G");
    command.env("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True");
    let document: Value = serde_json::from_str(&stdout(&output(&mut command))).expect("JSON");
    assert_eq!(
        (&document["schema"], &document["version"]),
        (&"coldpress.doctor".into(), &1.into())
    );
    let checks = document["checks"].as_array().expect("checks");
    for name in ["mps", "pytorch", "options"] {
        let check = checks.iter().find(|c| c["name"] == name).expect(name);
        assert_eq!(check["status"], "warn", "{check}");
        assert!(check["next"].is_string(), "{check}");
    }
}
