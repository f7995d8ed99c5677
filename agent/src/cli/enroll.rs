//! `enroll`: the device's first certificate. Later ones come by themselves.

use std::path::Path;

use ampoule_protocol::name::DeviceId;
use serde_json::json;

use super::args::Args;
use super::open::{self, CliError};
use super::show;
use crate::config::{Config, EnrolBy};
use crate::disk::Disk;
use crate::enrol::{self, Asked, Question};
use crate::net::est::{Proof, client};
use crate::net::{Shown, certificates};

/// Bytes of a token's file.
const FILE_LEN_MAX: u64 = 16 << 10;

pub(super) fn run(args: &Args, config: &Config) -> Result<(), CliError> {
    let _lock = open::lock(&config.data_dir)?;
    let text = args.operand.as_deref().unwrap_or_default();
    let device =
        DeviceId::parse(text).map_err(|error| CliError::Enroll(format!("\"{text}\" {error}")))?;
    let server = &config.server;
    if server.certificate.exists() {
        let path = server.certificate.display();
        let what = format!("\"{path}\" is there already, and is renewed by itself");
        return Err(CliError::Enroll(what));
    }
    let Some(enrolment) = &config.enrolment else {
        let what = "the configuration has no [enrolment], which says where and by what";
        return Err(CliError::Enroll(what.to_owned()));
    };
    let key = enrol::key(&Disk, &server.key)?;
    let (proof, shown) = match &enrolment.by {
        EnrolBy::Token(path) => {
            let token = read(path)?.trim().to_owned();
            (Proof::Token(device.to_string(), token), None)
        }
        EnrolBy::Birth { certificate, key } => {
            (Proof::Certificate, Some(Shown::load(certificate, key)?))
        }
    };
    let agent = client(&certificates(&server.ca)?, shown.as_ref());
    let question = Question {
        agent: &agent,
        url: &format!("{}/.well-known/est/simpleenroll", enrolment.url),
        proof,
        certificate: &server.certificate,
    };
    match enrol::ask(&Disk, &question, &*key, &device)? {
        Asked::Until(end) if args.json => {
            show::document(&json!({"result": "enrolled", "device": text, "until": end}))?;
        }
        Asked::Until(end) => println!("enrolled {device} until {end}"),
        Asked::Waits(secs) if args.json => {
            show::document(&json!({"result": "waits", "device": text, "ask_again_secs": secs}))?;
        }
        Asked::Waits(secs) => {
            println!("waits for an operator's word; run this again in {secs} s");
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, CliError> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_LEN_MAX).read_to_string(&mut text))
        .map(|_| text)
        .map_err(|source| CliError::Read {
            path: path.to_owned(),
            source,
        })
}
