//! `enroll` and `device …`: through the running server, or to the store itself.

use std::path::{Path, PathBuf};

use ampoule_protocol::name::DeviceId;
use ampoule_protocol::time::UtcTime;
use comfy_table::{Table, presets};
use serde::Serialize;

use super::Common;
use crate::admin::{Ask, Details, Door, Told};
use crate::config::Config;
use crate::error::ServerError;
use crate::file::{self, Readers};
use crate::pki::{Authority, DeviceCertificate, Issued, KeyKind};
use crate::secrets::Sealer;
use crate::store::{DeviceRow, Standing};

/// `enroll`: a certificate for a device, and its place in the store.
#[derive(Debug, clap::Args)]
pub(super) struct Enroll {
    /// The device.
    device: DeviceId,
    #[command(flatten)]
    common: Common,
    /// The folder for `device.pem`, `device.key` and `ca.pem`.
    #[arg(long, required_unless_present = "certificate")]
    dir: Option<PathBuf>,
    /// The kind of key to make.
    #[arg(long, value_enum, default_value_t = KeyKind::Ed25519)]
    key: KeyKind,
    /// Enrol this certificate instead of issuing one.
    #[arg(long, conflicts_with_all = ["dir", "key"])]
    certificate: Option<PathBuf>,
}

impl Enroll {
    pub(super) fn run(self) -> Result<(), ServerError> {
        let config = Config::load(&self.common.config)?;
        let certificate = match &self.certificate {
            Some(path) => self.take(path)?,
            None => self.issue(&config)?,
        };
        let ask = Ask::Enroll {
            device: certificate.device,
            certificate: certificate.digest,
            not_after: certificate.not_after,
        };
        let row = expect_device(&ask, &config)?;
        print(self.common.json, &row, || {
            format!(
                "enrolled {} with certificate {}",
                row.device,
                row.certificate.short()
            )
        });
        Ok(())
    }

    /// A certificate that was issued elsewhere.
    fn take(&self, path: &Path) -> Result<DeviceCertificate, ServerError> {
        let certificate = DeviceCertificate::read(path)?;
        if certificate.device != self.device {
            let fault = format!("names device {:?}", certificate.device);
            return Err(ServerError::pki("device certificate", path, fault));
        }
        Ok(certificate)
    }

    /// A new certificate. Its files come first: a device enrolled without its key would have to
    /// be enrolled again.
    fn issue(&self, config: &Config) -> Result<DeviceCertificate, ServerError> {
        let sealer = Sealer::configured(config)?;
        let authority = Authority::load(&config.enroll, sealer.as_ref())?;
        let issued = authority.issue(&self.device, self.key, config.enroll.validity_days)?;
        if let Some(dir) = &self.dir {
            write_out(dir, &authority, &issued)?;
        }
        Ok(issued.certificate)
    }
}

fn write_out(dir: &Path, authority: &Authority, issued: &Issued) -> Result<(), ServerError> {
    std::fs::create_dir_all(dir).map_err(ServerError::file("create", dir))?;
    let files = [
        ("device.key", issued.key_pem.as_str(), Readers::Owner),
        ("device.pem", issued.certificate_pem.as_str(), Readers::All),
        ("ca.pem", authority.pem(), Readers::All),
    ];
    if let Some((name, ..)) = files.iter().find(|(name, ..)| dir.join(name).exists()) {
        return Err(ServerError::Exists(dir.join(name)));
    }
    files.iter().try_for_each(|(name, text, readers)| {
        file::create(&dir.join(name), text.as_bytes(), *readers)
    })
}

/// `device list`.
pub(super) fn list(common: &Common) -> Result<(), ServerError> {
    let config = Config::load(&common.config)?;
    let Told::Devices { devices } = ask(&Ask::List, &config, "")? else {
        return Err(ServerError::Refused("an answer to something else".into()));
    };
    print(common.json, &devices, || {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "DEVICE",
            "STANDING",
            "LAST SEEN",
            "RECEIPTS",
            "CERTIFICATE ENDS",
        ]);
        for row in &devices {
            table.add_row([
                row.device.to_string(),
                standing(row).to_string(),
                row.seen_at.map_or("never".into(), time),
                row.receipts.to_string(),
                time(row.not_after),
            ]);
        }
        table.to_string()
    });
    Ok(())
}

/// `device show`.
pub(super) fn show(device: DeviceId, common: &Common) -> Result<(), ServerError> {
    let config = Config::load(&common.config)?;
    let name = device.to_string();
    let Told::Details(details) = ask(&Ask::Show { device }, &config, &name)? else {
        return Err(ServerError::Refused("an answer to something else".into()));
    };
    print(common.json, &details, || describe(&details));
    Ok(())
}

/// `device revoke`.
pub(super) fn revoke(device: DeviceId, common: &Common) -> Result<(), ServerError> {
    let config = Config::load(&common.config)?;
    let row = expect_device(&Ask::Revoke { device }, &config)?;
    print(common.json, &row, || format!("revoked {}", row.device));
    Ok(())
}

/// `device decommission`.
pub(super) fn decommission(device: DeviceId, common: &Common) -> Result<(), ServerError> {
    let config = Config::load(&common.config)?;
    let row = expect_device(&Ask::Decommission { device }, &config)?;
    print(common.json, &row, || {
        format!("decommissioned {}", row.device)
    });
    Ok(())
}

pub(super) fn expect_device(question: &Ask, config: &Config) -> Result<DeviceRow, ServerError> {
    let name = match question {
        Ask::Enroll { device, .. }
        | Ask::Revoke { device }
        | Ask::Decommission { device }
        | Ask::Receipt { device, .. }
        | Ask::Show { device } => device.to_string(),
        Ask::List
        | Ask::Rollout(_)
        | Ask::Enrolment(_)
        | Ask::Export { .. }
        | Ask::AccountFirst { .. } => String::new(),
    };
    match ask(question, config, &name)? {
        Told::Device(row) => Ok(*row),
        _ => Err(ServerError::Refused("an answer to something else".into())),
    }
}

pub(super) fn ask(question: &Ask, config: &Config, device: &str) -> Result<Told, ServerError> {
    match Door::open(config)?.ask(question, config)? {
        Told::Unknown => Err(ServerError::UnknownDevice(device.to_string())),
        Told::Failed { what } | Told::Unavailable { what } => Err(ServerError::Refused(what)),
        told => Ok(told),
    }
}

pub(super) fn print<T: Serialize>(json: bool, value: &T, text: impl FnOnce() -> String) {
    if json {
        let text = serde_json::to_string_pretty(value).expect("answers are plain data");
        println!("{text}");
    } else {
        println!("{}", text());
    }
}

fn describe(details: &Details) -> String {
    let row = &details.row;
    let mut lines = vec![
        format!("device       {}", row.device),
        format!("standing     {}", standing(row)),
        format!("enrolled     {}", time(row.enrolled_at)),
        format!(
            "certificate  {} until {}",
            row.certificate.short(),
            time(row.not_after)
        ),
        format!("last seen    {}", row.seen_at.map_or("never".into(), time)),
    ];
    if let Some(inventory) = &details.view.inventory {
        lines.push(format!(
            "runs         {} on {}",
            inventory.product, inventory.hardware
        ));
        lines.extend(inventory.components.iter().map(|component| {
            let version = component
                .version
                .as_ref()
                .map_or("-".into(), ToString::to_string);
            let digest = component
                .sha256
                .as_ref()
                .map_or("-".into(), ampoule_protocol::digest::Digest::short);
            format!("  {} {version} {digest}", component.name)
        }));
    }
    lines.push(format!("receipts     {}", row.receipts));
    lines.extend(details.view.receipts.iter().map(|receipt| {
        let release = receipt
            .release
            .as_ref()
            .map_or("-".into(), ToString::to_string);
        let outcome = serde_json::to_value(receipt.outcome).unwrap_or_default();
        let outcome = outcome.as_str().unwrap_or_default().to_string();
        format!("  {} {outcome} {release}", receipt.finished)
    }));
    lines.push("events".into());
    lines.extend(details.events.iter().map(|event| {
        let what = serde_json::to_value(event.what).unwrap_or_default();
        format!("  {} {}", time(event.at), what.as_str().unwrap_or_default())
    }));
    lines.join("\n")
}

fn standing(row: &DeviceRow) -> &'static str {
    match row.standing {
        Standing::Enrolled => "enrolled",
        Standing::Revoked => "revoked",
    }
}

fn time(unix: i64) -> String {
    UtcTime::from_unix(unix).to_string()
}
