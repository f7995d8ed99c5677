//! The list: twenty groups of bugs that bricked devices, and what keeps each of them out.

/// One bug.
pub(crate) struct Bug {
    /// Its group; those of one cause stand together.
    pub(crate) group: u8,
    /// What happened, in words.
    pub(crate) what: &'static str,
    /// Where it was seen.
    pub(crate) seen: &'static str,
    /// File and name of each test.
    pub(crate) tests: &'static [(&'static str, &'static str)],
    /// What else keeps it.
    pub(crate) kept: Kept,
}

/// How a bug is kept out.
pub(crate) enum Kept {
    /// By the tests that are named.
    ByTests,
    /// There is no such part here, for this reason.
    ByDesign(&'static str),
}

use Kept::{ByDesign, ByTests};

const CUTS: &str = "tests/tests/power/main.rs";
const FAULTS: &str = "tests/tests/power/faults.rs";
const MODEL: &str = "tests/tests/power/model/mod.rs";
const UBOOT: &str = "agent/tests/boot_worlds/uboot.rs";
const UBOOT_TOOLS: &str = "agent/tests/boot_worlds/uboot_tools.rs";
const GRUB: &str = "agent/tests/boot_worlds/grub.rs";
const SYSTEMD_BOOT: &str = "agent/tests/boot_worlds/systemd_boot.rs";
const JOURNAL: &str = "agent/src/journal/mod.rs";
const FULL: &str = "agent/tests/life/full.rs";

const fn bug(
    group: u8,
    what: &'static str,
    seen: &'static str,
    tests: &'static [(&'static str, &'static str)],
) -> Bug {
    Bug {
        group,
        what,
        seen,
        tests,
        kept: ByTests,
    }
}

const fn absent(group: u8, what: &'static str, seen: &'static str, why: &'static str) -> Bug {
    Bug {
        group,
        what,
        seen,
        tests: &[],
        kept: ByDesign(why),
    }
}

pub(crate) const BUGS: &[Bug] = &[
    bug(
        1,
        "a signature over the first bytes alone, beyond 2 GiB",
        "CVE-2026-34155 (RAUC 1.15.2)",
        &[
            (
                "tests/tests/bricks/huge.rs",
                "an_image_beyond_two_gib_is_read_to_its_last_byte",
            ),
            (
                "tests/tests/bricks/huge.rs",
                "the_last_block_beyond_four_gib_is_checked_by_its_own_leaf",
            ),
        ],
    ),
    bug(
        2,
        "overflow in an index or in free space of a huge image",
        "rauc 74c98dd7, aktualizr 07903985",
        &[
            (
                "tests/tests/bricks/huge.rs",
                "lengths_at_the_end_of_the_numbers_are_errors",
            ),
            ("tests/tests/bricks/huge.rs", "free_space_does_not_overflow"),
        ],
    ),
    bug(
        3,
        "the generation of a redundant environment wraps",
        "fwup-home/fwup#214",
        &[(
            UBOOT_TOOLS,
            "fwup_214_the_real_tool_follows_us_through_all_generations",
        )],
    ),
    bug(
        3,
        "tools and loader disagree about the size of the environment",
        "mendersoftware/meta-mender#1038",
        &[(
            UBOOT_TOOLS,
            "meta_mender_1038_another_size_is_refused_by_name",
        )],
    ),
    bug(
        3,
        "a missing or damaged environment block stops every update",
        "home-assistant/operating-system#3995, #2031",
        &[(GRUB, "haos_3995_a_missing_or_damaged_block_is_made_whole")],
    ),
    bug(
        3,
        "the environment is full",
        "u-boot",
        &[
            (UBOOT, "a_full_environment_is_refused_and_stays"),
            (GRUB, "a_full_block_is_refused_and_stays"),
        ],
    ),
    absent(
        4,
        "firmware deletes disabled boot entries",
        "seapath/meta-seapath#58",
        "no backend keeps its choice in UEFI variables; systemd-boot's entries are files",
    ),
    bug(
        5,
        "a counted entry stands beside a plain one, and a good boot is marked bad",
        "systemd/systemd#33504",
        &[(
            SYSTEMD_BOOT,
            "systemd_33504_a_counted_entry_beside_a_plain_one_leaves_one",
        )],
    ),
    bug(
        5,
        "an entry without tries is booted all the same",
        "systemd/systemd#40192",
        &[(SYSTEMD_BOOT, "systemd_40192_nothing_is_armed_for_no_boots")],
    ),
    bug(
        5,
        "the ESP is read-only",
        "systemd/systemd#36170, #42307",
        &[(
            SYSTEMD_BOOT,
            "systemd_36170_a_read_only_esp_is_an_error_and_changes_nothing",
        )],
    ),
    bug(
        6,
        "the disk is full: reboot loop, or no update and no word",
        "coreos/fedora-coreos-tracker#819, #1247, ostreedev/ostree#2670",
        &[
            (FULL, "a_disk_without_room_is_seen_before_the_first_byte"),
            (FULL, "a_disk_that_fills_up_halfway_loses_nothing"),
            (FAULTS, "a_disk_that_is_full_until_somebody_makes_space"),
        ],
    ),
    bug(
        7,
        "a crash after the swap leaves boot links that lead nowhere",
        "ostreedev/ostree#3392, #2283, coreos/rpm-ostree#1945",
        &[
            (CUTS, "tree"),
            (CUTS, "components"),
            (SYSTEMD_BOOT, "counting_survives_every_cut"),
        ],
    ),
    bug(
        8,
        "right size, wrong content, one object in a thousand",
        "ostreedev/ostree#1778",
        &[
            (FAULTS, "a_medium_that_keeps_something_else"),
            (FAULTS, "a_read_that_fails_once"),
        ],
    ),
    bug(
        9,
        "the power fails while a revert is written",
        "mcu-tools/mcuboot#480, #829, #1588, #1966",
        &[
            (CUTS, "trial_bad"),
            (CUTS, "trial_hangs"),
            (CUTS, "components_bad"),
        ],
    ),
    bug(
        10,
        "hooks ran although the download had failed",
        "balena-os/balenahup#365",
        &[(
            "tests/tests/bricks/hooks.rs",
            "nothing_is_asked_or_armed_before_all_is_read_back",
        )],
    ),
    bug(
        10,
        "system and agent are half updated after a power cut",
        "balena-os/balenahup#277",
        &[
            (CUTS, "components"),
            (
                "agent/tests/life/several.rs",
                "a_cut_before_any_operation_never_boots_a_mixture",
            ),
        ],
    ),
    bug(
        10,
        "\"downloaded\" was misjudged",
        "balena-os/balenahup#375",
        &[
            (CUTS, "full_in_pieces"),
            (
                "agent/tests/life/delta.rs",
                "a_cut_delta_goes_on_at_the_last_finished_window",
            ),
        ],
    ),
    bug(
        10,
        "a patch takes all memory, and the fleet reboots in a loop",
        "balena-os/balena-raspberrypi#503",
        &[
            (
                "delta/tests/memory.rs",
                "what_asks_for_more_is_refused_and_not_tried",
            ),
            (
                "delta/tests/memory.rs",
                "no_patch_takes_more_than_is_accepted",
            ),
        ],
    ),
    bug(
        11,
        "install and reboot for ever, since the boot always returns to the old slot",
        "flatcar/Flatcar#130, #1924, bottlerocket-update-operator#123",
        &[
            (
                "tests/tests/bricks/loops.rs",
                "an_image_that_never_starts_costs_a_bounded_number_of_boots_a_day",
            ),
            (
                "tests/tests/bricks/loops.rs",
                "after_a_day_it_is_tried_again_and_a_good_one_installs",
            ),
        ],
    ),
    bug(
        11,
        "the health check loops instead of falling back",
        "fedora-iot/greenboot#221, #105",
        &[(
            "tests/tests/bricks/loops.rs",
            "health_that_never_answers_is_a_bad_verdict",
        )],
    ),
    bug(
        12,
        "metadata expires after staging, and the device panics or is stuck",
        "advancedtelematic/aktualizr#1185, PR #1548",
        &[
            (
                "tests/tests/bricks/expiry.rs",
                "a_pending_install_outlives_the_expiry_of_its_metadata",
            ),
            (
                "tests/tests/bricks/expiry.rs",
                "a_device_that_lay_in_a_drawer_takes_the_next_release",
            ),
        ],
    ),
    bug(
        13,
        "the signer's certificate expires, or is not good yet, and strands the fleet",
        "rauc/rauc#781, #581, #353",
        &[
            (
                "tests/tests/bricks/clock.rs",
                "without_a_clock_a_release_installs",
            ),
            (
                "tests/tests/attacks/clock.rs",
                "absent_the_device_stands_at_the_floor",
            ),
        ],
    ),
    bug(
        14,
        "the clock jumps",
        "sbabic/swupdate 3818ba32, zincati",
        &[
            (
                "tests/tests/bricks/clock.rs",
                "any_clock_lets_a_pending_install_end",
            ),
            (
                "agent/src/gate/window/tests.rs",
                "a_clock_that_jumps_is_not_believed_until_it_is_steady",
            ),
            (
                "agent/src/gate/window/tests.rs",
                "an_hour_that_is_skipped_is_not_counted",
            ),
        ],
    ),
    bug(
        15,
        "downloads are tried again without end, all devices at once",
        "rauc-hawkbit-updater#158, #223, rauc/rauc#1517",
        &[
            ("agent/src/net/backoff.rs", "waits_double_to_a_bound"),
            (
                "agent/src/net/backoff.rs",
                "devices_spread_and_one_device_stays",
            ),
            (
                "agent/tests/life/daemon.rs",
                "a_busy_server_is_left_alone_as_long_as_it_asks",
            ),
            (
                "agent/src/machine/tests.rs",
                "network_faults_are_tried_again_and_bounded",
            ),
        ],
    ),
    bug(
        16,
        "the agent's own database is damaged, and it never starts",
        "mendersoftware/mender PR #1516, #1517",
        &[
            (JOURNAL, "a_broken_file_costs_one_step_and_is_kept"),
            (JOURNAL, "the_floor_outlives_both_journals"),
            (FAULTS, "a_bit_that_rots_while_the_power_is_off"),
            (CUTS, "set_floor"),
        ],
    ),
    bug(
        16,
        "a script hangs, and the agent with it",
        "mendersoftware/mender 7e007c11, 19300dd5",
        &[
            (
                "agent/tests/boot_worlds/command.rs",
                "a_program_that_hangs_is_ended",
            ),
            (
                "tests/tests/bricks/loops.rs",
                "health_that_never_answers_is_a_bad_verdict",
            ),
        ],
    ),
    bug(
        17,
        "success is reported before the reboot",
        "rauc-hawkbit-updater#161, zephyrproject-rtos/zephyr#71750",
        &[(
            "tests/tests/bricks/truth.rs",
            "no_receipt_says_committed_before_the_new_image_is_the_default",
        )],
    ),
    bug(
        18,
        "the last piece is missing",
        "sbabic/swupdate 41b8ea20, 3fb00edf",
        &[
            (
                "delta/tests/hostile.rs",
                "every_cut_and_every_longer_patch_is_an_error",
            ),
            (
                "tests/tests/bricks/partial.rs",
                "an_image_that_ends_early_is_not_whole",
            ),
        ],
    ),
    bug(
        18,
        "a partial update counts as installed",
        "systemd/systemd#42187, #42186, #33339",
        &[(
            "tests/tests/bricks/partial.rs",
            "a_slot_that_is_half_filled_is_known_for_nothing",
        )],
    ),
    bug(
        19,
        "a rollout is paused for days, and the device is stuck with what it downloaded",
        "flatcar/nebraska#853",
        &[
            (MODEL, "every_state_of_the_machine"),
            (
                "agent/tests/device/gates.rs",
                "a_newer_release_takes_the_place_of_one_that_waits",
            ),
            (
                "server/tests/rollout/stories.rs",
                "a_pause_stops_the_spread_and_leaves_offers",
            ),
        ],
    ),
    bug(
        20,
        "going back needs metadata that is expired, or the older slot holds an older root",
        "bottlerocket#1587, #91",
        &[
            (CUTS, "root_rotation"),
            ("tests/tests/attacks/rollback.rs", "of_root"),
            (
                "tests/tests/bricks/expiry.rs",
                "a_revert_does_not_ask_for_the_time",
            ),
        ],
    ),
];
