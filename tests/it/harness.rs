//! The harness itself: what a test run prints, and what it leaves behind.

use crate::support::browser::Browser;
use crate::support::{Config, free_address};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Goal: a test that passes prints its own line and nothing of what its gateway logs.
/// Method: this binary runs a test whose gateway logs an error, and the whole output is read.
#[test]
fn passing_tests_print_no_diagnostics() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "renewals::strangers_do_not_fill_the_log"])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    assert!(!printed.contains("tidegate::") && printed.lines().count() < 8, "{printed}");
}

/// Goal: the diagnostics of a gateway are kept for the test that fails, both streams of them.
#[test]
fn diagnostics_are_kept() {
    let gateway =
        Config::default().model("m/x", "chat").channel("c", free_address(), &[("m/x", "x")], "").start();
    gateway.rewrite_text("version: 2\n");
    gateway.signal("HUP");
    gateway.wait_for("the greeting", || gateway.said("clients   http://"));
    gateway.wait_for("the error", || gateway.said("was not reloaded"));
    gateway.finish();
}

/// Goal: a browser is gone with all its processes and folders when its test ends.
#[test]
fn browsers_leave_nothing_behind() {
    let browser = Browser::open("data:text/html,<p>here</p>", false);
    let folder = browser.folder().to_owned();
    let name = folder.to_str().unwrap().to_owned();
    assert!(folder.join("profile").exists() && is_named_by_a_process(&name));
    drop(browser);
    let deadline = Instant::now() + Duration::from_secs(5);
    while is_named_by_a_process(&name) {
        assert!(Instant::now() < deadline, "a process of {name} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!folder.exists(), "{name}");
}

/// Whether the command line of any process contains this.
fn is_named_by_a_process(words: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.filter_map(|entry| std::fs::read(Path::join(&entry.path(), "cmdline")).ok());
    lines.any(|line| String::from_utf8_lossy(&line).contains(words))
}
