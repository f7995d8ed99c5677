//! `add`, `delta`, `discard`, `rotate`.

use ampoule_protocol::name::ProductName;
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;

use super::args::{
    AddArgs, DeltaArgs, DiscardArgs, ProductArgs, RenewArgs, RotateArgs, WithdrawArgs,
};
use super::{Answer, Context};
use crate::add;
use crate::deltas;
use crate::discard::{self, Discarded};
use crate::durable::RealDisk;
use crate::error::{OperatorError, SignerError};
use crate::renew;
use crate::rotate::{self, Change};
use crate::terminal::{bytes, table};
use crate::workspace::Workspace;

pub(super) fn add(context: &Context, args: &AddArgs) -> Result<Answer, SignerError> {
    let added = add::add(
        &RealDisk,
        &context.global.workspace,
        &args.release,
        context.now,
        &context.bars,
    )?;
    let release = &added.release;
    let mut text = format!(
        "release {} of {} is drafted in \"{}\"",
        release.version,
        release.product,
        added.request.display()
    );
    match added.deltas_wanted {
        0 => text.push_str("\nnext: review, then each holder signs"),
        count => {
            let _ = write!(
                text,
                "\nnext: ampoule-signer delta ({count} to build), then review and sign"
            );
        }
    }
    let json = json!({
        "request": added.request,
        "product": release.product.as_str(),
        "version": release.version.to_string(),
        "deltas_wanted": added.deltas_wanted,
    });
    Ok(Answer::new(text, json))
}

pub(super) fn delta(context: &Context, args: &DeltaArgs) -> Result<Answer, SignerError> {
    let workspace = Workspace::open(&context.global.workspace)?;
    let product = product(&workspace, args.product.as_deref())?;
    drop(workspace);
    let built = deltas::build(
        &RealDisk,
        &context.global.workspace,
        &product,
        deltas::Means {
            memory_max: args.memory_mib << 20,
            caps: args.caps,
        },
        context.now,
        &context.bars,
    )?;
    let rows: Vec<_> = built
        .iter()
        .map(|delta| {
            let permille =
                u128::from(delta.length) * 1000 / u128::from(delta.artifact_length.max(1));
            vec![
                delta.component.clone(),
                delta.base.clone(),
                bytes(delta.length),
                format!("{}.{} %", permille / 10, permille % 10),
                if delta.pays {
                    ""
                } else {
                    "does not pay, left out"
                }
                .to_owned(),
            ]
        })
        .collect();
    let text = match rows.as_slice() {
        [] => "every delta that is asked for is there".to_owned(),
        rows => table(&["component", "from", "delta", "of the artifact", ""], rows),
    };
    let json: Vec<_> = built
        .iter()
        .map(|delta| {
            json!({
                "component": delta.component,
                "base": delta.base,
                "length": delta.length,
                "artifact_length": delta.artifact_length,
                "pays": delta.pays,
            })
        })
        .collect();
    Ok(Answer::new(text, json!(json)))
}

/// The product named, or the only one that has a draft.
fn product(workspace: &Workspace, named: Option<&str>) -> Result<ProductName, SignerError> {
    let products = &workspace.settings.products;
    if let Some(name) = named {
        return match workspace.settings.product(name) {
            Some(product) => Ok(product.name.clone()),
            None => Err(OperatorError::UnknownProduct {
                name: name.to_owned(),
                known: products
                    .iter()
                    .map(|product| product.name.to_string())
                    .collect(),
            }
            .into()),
        };
    }
    let drafted: Vec<_> = products
        .iter()
        .map(|product| &product.name)
        .filter(|name| add::role_of(name).is_ok_and(|role| workspace.draft(&role).is_some()))
        .collect();
    match drafted.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(OperatorError::NoDraft {
            what: "any product".to_owned(),
        }
        .into()),
        [_, ..] => Err(OperatorError::SeveralDrafts {
            names: drafted.iter().map(ToString::to_string).collect(),
        }
        .into()),
    }
}

pub(super) fn discard(context: &Context, args: &DiscardArgs) -> Result<Answer, SignerError> {
    let workspace = &context.global.workspace;
    let text = match discard::discard(&RealDisk, workspace, &args.role, context.now)? {
        Discarded::Removed(title) => format!("the draft of {title} is thrown away"),
        Discarded::Reset(title) => {
            format!("{title} is as it was after the ceremony, and nobody has signed it")
        }
    };
    Ok(Answer::new(text, json!({ "discarded": args.role })))
}

pub(super) fn rotate(context: &Context, args: &RotateArgs) -> Result<Answer, SignerError> {
    let change = Change {
        add: args.add.clone(),
        remove: args.remove.clone(),
        threshold: args.threshold,
    };
    let drafts = rotate::rotate(
        &RealDisk,
        &context.global.workspace,
        &args.role,
        &change,
        context.now,
    )?;
    Ok(drafted(
        &drafts,
        "review, then each holder signs, the old ones and the new",
    ))
}

pub(super) fn renew(context: &Context, args: &RenewArgs) -> Result<Answer, SignerError> {
    let draft = renew::renew(
        &RealDisk,
        &context.global.workspace,
        &args.role,
        context.now,
    )?;
    Ok(drafted(&[draft], "review, then each holder signs"))
}

pub(super) fn product_add(context: &Context, args: &ProductArgs) -> Result<Answer, SignerError> {
    let product = renew::product(&args.name, &args.hardware)?;
    let drafts = renew::add_product(
        &RealDisk,
        &context.global.workspace,
        product,
        &args.add,
        args.threshold,
        context.now,
    )?;
    Ok(drafted(
        &drafts,
        "the holders of targets sign, then add the first release",
    ))
}

pub(super) fn withdraw(context: &Context, args: &WithdrawArgs) -> Result<Answer, SignerError> {
    let workspace = &context.global.workspace;
    let draft = renew::withdraw(
        &RealDisk,
        workspace,
        &args.product,
        &args.version,
        context.now,
    )?;
    Ok(drafted(&[draft], "review, then each holder signs"))
}

fn drafted(drafts: &[PathBuf], next: &str) -> Answer {
    let mut text = String::new();
    for path in drafts {
        let _ = writeln!(text, "drafted \"{}\"", path.display());
    }
    let _ = write!(text, "next: {next}");
    Answer::new(text, json!({ "requests": drafts }))
}
