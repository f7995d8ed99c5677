//! A device, a server whose targets lie in a bucket, and the bucket: the real programs, and a store
//! that speaks S3 and checks signatures, over TLS.
//!
//! The network half is sealed as it is in the field, so that its wall has to be open for the bucket's
//! port; what the agent's client does with bad links is in `agent/tests/device/links.rs`.

#[path = "../../../server/tests/server/common/bucket.rs"]
#[allow(unreachable_pub, reason = "shared with the tests of the server")]
mod bucket;
#[path = "../airgap/site.rs"]
#[allow(dead_code, reason = "this site has a network")]
mod site;

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

use bucket::{Bucket, SECRET_KEY};
use site::Site;

/// Where the bucket finds its folder and its certificate.
pub(crate) struct World(PathBuf);

impl World {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        match name {
            "server.pem" | "server.key" => self.0.join("pki").join(name),
            _ => self.0.join(name),
        }
    }
}

/// A running server; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn text(site: &Site, name: &str) -> String {
    String::from_utf8(site.read(name)).expect("text")
}

/// Pushes the tree to a bucket, and starts a server that gives links away.
fn start(site: &Site) -> (Running, Bucket, String) {
    let world = World(site.path().to_owned());
    let bucket = Bucket::start(&world);
    let blobs = bucket.section(&world, SECRET_KEY, "link_secs = 60");
    let config = text(site, "server.toml")
        .replace("127.0.0.1:8443", "127.0.0.1:0")
        .replace("release/published", "mirror");
    let blobs = blobs.replace("\"ca.pem\"", "\"pki/ca.pem\"");
    site.write("serving.toml", format!("{config}\n{blobs}").as_bytes());
    std::fs::create_dir(site.file("mirror")).expect("made");
    site.server("tree push release/published --config serving.toml");
    let mut child = Command::new(env!("CARGO_BIN_EXE_server-under-test"))
        .args(["run", "--config", "serving.toml"])
        .current_dir(site.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut lines = out.lines().map(|line| line.expect("text"));
    let address = lines.find_map(|line| Some(line.strip_prefix("listening on ")?.to_owned()));
    (Running(child), bucket, address.expect("it starts"))
}

/// What a device is told besides: it does not wait long after a fault.
fn follow(site: &Site, address: &str, links: &str) {
    let own = text(site, "agent.toml").replace("127.0.0.1:8443", address);
    let poll = "[poll]\nbackoff_first_secs = 1\n";
    site.write("agent.toml", format!("{own}\n{links}{poll}").as_bytes());
}

fn updates(site: &Site) {
    let armed = site.agent("install");
    assert_eq!(armed["result"], "restart-due", "{armed}");
    site.agent("boot");
    let done = site.agent("install");
    assert_eq!(
        (&done["result"], &done["version"]),
        (&"committed".into(), &"1.0.0".into())
    );
}

/// Catches: a link that is not asked for, or not followed; a wall that keeps the network half from the
/// bucket.
#[test]
fn a_device_takes_its_images_from_the_bucket_that_its_configuration_names() {
    let site = Site::new();
    let (_server, bucket, address) = start(&site);
    let port = bucket.address.port();
    let links = format!("[server.links]\nhosts = [\"localhost:{port}\"]\nca = \"pki/ca.pem\"\n");
    follow(&site, &address, &links);
    updates(&site);
    // The list of blocks, and the image.
    assert_eq!(bucket.links.load(Ordering::Relaxed), 2);
}

/// Catches: a bucket's certificate that is checked under other authorities than the configured ones; a
/// device that is held up by a bucket that it cannot use.
#[test]
fn a_bucket_that_is_not_believed_costs_one_attempt_and_the_server_is_asked() {
    let site = Site::new();
    let (_server, bucket, address) = start(&site);
    site.server("dev-ca --dir other-pki");
    let port = bucket.address.port();
    let links =
        format!("[server.links]\nhosts = [\"localhost:{port}\"]\nca = \"other-pki/ca.pem\"\n");
    follow(&site, &address, &links);
    updates(&site);
    assert_eq!(bucket.links.load(Ordering::Relaxed), 0);
}

/// A device that was not told of a bucket takes everything from its server.
#[test]
fn a_device_without_a_bucket_in_its_configuration_never_sees_a_link() {
    let site = Site::new();
    let (_server, bucket, address) = start(&site);
    follow(&site, &address, "");
    updates(&site);
    assert_eq!(bucket.links.load(Ordering::Relaxed), 0);
}
