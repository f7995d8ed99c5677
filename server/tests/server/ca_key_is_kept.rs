//! The key that issues certificates, where it is not a plain file: sealed, and on a token (SoftHSM2).

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::common::enrol::{ENROLL, anonymous, keep, newborn, openssl, post, request, token};
use crate::common::{BINARY, Server, World, run, said, text};

const PIN: &str = "4711";

fn world(enroll: &str) -> World {
    let mut world = World::new();
    let made = run(&["secret-key", text(&world.path("secret.key"))]);
    assert!(made.status.success(), "{}", said(&made));
    world.director = format!(
        "[est]\nlisten = \"127.0.0.1:0\"\n[secrets]\nkey_file = \"secret.key\"\n[enroll]\n{enroll}\n"
    );
    world
}

/// A device gets its certificate from the server, and the authority's own certificate vouches for it.
fn a_device_enrols(world: &World, server: &Server) {
    let device = newborn(world, "pump-1");
    let token = token(world, "pump-1", &[]);
    let client = anonymous(world, server);
    let der = request(&device, "pump-1");
    keep(
        &device,
        &post(&client, ENROLL, Some(("pump-1", &token)), &der),
    );
    assert_eq!(device.client(server).get("/device/v1/self").status, 200);
    let (ca, certificate) = (world.path("ca.pem"), device.dir.join("device.pem"));
    openssl(&["verify", "-CAfile", text(&ca), text(&certificate)]);
}

/// Catches: a sealed key that is written in the clear somewhere, or that opens with another key.
#[test]
fn a_sealed_key_issues_and_opens_with_its_own_seal_only() {
    let world = world("ca_key = \"ca.sealed\"");
    let (plain, sealed) = (world.path("ca.key"), world.path("ca.sealed"));
    let config = world.config();
    let seal = run(&[
        "seal-key",
        text(&plain),
        text(&sealed),
        "--config",
        text(&config),
    ]);
    assert!(seal.status.success(), "{}", said(&seal));
    std::fs::remove_file(&plain).unwrap();
    let text_of = std::fs::read_to_string(&sealed).unwrap();
    assert!(!text_of.contains("PRIVATE KEY"), "{text_of}");
    let server = world.start();
    a_device_enrols(&world, &server);
    server.stop();
    let issued = world.enroll("pump-2");
    assert!(issued.dir.join("device.key").exists(), "by hand as well");

    std::fs::remove_file(world.path("secret.key")).unwrap();
    run(&["secret-key", text(&world.path("secret.key"))]);
    let Err(told) = Server::try_start(&world.config()) else {
        panic!("it opened with another key");
    };
    assert!(told.contains("it was sealed with key"), "{told}");
}

fn softhsm() -> Option<PathBuf> {
    let usual = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib64/softhsm/libsofthsm2.so",
    ];
    let found = usual
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.is_file());
    if found.is_none() && std::env::var_os("AMPOULE_TEST_OFFLINE").is_some_and(|v| v == "1") {
        eprintln!("left out: SoftHSM2 is not installed, so no token was tried");
        return None;
    }
    assert!(
        found.is_some(),
        "SoftHSM2 is not installed: apt-get install softhsm2"
    );
    found
}

fn with_token(program: &str, world: &World, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).current_dir(world.path(""));
    command.env("SOFTHSM2_CONF", world.path("softhsm2.conf"));
    command
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn ok(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

/// Catches: a token whose key is not the certificate's, which would issue what no device accepts.
#[test]
fn a_key_on_a_token_issues() {
    let Some(module) = softhsm() else { return };
    let world = world(&format!(
        "ca_module = \"{}\"\nca_token = \"fleet\"\nca_label = \"issuing\"\nca_pin_file = \"pin\"",
        module.display()
    ));
    std::fs::write(world.path("pin"), PIN).unwrap();
    std::fs::create_dir(world.path("tokens")).unwrap();
    let conf = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\n",
        world.path("tokens").display()
    );
    std::fs::write(world.path("softhsm2.conf"), conf).unwrap();
    let util = |args: &[&str]| ok(&with_token("softhsm2-util", &world, args));
    util(&[
        "--init-token",
        "--free",
        "--label",
        "fleet",
        "--so-pin",
        "12345678",
        "--pin",
        PIN,
    ]);
    let import = |file: &str, label: &str, id: &str| {
        util(&[
            "--import", file, "--token", "fleet", "--label", label, "--id", id, "--pin", PIN,
        ]);
    };
    import("ca.key", "issuing", "01");
    std::fs::remove_file(world.path("ca.key")).unwrap();
    let conf = world.path("softhsm2.conf");
    let server = Server::try_start_with(&world.config(), &[("SOFTHSM2_CONF", text(&conf))]);
    let server = server.unwrap();
    a_device_enrols(&world, &server);
    server.stop();

    let refused = |world: &World| {
        let config = world.config();
        let args = ["run", "--check-config", "--config", text(&config)];
        let output = with_token(BINARY, world, &args);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        said(&output)
    };
    std::fs::write(world.path("pin"), "0000").unwrap();
    let told = refused(&world);
    assert!(
        told.contains("does not let us in") && !told.contains("0000"),
        "{told}"
    );
    std::fs::write(world.path("pin"), PIN).unwrap();
    openssl(&[
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        text(&world.path("other.key")),
    ]);
    import("other.key", "other", "02");
    let mut world = world;
    world.director = world.director.replace("\"issuing\"", "\"other\"");
    let told = refused(&world);
    assert!(told.contains("is not of the authority's key"), "{told}");
}
