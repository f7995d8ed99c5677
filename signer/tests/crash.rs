//! `kill -9` at random moments, 200 times: of `add`, `sign` and `publish`, in turns.
//!
//! After each kill: what was signed before is still signed, the tree that readers see verifies and
//! is the old one or the new, and the same command run again succeeds. The seed is printed;
//! `AMPOULE_SEED=… cargo test -p ampoule-signer --test crash` replays it (as far as the machine's
//! own timing lets it).

mod common;

use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ampoule_protocol::time::UtcTime;
use ampoule_signer::progress::Silent;
use ampoule_signer::request::Request;
use ampoule_signer::verify::{self, Expiry, Report};
use common::{Ground, PUBLISH};

const KILLS: usize = 200;
/// A machine so fast that every command ends before its kill would turn this test into an endless
/// one.
const ROUNDS_MAX: usize = 400;

#[test]
fn two_hundred_kills_lose_nothing_that_was_signed() {
    let mut random = Random::new();
    let ground = Ground::published();
    let mut kills = 0;
    let mut rounds = 0;
    let mut published = 1;
    while kills < KILLS {
        rounds += 1;
        assert!(
            rounds < ROUNDS_MAX,
            "only {kills} kills hit in {rounds} rounds"
        );
        let version = rounds + 1;
        ground.build(u8::try_from(rounds % 200).unwrap());
        let toml = common::release_toml(&format!("2.5.{rounds}"), 17);
        let toml = toml.replace("[component.delta]\nbases = \"last:3\"\n", "");
        ground.write("release.toml", toml.as_bytes());

        kills += until_done(
            &ground,
            &mut random,
            &["-w", "w", "add", "release.toml"],
            &|| {
                tree(&ground, published);
            },
        );
        let draft = format!("w/staging/{version}.infusion-pump.request");
        for (signed, holder) in ["engineer", "safety"].into_iter().enumerate() {
            let key = format!("{holder}.key");
            let sign = ["sign", &draft, "--yes", "-k", &key];
            kills += until_done(&ground, &mut random, &sign, &|| {
                let request = Request::load(&ground.path(&draft)).expect("a whole request");
                let now = request.needs().expect("needs")[0].signed.len();
                assert!(now >= signed, "a signature was lost: {now} of {signed}");
            });
        }
        kills += until_done(&ground, &mut random, &PUBLISH, &|| {
            tree(&ground, published);
        });
        published += 1;
        let report = tree(&ground, published);
        let pump = report
            .rows
            .iter()
            .find(|row| row.role == "infusion-pump")
            .unwrap();
        assert_eq!(
            usize::try_from(pump.version),
            Ok(published),
            "the newest release is not in the tree"
        );
        // 4 files a release: description, artifact, leaves, SBOM.
        assert_eq!(report.targets, 4 * published, "a signed release was lost");
    }
    println!("{kills} kills in {rounds} rounds");
}

/// Runs a command and kills it at a random moment, up to three times, then lets it end. How many
/// kills hit.
fn until_done(ground: &Ground, random: &mut Random, args: &[&str], check: &dyn Fn()) -> usize {
    // What one run takes, at most: kills later than that would miss.
    const SPAN_MICROS: u64 = 25_000;
    let mut kills = 0;
    for _ in 0..3 {
        let mut child = ground
            .command(args)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the signer starts");
        let until = Instant::now() + Duration::from_micros(random.below(SPAN_MICROS));
        while Instant::now() < until {
            thread::yield_now();
        }
        child.kill().expect("killed");
        let status = child.wait().expect("ended");
        check();
        if status.signal() != Some(9) {
            // It was done before; doing it twice may rightly be refused (a release that is there).
            assert!(status.success(), "{args:?} failed by itself: {status}");
            return kills;
        }
        kills += 1;
    }
    let output = ground.run(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{args:?} after {kills} kills: {stderr}"
    );
    check();
    kills
}

/// The tree as a reader sees it: it verifies, and its product is at `published` or one further.
fn tree(ground: &Ground, published: usize) -> Report {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let now = UtcTime::from_unix(i64::try_from(now).unwrap());
    let report = verify::tree(&ground.path("w/published"), Expiry::Enforce, now, &Silent)
        .unwrap_or_else(|e| {
            panic!(
                "the tree does not verify: {e} {:?}",
                std::error::Error::source(&e)
            )
        });
    let pump = report
        .rows
        .iter()
        .find(|row| row.role == "infusion-pump")
        .expect("the product");
    let version = usize::try_from(pump.version).unwrap();
    assert!(
        (published..=published + 1).contains(&version),
        "{version} after {published}"
    );
    report
}

/// xorshift64*: enough to choose moments.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = std::env::var("AMPOULE_SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or(u64::from(now.subsec_nanos()) | 1);
        println!("AMPOULE_SEED={seed} cargo test -p ampoule-signer --test crash");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    }
}
