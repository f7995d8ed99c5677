//! What U-Boot does at each start, as `boot.scr`.
//!
//! Debian's build of U-Boot for QEMU keeps no environment and does not count. The script does both
//! as U-Boot does where they are compiled in: two copies that take turns (`env/common.c`), the boot
//! counter in them (`doc/api/bootcount.rst`), and the commands of docs/guide/boot.md.
//!
//! U-Boot's shell reads numbers but does not add, so it counts by going through them.

use super::disk::{COPIES, COPY_LEN};
use super::loader::WORDS;

/// The environment that the factory writes.
pub(super) const ENVIRONMENT: &str = "\
ampoule_default=a
altbootcmd=run ampoule_slot; run ampoule_start
upgrade_available=0
bootcount=0
bootlimit=0
";

/// What is kept, by name.
const KEPT: &str = "ampoule_default ampoule_trial altbootcmd upgrade_available bootcount bootlimit";

/// Where things lie in memory while the script runs.
const COPY: [u32; 2] = [0x300_0000, 0x301_0000];
const CHECKED: [u32; 2] = [0x304_0000, 0x305_0000];
const EXPORTED: u32 = 0x306_0000;
const WRITTEN: u32 = 0x307_0000;
const KERNEL: u32 = 0x100_0000;
/// Far above where the kernel unpacks itself.
const INITRAMFS: u32 = 0x900_0000;

/// The script.
pub(super) fn text() -> String {
    let blocks = COPY_LEN / 512;
    let data_len = COPY_LEN - 5;
    let numbers = |count: u32| -> String {
        let words: Vec<String> = (0..count).map(|number| format!("{number:x}")).collect();
        words.join(" ")
    };
    let flags = numbers(256);
    let counts: Vec<String> = (0..100).map(|count| count.to_string()).collect();
    let counts = counts.join(" ");
    let mut text = String::from("echo boot.scr: begins\n");
    for at in 0..2 {
        let (copy, checked, sector) = (COPY[at], CHECKED[at], COPIES[at]);
        let name = at + 1;
        // CRC and data side by side, as `env import` wants them: the flags stand between.
        let part = format!(
            "\
virtio read {copy:#x} {sector:x} {blocks:x}
cp.b {copy:#x} {from:#x} 4
cp.b {data:#x} {to:#x} {data_len:x}
setenv whole{name} 0
if env import -c {from:#x} {check_len:x} nothing; then setenv whole{name} 1; fi
for n in {flags}; do if itest.b *{flag:#x} == $n; then setenv flag{name} $n; fi; done
",
            from = checked + 1,
            data = copy + 5,
            to = checked + 5,
            check_len = data_len + 4,
            flag = copy + 4,
        );
        text.push_str(&part);
    }
    let choice = format!(
        "\
setenv newer 1
if itest.b *{second:#x} -gt *{first:#x}; then setenv newer 2; fi
if test $flag1 = 0 -a $flag2 = ff; then setenv newer 1; fi
if test $flag1 = ff -a $flag2 = 0; then setenv newer 2; fi
if test $whole1 = 0; then setenv newer 2; fi
if test $whole2 = 0; then setenv newer 1; fi
if test $whole1$whole2 = 00; then setenv newer 0; fi
if test $newer = 1; then env import -c {one:#x} {check_len:x} {KEPT}; setenv flag $flag1; setenv other {other1:x}; fi
if test $newer = 2; then env import -c {two:#x} {check_len:x} {KEPT}; setenv flag $flag2; setenv other {other2:x}; fi
echo boot.scr: copy $newer of $whole1$whole2, flags $flag1 $flag2
",
        first = COPY[0] + 4,
        second = COPY[1] + 4,
        one = CHECKED[0] + 1,
        two = CHECKED[1] + 1,
        check_len = data_len + 4,
        other1 = COPIES[1],
        other2 = COPIES[0],
    );
    text.push_str(&choice);
    text += &counting(&flags, &counts, data_len, blocks);
    text += &starting();
    text
}

/// Counts while something is armed, and saves into the copy that does not count.
fn counting(flags: &str, counts: &str, data_len: u64, blocks: u64) -> String {
    format!(
        "\
setenv ampoule_over 0
if test \"$upgrade_available\" = 1 -a $newer != 0; then
  setenv last none
  for n in {counts}; do
    if test \"$last\" = \"$bootcount\"; then setenv counted $n; fi
    setenv last $n
  done
  setenv bootcount $counted
  setenv last ff
  for n in {flags}; do
    if test $last = $flag; then setenv next $n; fi
    setenv last $n
  done
  env export -c -s {size:x} {exported:#x} {KEPT}
  cp.b {exported:#x} {written:#x} 4
  mw.b {flag_at:#x} $next 1
  cp.b {data_from:#x} {data_at:#x} {data_len:x}
  virtio write {written:#x} $other {blocks:x}
  echo boot.scr: boot $bootcount of $bootlimit
  if test $bootcount -gt $bootlimit; then setenv ampoule_over 1; fi
fi
",
        size = data_len + 4,
        exported = EXPORTED + 1,
        written = WRITTEN,
        flag_at = WRITTEN + 4,
        data_from = EXPORTED + 5,
        data_at = WRITTEN + 5,
    )
}

/// The commands of the guide, and a kernel.
fn starting() -> String {
    format!(
        "\
setenv ampoule_slot 'if test -n \"$ampoule_default\"; then setenv slot $ampoule_default; else setenv slot a; fi'
setenv ampoule_start 'run ampoule_load'
setenv ampoule_load 'setenv part 3; if test $slot = b; then setenv part 4; fi; setenv bootargs ampoule.slot=$slot {WORDS}; echo boot.scr: slot $slot; load virtio 0:$part {KERNEL:#x} linux; load virtio 0:$part {INITRAMFS:#x} initrd; zboot {KERNEL:#x} 0 {INITRAMFS:#x} $filesize; reset'
if test $ampoule_over = 1; then
  run altbootcmd
else
  if test \"$upgrade_available\" = 1 -a -n \"$ampoule_trial\"; then setenv slot $ampoule_trial; else run ampoule_slot; fi
  run ampoule_start
fi
"
    )
}
