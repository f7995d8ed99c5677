//! Providers that answer, and every way in which one does not.

use std::io::BufRead;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::release::Class;
use ampoule_protocol::time::UtcTime;

use super::*;
use crate::system::SystemClock;

const TIMEOUT: Duration = Duration::from_millis(300);

fn ask(provider: Provider) -> Answer {
    ask_at(provider, Rc::new(SystemClock::default()))
}

fn ask_at(provider: Provider, clock: Rc<dyn Clock>) -> Answer {
    let config = InterlockConfig {
        name: "therapy".to_owned(),
        provider,
        timeout: TIMEOUT,
    };
    let question = Question {
        update: Digest::of(b""),
        class: Class::Security,
        downtime: Duration::ZERO,
    };
    Interlock::new(config, clock).ask(&question)
}

/// A provider that reads the question and writes what `answer` makes of its id.
fn provider(path: &Path, answer: impl Fn(u64) -> Vec<u8> + Send + 'static) {
    let listener = UnixListener::bind(path).expect("binds");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a question");
        let mut line = String::new();
        io::BufReader::new(&stream)
            .read_line(&mut line)
            .expect("a line");
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(
            (&value["ampoule"], &value["ask"]),
            (&1.into(), &"therapy".into())
        );
        let _ = stream.write_all(&answer(value["id"].as_u64().expect("an id")));
        // Held open: an end is another answer than silence.
        thread::sleep(2 * TIMEOUT);
    });
}

/// Meant to catch: without the comparison of ids the one that speaks without listening is believed.
#[test]
fn a_socket_that_says_anything_but_idle_is_no() {
    let line = |text: &str| {
        let text = text.to_owned();
        move |id: u64| format!("{}\n", text.replace("ID", &id.to_string())).into_bytes()
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mut count = 0;
    let mut said = |answer: Box<dyn Fn(u64) -> Vec<u8> + Send>| {
        count += 1;
        let path = folder.path().join(format!("{count}.sock"));
        provider(&path, answer);
        ask(Provider::Socket(path))
    };
    assert_eq!(
        said(Box::new(line(r#"{"id":ID,"therapy":"idle"}"#))),
        Answer::Yes
    );
    assert_eq!(
        said(Box::new(line(
            r#"{"id":ID,"therapy":"active","reason":"infusing"}"#
        ))),
        Answer::no("therapy is active: infusing")
    );
    for text in [
        r#"{"id":ID,"therapy":"unknown"}"#,
        r#"{"id":99,"therapy":"idle"}"#,
        r#"{"therapy":"idle"}"#,
        r#"{"id":ID,"therapy":"Idle"}"#,
        r#"{"id":ID}"#,
        "idle",
        "",
        "{\"id\":ID,\"therapy\":\"idle\"}\n{\"id\":ID,\"therapy\":\"active\"}",
    ] {
        assert_eq!(said(Box::new(line(text))).as_str(), "unknown", "{text}");
    }
    let endless: Box<dyn Fn(u64) -> Vec<u8> + Send> = Box::new(|_| vec![b' '; 100_000]);
    assert_eq!(said(endless).as_str(), "unknown");
    let silent: Box<dyn Fn(u64) -> Vec<u8> + Send> = Box::new(|_| Vec::new());
    let start = Instant::now();
    assert_eq!(said(silent).as_str(), "unknown");
    assert!(
        start.elapsed() < 10 * TIMEOUT,
        "a silent provider held the agent"
    );
}

#[test]
fn a_provider_that_is_not_there_is_no() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("none.sock");
    assert_eq!(ask(Provider::Socket(path.clone())).as_str(), "unknown");
    // Its socket is left over from a life that ended.
    drop(UnixListener::bind(&path).expect("binds"));
    assert_eq!(ask(Provider::Socket(path)).as_str(), "unknown");
}

#[test]
fn a_provider_that_drips_is_late() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("slow.sock");
    let listener = UnixListener::bind(&path).expect("binds");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a question");
        for byte in br#"{"id":1,"therapy":"idle"}"# {
            thread::sleep(TIMEOUT / 5);
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
        }
    });
    let start = Instant::now();
    assert_eq!(ask(Provider::Socket(path)).as_str(), "unknown");
    assert!(start.elapsed() < 3 * TIMEOUT, "each byte gave it new time");
}

/// A clock that stands still.
struct Fixed {
    wall: Option<i64>,
    boot: f64,
}

impl Clock for Fixed {
    fn wall(&self) -> Option<UtcTime> {
        self.wall.map(UtcTime::from_unix)
    }
    fn uptime(&self) -> Duration {
        Duration::from_secs_f64(self.boot)
    }
    fn sleep(&self, _time: Duration) {}
}

/// Meant to catch: an age that saturates for files of the future believes one for as long as the clock
/// is behind.
#[test]
fn a_file_counts_while_it_is_fresh() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("therapy");
    let age_max = Duration::from_secs(10);
    let said = |content: &str, wall: Option<i64>, boot: f64| {
        std::fs::write(&path, content).expect("writes");
        let file = std::fs::File::options()
            .write(true)
            .open(&path)
            .expect("opens");
        let modified = std::time::UNIX_EPOCH + Duration::from_hours(500_000);
        file.set_modified(modified).expect("sets the time");
        let clock = Rc::new(Fixed { wall, boot });
        ask_at(Provider::File(path.clone(), age_max), clock)
    };
    let now = 1_800_000_000;
    assert_eq!(said("idle\n", Some(now + 10), 1000.0), Answer::Yes);
    assert_eq!(said("active\n", Some(now), 1000.0).as_str(), "no");
    for (content, wall, boot, why) in [
        ("idle\n", Some(now + 11), 1000.0, "too old"),
        ("idle\n", Some(now - 60), 1000.0, "from the future"),
        ("idle\n", Some(now + 10), 5.0, "from another boot"),
        ("idle\n", None, 1000.0, "no clock"),
        ("unknown\n", Some(now), 1000.0, "it says so"),
        ("", Some(now), 1000.0, "empty"),
        ("idle 1 2", Some(now), 1000.0, "nonsense"),
        ("idle x", Some(now), 1000.0, "nonsense"),
        ("idle NaN", Some(now), 1000.0, "nonsense"),
        ("idle inf", Some(now), 1000.0, "nonsense"),
        ("idle -1", Some(now), 1000.0, "nonsense"),
        ("idle 989.9", Some(now), 1000.0, "stamp too old"),
        ("idle 1003", Some(now), 1000.0, "stamp of another boot"),
    ] {
        assert_eq!(
            said(content, wall, boot).as_str(),
            "unknown",
            "{why}: {content}"
        );
    }
    // With a stamp the wall clock makes no difference.
    assert_eq!(said("idle 990.5", None, 1000.0), Answer::Yes);
}

#[test]
fn a_pipe_in_the_place_of_the_file_does_not_hold_the_agent() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("therapy");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo runs").success());
    let start = Instant::now();
    let age_max = Duration::from_secs(10);
    assert_eq!(ask(Provider::File(path, age_max)).as_str(), "unknown");
    assert_eq!(
        ask(Provider::File(folder.path().to_owned(), age_max)).as_str(),
        "unknown"
    );
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_command_says_it_by_its_exit_code() {
    let said = |script: &str| {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        ask(Provider::Command(command)).as_str()
    };
    assert_eq!(said("exit 0"), "yes");
    assert_eq!(said("echo idle"), "yes");
    assert_eq!(said("exit 1"), "no");
    assert_eq!(said("echo active; exit 1"), "no");
    assert_eq!(said("echo active"), "no", "the word for danger wins");
    for script in [
        "exit 2",
        "echo unknown",
        "echo idle; exit 1",
        "echo hello",
        "kill -9 $$",
        "sleep 5",
    ] {
        assert_eq!(said(script), "unknown", "{script}");
    }
    assert_eq!(
        ask(Provider::Command(vec!["/none".into()])).as_str(),
        "unknown"
    );
}
