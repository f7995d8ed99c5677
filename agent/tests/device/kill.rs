//! The real binary, killed at random moments.
//!
//! Method: the loader runs, the agent is started and killed (SIGKILL) some milliseconds later, until
//! two hundred kills hit one that was at work; whenever the device rests on the newest release, a newer one is published. After
//! each kill the slot that boots holds a whole published image. In the end the device runs the
//! newest release, and the server has every receipt, without a gap.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::release::Install;
use serde_json::Value;

use crate::repo::Repo;
use crate::server::{self, Server};

const KILLS: u32 = 200;
/// A machine so fast that the agent has ended before most kills would make this test endless.
const ROUNDS_MAX: u32 = 5000;

/// A device in a folder.
pub(crate) struct Device {
    pub(crate) folder: PathBuf,
}

impl Device {
    /// With an agent.toml of one component.
    pub(crate) fn new(folder: &Path, server: &Server, root: &[u8], component: &str) -> Self {
        std::fs::write(folder.join("1.root.json"), root).expect("writes");
        let config = format!(
            "data_dir = \"data\"\nproduct = \"infusion-pump\"\nhardware = \"pump-mk3\"\n\
             root = \"1.root.json\"\n[server]\nurl = \"https://{}\"\nca = \"ca.pem\"\n\
             certificate = \"device.pem\"\nkey = \"device.key\"\n[health]\ninterval_secs = 1\n\
             commands = [[\"/bin/true\"]]\n[[component]]\nname = \"rootfs\"\n{component}",
            server.address
        );
        std::fs::write(folder.join("agent.toml"), config).expect("writes");
        Self {
            folder: folder.to_owned(),
        }
    }

    pub(crate) fn agent(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ampoule-agent"));
        command
            .current_dir(&self.folder)
            .args(["--config", "agent.toml"])
            .args(args);
        command
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let output = self.agent(args).arg("--json").output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{args:?}: {text}{error}"))
    }

    /// Installs until nothing is left to do.
    pub(crate) fn settle(&self) -> Value {
        for _ in 0..20 {
            self.json(&["boot"]);
            let result = self.json(&["install"]);
            if result["result"] == "nothing-new" {
                return result;
            }
        }
        panic!("the device does not come to rest");
    }
}

/// Noise that differs with the seed, and is the same again.
pub(crate) fn noise(seed: u32, len: usize) -> Vec<u8> {
    let block = |n: usize| *Digest::of(format!("{seed} {n}").as_bytes()).as_bytes();
    (0..len.div_ceil(32)).flat_map(block).take(len).collect()
}

#[test]
fn two_hundred_kills_leave_a_whole_version_and_every_receipt() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let mut repo = Repo::new();
    let server = server::start(folder, repo.tree.clone());
    let device = Device::new(
        folder,
        &server,
        repo.root(),
        "install = \"slot\"\nslots = { a = \"a.img\", b = \"b.img\" }\n",
    );
    std::fs::write(folder.join("a.img"), noise(0, 5_000)).expect("writes");
    let mut images = vec![Digest::of(&noise(0, 5_000))];
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .subsec_nanos();
    eprintln!("seed {seed}");
    let (mut kills, mut round) = (0, 0);
    while kills < KILLS {
        assert!(round < ROUNDS_MAX, "only {kills} kills hit");
        round += 1;
        let installed = device.json(&["status"])["components"][0]["version"].clone();
        if images.len() == 1 || installed == format!("1.0.{}", images.len() - 1) {
            let version = u32::try_from(images.len()).expect("few");
            let image = noise(version, 1_500_000 + version as usize);
            images.push(Digest::of(&image));
            repo.release(
                &format!("1.0.{version}"),
                version.into(),
                Install::Slot,
                &image,
            );
            server
                .world
                .lock()
                .expect("alive")
                .tree
                .clone_from(&repo.tree);
        }
        boots_whole(&device, &images, round);
        let mut child = device.agent(&["install"]);
        let child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("runs");
        let spread = Digest::of(format!("{seed} {round}").as_bytes()).as_bytes()[0];
        std::thread::sleep(Duration::from_millis(u64::from(spread) * 2));
        let _ = child.kill();
        let ended = child.wait().expect("ours");
        kills += u32::from(ended.signal() == Some(9));
        boots_whole(&device, &images, round);
    }
    device.settle();
    let status = device.json(&["status"]);
    let newest = images.len() - 1;
    assert_eq!(status["components"][0]["version"], format!("1.0.{newest}"));
    assert_eq!(status["floor"], newest);
    assert_eq!(status["outbox"], 0);
    println!("{KILLS} kills in {round} rounds, {newest} releases went through");
    assert!(
        newest >= 3,
        "only {newest} releases went through: the kills came too early"
    );
    assert_eq!(
        seqs(&server),
        (1..=*seqs(&server).last().expect("some")).collect::<Vec<_>>()
    );
}

/// The loader's choice holds a whole image that was published.
fn boots_whole(device: &Device, images: &[Digest], round: u32) {
    let told = device.json(&["boot"]);
    let slot = told["components"][0]["path"].as_str();
    let slot = slot.unwrap_or_else(|| panic!("round {round}: no slot boots: {told}"));
    let content = std::fs::read(device.folder.join(slot)).expect("a slot");
    assert!(
        images.contains(&Digest::of(&content)),
        "round {round}: {slot} boots and is not whole"
    );
}

/// The numbers of the receipts that the server acknowledged, repeats left out.
fn seqs(server: &Server) -> Vec<u64> {
    let world = server.world.lock().expect("alive");
    let seq = |bytes: &Vec<u8>| {
        serde_json::from_slice::<Value>(bytes).expect("JSON")["signed"]["seq"].as_u64()
    };
    let mut seqs: Vec<u64> = world.receipts.iter().filter_map(seq).collect();
    seqs.sort_unstable();
    seqs.dedup();
    seqs
}
