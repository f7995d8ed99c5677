//! `downgrade`.

use ampoule_protocol::name::DeviceId;
use ampoule_protocol::release::ReleaseVersion;
use serde_json::json;

use super::args::DowngradeArgs;
use super::{Answer, Context};
use crate::downgrade::{Order, draft};
use crate::durable::RealDisk;
use crate::error::{OperatorError, SignerError};
use crate::terminal;

const DAY_SECS: i64 = 86_400;

pub(super) fn downgrade(context: &Context, args: &DowngradeArgs) -> Result<Answer, SignerError> {
    let version = |text: &String| {
        ReleaseVersion::parse(text).map_err(OperatorError::bad_argument("version", text))
    };
    let device = |text: &String| {
        DeviceId::parse(text).map_err(OperatorError::bad_argument("device id", text))
    };
    let order = Order {
        product: args.product.clone(),
        devices: args.devices.iter().map(device).collect::<Result<_, _>>()?,
        from: version(&args.from)?,
        to: version(&args.to)?,
        reason: args.reason.clone(),
        expires: context
            .now
            .plus_secs(i64::from(args.expires_in_days) * DAY_SECS),
    };
    let drafted = draft(&RealDisk, &context.global.workspace, &order, context.now)?;
    if drafted.from_is_listed {
        context.warn(&format!(
            "{} is still listed: a device that lives alone takes it again after the downgrade, \
             unless \"withdraw\" takes it away",
            order.from
        ));
    }
    let record = &drafted.record;
    let text = format!(
        "drafted \"{}\": record {} takes {} from {} to {}, once, until {}\n\
         next: review, then each holder of {} signs",
        drafted.request.display(),
        record.serial,
        terminal::count(record.devices.len(), "device"),
        record.from,
        record.to,
        record.expires,
        record.product,
    );
    Ok(Answer::new(
        text,
        json!({
            "requests": [drafted.request],
            "serial": record.serial,
            "rollback_index": record.rollback_index.0,
            "expires": record.expires.to_string(),
        }),
    ))
}
