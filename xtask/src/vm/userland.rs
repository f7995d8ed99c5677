//! The first process of the emulated device: what a device's own init does before and beside the
//! agent (docs/guide/device.md, "The device's own file system").

use super::image::{Kind, version};
use super::loader::Loader;
use super::parts::MODULES;

/// Programs that BusyBox stands for.
pub(super) const APPLETS: [&str; 15] = [
    "sh", "mount", "insmod", "ifconfig", "sed", "sleep", "cat", "killall", "watchdog", "reboot",
    "kill", "sync", "grep", "mkdir", "rm",
];

/// Checks the data, mends it, and as the last resort makes it anew: whatever power did to it, the
/// device comes up and can be spoken to. What it is, and which floor it has, lies where nobody
/// writes. It says what it did.
const DATA: &str = r#"
fsck() {
  /bin/e2fsck "$1" $data >/run/e2fsck 2>&1; code=$?
  sed 's/^/vm: e2fsck: /' /run/e2fsck
}
fsck -p
if grep -q 'check forced' /run/e2fsck; then echo "vm: data: mended by itself"; fi
if [ $code -ge 4 ]; then
  fsck -y; lost=y
  if [ $code -lt 4 ]; then echo "vm: data: mended by force"; fi
fi
if ! mount -t ext4 $data /data; then
  /bin/mke2fs -q -F -t ext4 $data && mount -t ext4 $data /data && echo "vm: data: made anew"; lost=y
fi
mkdir -p /data/ampoule
"#;

/// It says where it is in lines that begin with `vm:`.
///
/// The watchdog is fed while the agent lives: an image whose agent cannot be started is reset by
/// it. softdog stands for the hardware's; Debian's kernel for virtual machines has no driver for
/// any that QEMU emulates.
pub(super) fn init(loader: Loader, number: u32, kind: Kind) -> String {
    let version = version(number);
    let modules: Vec<_> = MODULES
        .into_iter()
        .filter(|name| *name != "softdog")
        .collect();
    let modules = modules.join(" ");
    let mounts = loader.mounts();
    let (data, factory) = (loader.data_device(), loader.factory_device());
    // An image without an agent need not be waited for long.
    let patience_secs = if kind == Kind::NoAgent { 4 } else { 60 };
    let panic = if kind == Kind::Panics {
        "echo 'vm: about to panic'; exit 1"
    } else {
        ""
    };
    format!(
        r#"#!/bin/sh
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mkdir -p /run/lock
slot=$(sed 's/.*ampoule.slot=\([ab]\).*/\1/' /proc/cmdline)
echo
echo "vm: image {version} is up in slot $slot"
{panic}
for module in {modules}; do insmod /modules/$module.ko; done
ifconfig lo 127.0.0.1 up
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
{mounts}
mount -t ext4 -o ro {factory} /factory
data={data} lost=
{DATA}
insmod /modules/softdog.ko soft_margin={patience_secs}
echo > /dev/watchdog
watchdog -F -t 3 -T {patience_secs} /dev/watchdog & dog=$!
agent="/bin/ampoule-agent --config /factory/agent.toml"
tell() {{ sed "s/^/vm: $1: /"; }}
# Only where the floor is lost does it take this word.
if [ -n "$lost" ]; then $agent set-floor {number} 2>&1 | tell floor; fi
(
  while [ -x /bin/ampoule-agent ]; do
    $agent --json daemon
    echo "vm: the agent ended with $?"
    >/run/stopped
    while [ -e /run/held ]; do sleep 1; done
    sleep 1
  done
  echo "vm: there is no agent"
  kill -9 $dog
) &
echo "vm: listening"
while read -r word; do
  case "$word" in
    check) killall ampoule-agent ;;
    status) $agent status | tell status; echo "vm: told" ;;
    probe)
      rm -f /run/stopped; >/run/held; killall ampoule-agent
      while [ ! -e /run/stopped ]; do sleep 1; done
      $agent probe-boot | tell probe; rm /run/held ;;
  esac
done
sleep 1000000
"#
    )
}
