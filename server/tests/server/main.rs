//! The server by story: the binary itself, over real mTLS on loopback.
//!
//! One program, since linking a program for each story takes longer than running them all.
#![allow(
    unreachable_pub,
    reason = "the helpers are shared by the stories of this program only"
)]

mod common;

mod serves_the_tree;
mod takes_reports;
