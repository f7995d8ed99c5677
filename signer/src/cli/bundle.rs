//! `bundle`.

use std::fmt::{Display, Write as _};

use ampoule_protocol::name::{DeviceId, HardwareId, ProductName};
use ampoule_protocol::release::ReleaseVersion;
use serde_json::json;

use super::args::BundleArgs;
use super::{Answer, Context, keys};
use crate::bundle::{self, Deltas, Made, Order};
use crate::durable::{self, RealDisk};
use crate::error::{OperatorError, SignerError};
use crate::terminal;
use crate::workspace::Workspace;

const DAY_SECS: i64 = 86_400;
/// Bytes of a list of devices.
const DEVICES_FILE_LEN_MAX: u64 = 1 << 20;

pub(super) fn bundle(context: &Context, args: &BundleArgs) -> Result<Answer, SignerError> {
    let order = order(context, args)?;
    let opened = keys::open(context, &args.keys)?;
    let workspace = Workspace::open(&context.global.workspace)?;
    let made = bundle::make(
        &RealDisk,
        &workspace,
        &opened,
        &order,
        &args.output,
        context.now,
        &context.bars,
    )?;
    for (role, ends) in &made.ends_before {
        context.warn(&format!(
            "{role} expires at {ends}, before the bundle: it can be used until then"
        ));
    }
    Ok(answer(args, &order, &made))
}

fn order(context: &Context, args: &BundleArgs) -> Result<Order, SignerError> {
    let mut devices = args.devices.clone();
    if let Some(path) = &args.devices_from {
        let bytes = durable::read(path, DEVICES_FILE_LEN_MAX)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().map(str::trim);
        devices.extend(lines.filter(|line| !line.is_empty()).map(ToOwned::to_owned));
        if devices.is_empty() {
            // No device at all must not become every device.
            return Err(malformed(
                "list of devices",
                &path.display().to_string(),
                "it is empty",
            ));
        }
    }
    let each = |texts: &[String]| -> Result<Vec<HardwareId>, SignerError> {
        let parse = |text: &String| {
            HardwareId::parse(text).map_err(|error| malformed("hardware id", text, error))
        };
        texts.iter().map(parse).collect()
    };
    let device =
        |text: &String| DeviceId::parse(text).map_err(|error| malformed("device id", text, error));
    let version = args
        .version
        .as_ref()
        .map(|text| ReleaseVersion::parse(text).map_err(|error| malformed("version", text, error)));
    Ok(Order {
        product: ProductName::parse(&args.product)
            .map_err(|error| malformed("product", &args.product, error))?,
        hardware: each(&args.hardware)?,
        devices: devices.iter().map(device).collect::<Result<_, _>>()?,
        version: version.transpose()?,
        expires: context
            .now
            .plus_secs(i64::from(args.expires_in_days) * DAY_SECS),
        deltas: if args.no_deltas {
            Deltas::Leave
        } else {
            Deltas::Pack
        },
    })
}

fn malformed(what: &'static str, text: &str, why: impl Display) -> SignerError {
    OperatorError::BadArgument {
        what,
        text: text.to_owned(),
        source: Some(why.to_string().into()),
    }
    .into()
}

fn answer(args: &BundleArgs, order: &Order, made: &Made) -> Answer {
    let output = args.output.display();
    let mut text = format!(
        "\"{output}\": {} {} ({}, {}), to be used until {}\n",
        order.product,
        made.version,
        terminal::count(made.targets, "target file"),
        terminal::bytes(made.len),
        order.expires,
    );
    let _ = match order.devices.len() {
        0 => writeln!(text, "for every device of this hardware"),
        some => writeln!(text, "for {}", terminal::count(some, "device")),
    };
    let _ = write!(text, "on the device: ampoule-agent install --bundle FILE");
    let ends = made.ends_before.iter();
    Answer::new(
        text,
        json!({
            "output": args.output,
            "version": made.version.to_string(),
            "targets": made.targets,
            "length": made.len,
            "expires": order.expires.to_string(),
            "ends_before": ends.map(|(role, at)| json!({"role": role, "expires": at.to_string()}))
                .collect::<Vec<_>>(),
        }),
    )
}
