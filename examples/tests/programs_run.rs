//! The example programs do what their headers say: they run to their end and show it.

use std::process::Command;

fn out_of(program: &str) -> String {
    let output = Command::new(program).output().expect("the program starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn verify_finds_the_release_and_refuses_each_bent_file() {
    let out = out_of(env!("CARGO_BIN_EXE_verify"));
    assert_eq!(
        out.lines()
            .filter(|line| line.starts_with("refused"))
            .count(),
        3,
        "{out}"
    );
    assert!(
        out.starts_with("found   infusion-pump/release-2.4.1.toml"),
        "{out}"
    );
    assert!(out.contains("[metadata-expired]"), "{out}");
}

#[test]
fn patch_is_applied_to_its_base_and_to_no_other() {
    let out = out_of(env!("CARGO_BIN_EXE_patch"));
    assert!(out.contains("every block is what was signed"), "{out}");
    assert!(out.contains("refused on another base"), "{out}");
}

#[test]
fn the_thief_says_how_to_be_used() {
    let output = Command::new(env!("CARGO_BIN_EXE_thief"))
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: usage"));
}

#[test]
fn the_pump_passes_its_self_test_unless_the_bug_is_built_in() {
    let output = Command::new(env!("CARGO_BIN_EXE_pump"))
        .arg("--self-test")
        .output()
        .expect("it starts");
    assert_eq!(output.status.success(), !cfg!(feature = "stuck-alarm"));
}
