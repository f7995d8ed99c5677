//! Boot control in the settings of real boot loaders: each world's own tool reads what we write
//! and writes what we read, and the power fails between all operations.
//!
//! The loaders here are models of a few lines, written from the loaders' documentation and not
//! from our code. What is real are the tools: `fw_printenv`, `fw_setenv`, `mkenvimage`,
//! `grub-editenv`, `grub-script-check`, `bootctl`, `cgpt` and `sgdisk`.

mod command;
mod config;
mod cut;
mod fat;
mod gpt;
mod grub;
mod probe;
mod sim;
mod support;
mod systemd_boot;
mod tryboot;
mod uboot;
mod uboot_tools;
