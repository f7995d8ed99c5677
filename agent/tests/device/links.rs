//! Targets by a link: followed where the configuration says so, to where it says, and no further.
//!
//! Method: the agent's client, a server that sends whoever asks to a bucket, and a bucket with an
//! authority of its own that writes down what it is shown.
//!
//! Catches: a link that is followed to another host, port or scheme; a client certificate, a cookie
//! or a password that goes to the bucket; a bucket that sends on and is followed; an error that
//! tells the link; a device that is held up for ever by a bucket that lies.

use ampoule_agent::net::{HttpNetwork, LinkHost, NetError};
use ampoule_agent::ports::Network as _;
use ampoule_protocol::error::Coded as _;

use crate::answers::network;
use crate::repo::Tree;
use crate::server::{self, Fault, Server};

/// What makes a link a secret.
const SIGNED: &str = "x.img?X-Amz-Signature=5ec7e7";
const LEN: u64 = 50_000;

struct Ground {
    folder: tempfile::TempDir,
    server: Server,
    bucket: Server,
    network: HttpNetwork,
}

fn image() -> Vec<u8> {
    (0..50_000_u32).map(|n| n.to_be_bytes()[3]).collect()
}

impl Ground {
    /// The bucket's port is the one that is followed to.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let other = folder.path().join("bucket");
        std::fs::create_dir(&other).expect("makes a folder");
        let target = |path: &str| Tree::from([(path.to_owned(), image())]);
        let server = server::start(folder.path(), target("targets/x.img"));
        let bucket = server::start_bucket(&other, target("x.img"));
        let mut ground = Self {
            network: network(folder.path(), &server),
            folder,
            server,
            bucket,
        };
        ground.follow("bucket/ca.pem");
        ground.send_to(&format!("https://{}/fleet/{SIGNED}", ground.bucket.address));
        ground
    }

    /// A client that follows links under these authorities.
    fn follow(&mut self, authorities: &str) {
        let host = LinkHost::parse(&self.bucket.address.to_string()).expect("a host");
        let pem = std::fs::read(self.folder.path().join(authorities)).expect("readable");
        let network = network(self.folder.path(), &self.server);
        let following = network.following(vec![host], &pem);
        self.network = following.unwrap_or_else(|_| panic!("certificates"));
    }

    fn send_to(&self, link: &str) {
        self.server.world.lock().expect("alive").link = Some(link.to_owned());
    }

    fn read(&mut self, offset: u64) -> Result<Vec<u8>, NetError> {
        let mut bytes = Vec::new();
        let mut body = self.network.target("x.img", offset, LEN)?;
        std::io::Read::read_to_end(&mut body, &mut bytes)?;
        Ok(bytes)
    }

    fn code(&mut self) -> &'static str {
        let error = self.read(0).expect_err("it cannot be had so");
        let text = error.to_string();
        assert!(!text.contains("5ec7e7"), "the link is told: {text}");
        error.code()
    }

    fn asked(&self, of: fn(&Self) -> &Server) -> Vec<String> {
        let mut world = of(self).world.lock().expect("alive");
        std::mem::take(&mut world.requests)
    }
}

#[test]
fn a_link_is_followed_with_its_range_and_without_a_word_of_who_asks() {
    let mut ground = Ground::new();
    assert_eq!(ground.read(0).expect("the whole"), image());
    assert_eq!(ground.read(40_000).expect("the rest"), image()[40_000..]);
    assert_eq!(
        ground.asked(|ground| &ground.bucket),
        [
            format!("/fleet/{SIGNED}"),
            format!("/fleet/{SIGNED} 40000-")
        ]
    );
    let path = "/tuf/image/targets/x.img";
    assert_eq!(
        ground.asked(|ground| &ground.server),
        [
            format!("{path} by a link"),
            format!("{path} 40000- by a link")
        ]
    );
    let shown = |server: &Server| server.world.lock().expect("alive").shown.clone();
    assert_eq!(shown(&ground.bucket), [""; 0], "the bucket learns nothing");
    assert_eq!(shown(&ground.server), ["certificate"; 2]);
}

#[test]
fn without_a_configuration_nobody_asks_and_nobody_follows() {
    let mut ground = Ground::new();
    ground.network = network(ground.folder.path(), &ground.server);
    assert_eq!(ground.read(0).expect("from the server"), image());
    assert_eq!(
        ground.asked(|ground| &ground.server),
        ["/tuf/image/targets/x.img"]
    );
    // A server that redirects who did not ask.
    let raw = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: https://{}/fleet/{SIGNED}\r\n\
         content-length: 0\r\n\r\n",
        ground.bucket.address
    );
    ground.server.world.lock().expect("alive").raw = Some(raw.into_bytes());
    assert_eq!(ground.code(), "server-status");
    assert_eq!(ground.asked(|ground| &ground.bucket), [""; 0]);
}

#[test]
fn a_link_that_leads_elsewhere_is_refused_and_the_server_is_asked_again() {
    fn at(ground: &Ground) -> std::net::SocketAddr {
        ground.bucket.address
    }
    let links: [fn(&Ground) -> String; 9] = [
        |ground| format!("http://{}/fleet/{SIGNED}", at(ground)),
        |ground| format!("https://localhost:{}/fleet/{SIGNED}", at(ground).port()),
        |_| format!("https://127.0.0.1/fleet/{SIGNED}"),
        |ground| format!("https://{}/fleet/{SIGNED}", ground.server.address),
        |ground| format!("https://name:word@{}/fleet/{SIGNED}", at(ground)),
        |ground| format!("https://{}@localhost/fleet/{SIGNED}", at(ground)),
        |ground| format!("//{}/fleet/{SIGNED}", at(ground)),
        |_| format!("/fleet/{SIGNED}"),
        |ground| format!("https://{}/fleet/{SIGNED}{}", at(ground), "a".repeat(4096)),
    ];
    for link in links {
        let mut ground = Ground::new();
        let link = link(&ground);
        ground.send_to(&link);
        assert_eq!(ground.code(), "link-refused", "{link}");
        assert_eq!(ground.asked(|ground| &ground.bucket), [""; 0], "{link}");
        assert_eq!(ground.read(0).expect("the server has it"), image());
    }
}

#[test]
fn a_bucket_that_sends_on_or_refuses_is_not_followed_and_the_server_is_asked_again() {
    let mut ground = Ground::new();
    let on = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: https://{}/fleet/{SIGNED}\r\n\
         content-length: 0\r\n\r\n",
        ground.bucket.address
    );
    ground.bucket.world.lock().expect("alive").raw = Some(on.into_bytes());
    assert_eq!(ground.code(), "link-failed");
    assert_eq!(ground.asked(|ground| &ground.bucket).len(), 1);
    assert_eq!(ground.read(0).expect("the server has it"), image());

    let mut ground = Ground::new();
    ground.bucket.world.lock().expect("alive").tree.clear();
    assert_eq!(ground.code(), "link-failed");
    assert_eq!(ground.read(0).expect("the server has it"), image());
}

#[test]
fn a_bucket_under_another_authority_is_not_believed() {
    let mut ground = Ground::new();
    ground.follow("ca.pem");
    assert_eq!(ground.code(), "link-failed");
    assert_eq!(ground.asked(|ground| &ground.bucket), [""; 0]);
    assert_eq!(ground.read(0).expect("the server has it"), image());
}

#[test]
fn what_a_bucket_sends_is_bounded_and_what_is_of_no_use_comes_from_the_server_next() {
    let mut ground = Ground::new();
    ground.bucket.world.lock().expect("alive").fault = Fault::WrongLength;
    assert_eq!(ground.code(), "length-mismatch");
    assert_eq!(ground.read(0).expect("the server has it"), image());

    let mut ground = Ground::new();
    ground.bucket.world.lock().expect("alive").fault = Fault::Flips;
    assert_ne!(ground.read(0).expect("as long as it must be"), image());
    assert_eq!(ground.read(0).expect("the server has it"), image());
    assert_eq!(ground.asked(|ground| &ground.bucket).len(), 1);
}
