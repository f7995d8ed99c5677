//! Whatever bytes come in, a file reads or is refused; nothing panics, and a changed request never
//! has more signatures than before.

mod common;

use std::path::Path;

use ampoule_signer::ceremony::{Ceremony, EXAMPLE};
use ampoule_signer::release_toml::ReleaseFile;
use ampoule_signer::request::Request;
use ampoule_signer::toml_doc::Document;
use ampoule_signer::{doubt, words};
use common::Ground;

/// Bytes that mean something to TOML or JSON, and some that mean nothing.
const BYTES: &[u8] = b"\"'[]{}=,:.-+#\n\\0\x009aZ \x7f\xff";

/// Every truncation, and every byte replaced by one of [`BYTES`] in turn.
fn mutants(text: &[u8], step: usize, mut each: impl FnMut(&[u8])) -> usize {
    let mut count = 0;
    for at in (0..text.len()).step_by(step) {
        each(&text[..at]);
        let mut changed = text.to_vec();
        for offset in 0..3 {
            changed[at] = BYTES[(at + offset * 7) % BYTES.len()];
            each(&changed);
        }
        count += 4;
    }
    count
}

#[test]
fn release_descriptions_and_ceremonies_read_or_are_refused() {
    let release = common::release_toml("2.4.1", 17);
    let count = mutants(release.as_bytes(), 1, |bytes| {
        if let Ok(text) = Document::text("t", bytes)
            && let Ok(document) = Document::parse("t", text)
        {
            let read = ReleaseFile::read(&document);
            let clean = document.check().is_ok();
            assert!(
                read.is_some() || !clean,
                "nothing was read and no fault noted:\n{text}"
            );
        }
    });
    assert!(count > 2000, "{count}");
    mutants(EXAMPLE.as_bytes(), 1, |bytes| {
        if let Ok(text) = Document::text("t", bytes) {
            let _ = Ceremony::parse("t", text, Path::new("."));
        }
    });
}

#[test]
fn requests_read_or_are_refused_and_never_gain_a_signature() {
    let ground = Ground::published();
    ground.build(5);
    let toml = common::release_toml("2.4.1", 17);
    let toml = toml.replace("[component.delta]\nbases = \"last:3\"\n", "");
    ground.write("release.toml", toml.as_bytes());
    ground.ok(&["-w", "w", "add", "release.toml"]);
    ground.sign_all(&["engineer"]);
    let path = ground.path("w/staging/2.infusion-pump.request");
    let good = std::fs::read(&path).unwrap();
    let mut read = 0;
    mutants(&good, 11, |bytes| {
        let Ok(request) = Request::from_bytes(&path, bytes) else {
            return;
        };
        read += 1;
        let _ = words::changes(&request);
        let _ = doubt::doubts(&request);
        if let Ok(needs) = request.needs() {
            let signed: usize = needs.iter().map(|need| need.signed.len()).sum();
            assert!(signed <= 1, "a changed byte made a signature");
        }
        // What was read can be written and read again.
        let again = Request::from_bytes(&path, &request.to_bytes()).expect("our own file");
        assert_eq!(again.digest(), request.digest());
    });
    assert!(read > 100, "only {read} mutants were read at all");
}
