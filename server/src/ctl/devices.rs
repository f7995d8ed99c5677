//! `device …`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Subcommand;

use super::client::{Client, segment};
use super::output::{plain, print, table};
use super::profile::Server;
use super::session::secret;
use super::{CtlError, files};
use crate::door::words::{Device, DeviceDetails, Enrolment, Revocation, Tags};

/// Bytes of a certificate.
const PEM_LEN_MAX: u64 = 64 << 10;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// All devices.
    List {
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// All about one device.
    Show {
        /// Which one.
        device: String,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Enrol a device with a certificate that was issued to it.
    Enroll {
        /// The certificate, PEM.
        certificate: PathBuf,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say where a device is: region, site, ward. Replaces what was said before.
    Tag {
        /// Which one.
        device: String,
        /// `NAME=VALUE`; none takes all tags away.
        tags: Vec<String>,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a device out of use for ever: revoked, its name never enrolled again, its record kept;
    /// asks for a fresh code.
    Decommission {
        /// Which one.
        device: String,
        /// The digest of its certificate, as "show" prints it.
        #[arg(long)]
        certificate: String,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a device's right to be served, at once; asks for a fresh code.
    Revoke {
        /// Which one.
        device: String,
        /// The digest of its certificate, as "show" prints it.
        #[arg(long)]
        certificate: String,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    pub(super) fn run(self, server: &Server) -> Result<(), CtlError> {
        let client = Client::new(&server.profile()?)?;
        match self {
            Self::List { json } => list(&client, json),
            Self::Show { device, json } => {
                let details: DeviceDetails = client.get(&path(&device, ""))?;
                print(json, &details, || describe(&details));
                Ok(())
            }
            Self::Enroll { certificate, json } => {
                let pem = files::expect(&certificate, PEM_LEN_MAX)?;
                let certificate = String::from_utf8_lossy(&pem).into_owned();
                let device: Device = client.post("/api/v1/devices", &Enrolment { certificate })?;
                print(json, &device, || {
                    format!("enrolled {}", plain(&device.device))
                });
                Ok(())
            }
            Self::Tag { device, tags, json } => {
                let tags = Tags {
                    tags: pairs(&tags)?,
                };
                let now: Tags = client.put(&path(&device, "/tags"), &tags)?;
                print(json, &now, || {
                    format!("{}: {}", plain(&device), spelled(&now.tags))
                });
                Ok(())
            }
            Self::Revoke {
                device,
                certificate,
                json,
            } => end(
                &client,
                (&device, certificate),
                ("/revoke", "revoked"),
                json,
            ),
            Self::Decommission {
                device,
                certificate,
                json,
            } => {
                let how = ("/decommission", "decommissioned");
                end(&client, (&device, certificate), how, json)
            }
        }
    }
}

/// Ends a device's right to be served, by this route and in this word.
fn end(
    client: &Client,
    (device, certificate): (&str, String),
    (route, done): (&str, &str),
    json: bool,
) -> Result<(), CtlError> {
    let code = secret("code")?.to_string();
    let words = Revocation { certificate, code };
    let now: Device = client.post(&path(device, route), &words)?;
    print(json, &now, || format!("{done} {}", plain(&now.device)));
    Ok(())
}

fn path(device: &str, more: &str) -> String {
    format!("/api/v1/devices/{}{more}", segment(device))
}

fn pairs(tags: &[String]) -> Result<BTreeMap<String, String>, CtlError> {
    let pair = |tag: &String| {
        let (name, value) = tag.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    let pairs: Option<BTreeMap<_, _>> = tags.iter().map(pair).collect();
    pairs.ok_or_else(|| CtlError::Usage("a tag is written NAME=VALUE".into()))
}

fn spelled(tags: &BTreeMap<String, String>) -> String {
    let pairs = tags.iter().map(|(name, value)| format!("{name}={value}"));
    plain(&pairs.collect::<Vec<_>>().join(" "))
}

fn list(client: &Client, json: bool) -> Result<(), CtlError> {
    let all: Vec<Device> = client.list("/api/v1/devices")?;
    print(json, &all, || {
        let rows = all.iter().map(|device| {
            vec![
                device.device.clone(),
                device.standing.clone(),
                device.seen.clone().unwrap_or_else(|| "never".into()),
                device.receipts.to_string(),
                device.not_after.clone(),
                spelled(&device.tags),
            ]
        });
        let header = [
            "DEVICE",
            "STANDING",
            "LAST SEEN",
            "RECEIPTS",
            "CERTIFICATE ENDS",
            "TAGS",
        ];
        table(&header, rows)
    });
    Ok(())
}

fn describe(details: &DeviceDetails) -> String {
    let device = &details.device;
    let mut lines = vec![
        format!("device       {}", device.device),
        format!("standing     {}", device.standing),
        format!("certificate  {}", device.certificate),
        format!("until        {}", device.not_after),
        format!("last seen    {}", device.seen.as_deref().unwrap_or("never")),
        format!("tags         {}", spelled(&device.tags)),
    ];
    let word = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    if let Some(inventory) = &details.inventory {
        lines.push(format!(
            "runs         {} on {}",
            word(&inventory["product"]),
            word(&inventory["hardware"])
        ));
    }
    for receipt in &details.last_receipts {
        lines.push(format!(
            "receipt      {} {} {}",
            word(&receipt["finished"]),
            word(&receipt["outcome"]),
            word(&receipt["release"])
        ));
    }
    let lines: Vec<String> = lines.iter().map(|line| plain(line)).collect();
    lines.join("\n")
}
