//! What the command line says to every mistake: exit code and stderr, word by word.

use std::path::Path;
use std::process::Command;

fn run(folder: &Path, args: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ampoule-agent"));
    let output = command
        .current_dir(folder)
        .args(args)
        .output()
        .expect("runs");
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    (output.status.code().expect("no signal"), error)
}

#[test]
fn wrong_usage_exits_with_2() {
    let folder = tempfile::tempdir().expect("a folder");
    for (args, line) in [
        (&[][..], "error: a command is missing"),
        (&["upgrade"], "error: \"upgrade\" is not a command"),
        (&["check", "--fast"], "error: invalid option '--fast'"),
        (&["check", "now"], "error: unexpected argument \"now\""),
        (
            &["--config"],
            "error: missing argument for option '--config'",
        ),
    ] {
        let expected = format!("{line}\nhint: see \"ampoule-agent --help\"\n");
        assert_eq!(run(folder.path(), args), (2, expected));
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0);
}

#[test]
fn all_faults_of_a_configuration_are_named_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = "\
data_dir = 5
product = \"in fusion\"
colour = \"red\"
[server]
url = \"http://localhost\"
[server.links]
hosts = [\"https://x\"]
[health]
bake_secs = -1
commands = [\"x\"]
[[component]]
name = \"rootfs\"
install = \"slot\"
slots = { a = \"x\", b = \"x\" }
[[component]]
name = \"rootfs\"
install = \"tree\"
";
    std::fs::write(folder.path().join("agent.toml"), config).expect("writes");
    let (code, error) = run(folder.path(), &["--config", "agent.toml", "install"]);
    assert_eq!(code, 1);
    let faults = [
        "line 1: \"hardware\" is missing",
        "line 1: \"root\" is missing",
        "line 1: \"data_dir\" is not a text",
        "line 2: \"in fusion\" is not a product name: only letters, digits, '-', '_' and '.' may stand in it",
        "line 3: \"colour\" is not known",
        "line 4: \"server.ca\" is missing",
        "line 4: \"server.certificate\" is missing",
        "line 4: \"server.key\" is missing",
        "line 5: \"server.url\" does not begin with \"https://\"",
        "line 6: \"server.links.ca\" is missing",
        "line 6: \"server.links.hosts\" names 0 hosts, expected 1 to 8",
        "line 7: \"https://x\" is not a host, or a host and a port",
        "line 9: \"health.bake_secs\" is not a number from 0 to 604800",
        "line 10: \"health.commands\" is not a list of commands (each a list of texts)",
        "line 14: both slots are the same file",
        "line 15: \"component.dir\" is missing",
        "line 15: component \"rootfs\" stands twice",
    ];
    let expected = format!(
        "error: configuration \"agent.toml\" has {} faults\ncaused by: {}\n",
        faults.len(),
        faults.join("\ncaused by: ")
    );
    assert_eq!(error, expected);
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("there").count(),
        1,
        "nothing was written"
    );
}

#[test]
fn a_missing_or_broken_file_is_one_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, error) = run(folder.path(), &["--config", "none.toml", "status"]);
    assert_eq!(code, 1);
    let expected = "error: configuration \"none.toml\" has 1 fault\ncaused by: it cannot be read: \
                    No such file or directory (os error 2)\n";
    assert_eq!(error, expected);
    std::fs::write(folder.path().join("bad.toml"), "data_dir = \n[server").expect("writes");
    let (code, error) = run(folder.path(), &["--config", "bad.toml", "status"]);
    assert_eq!(code, 1);
    assert!(
        error.starts_with("error: configuration \"bad.toml\" has "),
        "{error}"
    );
    let causes: Vec<&str> = error.lines().skip(1).collect();
    assert_eq!(causes.len(), 2, "{error}");
    assert!(causes[0].starts_with("caused by: line 1: "), "{error}");
    assert!(causes[1].starts_with("caused by: line 2: "), "{error}");
}

#[test]
fn a_device_without_identity_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = "data_dir = \"data\"\nproduct = \"p\"\nhardware = \"h\"\nroot = \"r\"\n\
                  [server]\nurl = \"https://localhost:1\"\nca = \"ca.pem\"\n\
                  certificate = \"device.pem\"\nkey = \"device.key\"\n\
                  [[component]]\nname = \"app\"\ninstall = \"tree\"\ndir = \"app\"\n";
    std::fs::write(folder.path().join("agent.toml"), config).expect("writes");
    let (code, error) = run(folder.path(), &["--config", "agent.toml", "check"]);
    let expected = "error: \"device.pem\" cannot be read: No such file or directory (os error 2)\n\
                    hint: \"ampoule-agent enroll\" asks the server for a certificate\n";
    assert_eq!((code, error.as_str()), (1, expected));
    let (code, error) = run(folder.path(), &["--config", "agent.toml", "status"]);
    assert_eq!((code, error.as_str()), (0, ""), "status needs no server");
}
