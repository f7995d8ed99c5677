//! The server by story: the binary itself, over real mTLS on loopback.
//!
//! One program, since linking a program for each story takes longer than running them all.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "the helpers are shared by the stories of several programs"
)]

mod among;
mod common;

mod bad_usage;
mod ca_key_is_kept;
mod certificates_change;
mod connections_sleep;
mod ctl_says;
mod device_is_decommissioned;
mod device_is_revoked;
mod devices_enrol;
mod devices_take_permits;
mod fleet_moves;
mod limits_hold;
mod offers_come_from_others;
mod operators_act;
mod operators_rights;
#[path = "../postgres/mod.rs"]
mod postgres;
mod refusals_are_heard;
mod rollout_reaches_devices;
mod secrets_stay_secret;
mod servers_agree;
mod servers_share_a_fleet;
mod serves_the_tree;
mod speaks_http2;
mod store_is_synced;
mod store_loses_power;
mod store_survives;
mod store_survives_in_a_database;
mod takes_reports;
mod targets_in_a_bucket;
mod timestamp_is_renewed;
mod tree_is_pushed_in_order;
mod who_hangs_up_is_heard;
mod wire_bytes;
mod witnesses_cosign;
