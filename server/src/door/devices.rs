//! `/api/v1/devices`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ampoule_protocol::name::DeviceId;
use ampoule_protocol::time::UtcTime;
use axum::extract::{Path, State};
use axum::response::Response;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::asks::{about, ask, confirm, is_seen};
use super::extract::{Asked, Words, bad, json};
use super::page::{cut, limit, of_rows};
use super::roles::Right;
use super::who::Who;
use super::words::{
    Device, DeviceDetails, Devices, Enrolment, OfRollout, Page, Permits, Revocation, Tags,
};
use super::{Door, words};
use crate::admin::{Ask, RolloutAsk, Told};
use crate::audit::{Act, Record};
use crate::http::problem::Problem;
use crate::identity::Identity;
use crate::rollout::RolloutId;
use crate::store::{DeviceRow, Standing};

type Answer = Result<Response, Problem>;

fn id(text: &str) -> Result<DeviceId, Problem> {
    DeviceId::parse(text).map_err(|_| Problem::not_found())
}

/// What operators say of each device that is asked for.
fn tags_of(door: &Door, rows: &[DeviceRow]) -> Vec<Arc<BTreeMap<String, String>>> {
    let state = door.shared.rollouts.state();
    let (devices, _) = state.world();
    let tags = |row: &DeviceRow| {
        devices
            .get(row.number as usize)
            .map(|facts| facts.tags.clone())
    };
    rows.iter()
        .map(|row| tags(row).unwrap_or_default())
        .collect()
}

fn shown(row: &DeviceRow, tags: &BTreeMap<String, String>) -> Device {
    let time = |unix: i64| UtcTime::from_unix(unix).to_string();
    Device {
        device: row.device.to_string(),
        standing: match row.standing {
            Standing::Enrolled => "enrolled".to_owned(),
            Standing::Revoked => "revoked".to_owned(),
        },
        certificate: row.certificate.to_string(),
        not_after: time(row.not_after),
        seen: row.seen_at.map(time),
        receipts: row.receipts,
        tags: tags.clone(),
    }
}

fn is_of(site: Option<&str>, tags: &BTreeMap<String, String>) -> bool {
    site.is_none_or(|site| tags.get("site").is_some_and(|of| of == site))
}

/// The device, if this person may see it; else there is none.
fn visible(door: &Door, who: &Who, device: &DeviceId) -> Result<DeviceRow, Problem> {
    let found = door
        .shared
        .fleet
        .find(device)
        .ok_or_else(Problem::not_found)?;
    let row = found.row();
    let tags = tags_of(door, std::slice::from_ref(&row));
    if is_of(who.bound_to(Right::ReadDevices), &tags[0]) {
        return Ok(row);
    }
    Err(Problem::not_found())
}

/// Devices, by name.
#[utoipa::path(get, path = "/api/v1/devices", params(Page), tag = "devices",
    responses((status = 200, body = Devices), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn list(
    State(door): State<Arc<Door>>,
    who: Who,
    Asked(page): Asked<Page>,
) -> Answer {
    let limit = limit(&page)?;
    let site = who.bound_to(Right::ReadDevices);
    let mut rows = door.shared.fleet.rows();
    if let Some(after) = &page.after {
        let from = rows.partition_point(|row| row.device.as_str() <= after.as_str());
        rows.drain(..from);
    }
    let tags = tags_of(&door, &rows);
    let seen = rows.iter().zip(&tags).filter(|(_, tags)| is_of(site, tags));
    let items = seen.map(|(row, tags)| shown(row, tags));
    let (items, next) = cut(items, limit, |device| device.device.clone());
    Ok(json(&Devices { items, next }))
}

/// Devices that may be out of service now, because of an offer or a lock of their own.
#[utoipa::path(get, path = "/api/v1/permits", params(Page), tag = "devices",
    responses((status = 200, body = Permits), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn permits(
    State(door): State<Arc<Door>>,
    who: Who,
    Asked(page): Asked<Page>,
) -> Answer {
    let all = about(&door, RolloutAsk::Permits, &who).await?;
    let sees = |name: &str| id(name).is_ok_and(|device| visible(&door, &who, &device).is_ok());
    let (items, next) = of_rows(all, page, "device", sees)?;
    Ok(json(&Permits { items, next }))
}

/// One device.
#[utoipa::path(get, path = "/api/v1/devices/{device}", params(("device" = String, Path)),
    tag = "devices",
    responses((status = 200, body = DeviceDetails), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn show(
    State(door): State<Arc<Door>>,
    who: Who,
    Path(device): Path<String>,
) -> Answer {
    let device = id(&device)?;
    let row = visible(&door, &who, &device)?;
    let Told::Details(details) = ask(&door, &Ask::Show { device }, &who).await? else {
        return Err(Problem::not_found());
    };
    let tags = tags_of(&door, std::slice::from_ref(&row));
    let value = |value: serde_json::Result<serde_json::Value>| value.unwrap_or_default();
    let view = &details.view;
    Ok(json(&DeviceDetails {
        device: shown(&details.row, &tags[0]),
        inventory: view
            .inventory
            .as_ref()
            .map(|seen| value(serde_json::to_value(seen))),
        last_receipts: view
            .receipts
            .iter()
            .map(|r| value(serde_json::to_value(r)))
            .collect(),
        events: details
            .events
            .iter()
            .map(|e| value(serde_json::to_value(e)))
            .collect(),
    }))
}

/// Why a device is or is not offered what.
#[utoipa::path(get, path = "/api/v1/devices/{device}/why",
    params(("device" = String, Path), OfRollout), tag = "devices",
    responses((status = 200, body = Vec<Object>), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn why(
    State(door): State<Arc<Door>>,
    who: Who,
    Path(device): Path<String>,
    Asked(of): Asked<OfRollout>,
) -> Answer {
    let device = id(&device)?;
    visible(&door, &who, &device)?;
    let name = of.rollout.as_deref().map(RolloutId::parse).transpose();
    let name = name.map_err(|error| bad(&error.to_string()))?;
    Ok(json(
        &about(&door, RolloutAsk::Why { device, name }, &who).await?,
    ))
}

/// Enrol a device with a certificate that was issued to it.
#[utoipa::path(post, path = "/api/v1/devices", request_body = Enrolment, tag = "devices",
    responses((status = 200, body = Device), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn enroll(
    State(door): State<Arc<Door>>,
    who: Who,
    Words(enrolment): Words<Enrolment>,
) -> Answer {
    let der = CertificateDer::from_pem_slice(enrolment.certificate.as_bytes());
    let der = der.map_err(|error| bad(&format!("the certificate is not PEM: {error}")))?;
    let identity = Identity::of(&der);
    let identity = identity.map_err(|error| bad(&format!("the certificate {error}")))?;
    let question = Ask::Enroll {
        device: identity.device,
        certificate: identity.digest,
        not_after: identity.not_after,
    };
    changed(&door, &question, &who).await
}

async fn changed(door: &Door, question: &Ask, who: &Who) -> Answer {
    let Told::Device(row) = ask(door, question, who).await? else {
        return Err(Problem::not_found());
    };
    let tags = tags_of(door, std::slice::from_ref(&*row));
    Ok(json(&shown(&row, &tags[0])))
}

/// Say where a device is: region, site, ward.
#[utoipa::path(put, path = "/api/v1/devices/{device}/tags", params(("device" = String, Path)),
    request_body = Tags, tag = "devices",
    responses((status = 200, body = Tags), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn tag(
    State(door): State<Arc<Door>>,
    who: Who,
    Path(device): Path<String>,
    Words(tags): Words<Tags>,
) -> Answer {
    let device = id(&device)?;
    let tags = tags.tags;
    let value = about(&door, RolloutAsk::Tag { device, tags }, &who).await?;
    Ok(json(&serde_json::json!({ "tags": value })))
}

/// End a device's right to be served, at once.
#[utoipa::path(post, path = "/api/v1/devices/{device}/revoke", params(("device" = String, Path)),
    request_body = Revocation, tag = "devices",
    responses((status = 200, body = Device), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn revoke(
    State(door): State<Arc<Door>>,
    who: Who,
    Path(device): Path<String>,
    Words(revocation): Words<Revocation>,
) -> Answer {
    let device = id(&device)?;
    is_confirmed(&door, &who, &device, &revocation, Act::Revoke).await?;
    changed(&door, &Ask::Revoke { device }, &who).await
}

/// Take a device out of use for ever: revoked, its name never enrolled again, its record kept.
#[utoipa::path(post, path = "/api/v1/devices/{device}/decommission",
    params(("device" = String, Path)), request_body = Revocation, tag = "devices",
    responses((status = 200, body = Device), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn decommission(
    State(door): State<Arc<Door>>,
    who: Who,
    Path(device): Path<String>,
    Words(revocation): Words<Revocation>,
) -> Answer {
    let device = id(&device)?;
    is_confirmed(&door, &who, &device, &revocation, Act::Decommission).await?;
    changed(&door, &Ask::Decommission { device }, &who).await
}

/// The certificate is the one that was read, and the code is fresh and used up by this act.
async fn is_confirmed(
    door: &Door,
    who: &Who,
    device: &DeviceId,
    revocation: &Revocation,
    act: Act,
) -> Result<(), Problem> {
    let row = visible(door, who, device)?;
    is_seen(&revocation.certificate, &row.certificate)?;
    let record = Record::new(act, &*who.name).about("device", device);
    confirm(door, who, &revocation.code, record).await
}
