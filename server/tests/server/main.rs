//! The server by story: the binary itself, over real mTLS on loopback.
//!
//! One program, since linking a program for each story takes longer than running them all.
#![allow(
    unreachable_pub,
    reason = "the helpers are shared by the stories of this program only"
)]

mod common;

mod bad_usage;
mod certificates_change;
mod device_is_revoked;
mod limits_hold;
mod rollout_reaches_devices;
mod serves_the_tree;
mod speaks_http2;
mod store_is_synced;
mod store_survives;
mod takes_reports;
mod timestamp_is_renewed;
mod wire_bytes;
