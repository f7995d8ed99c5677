//! What is around the machine: two slots, a boot loader, releases.

use ampoule_agent::machine::{BootView, BootViews, Fault, Notice, Part, Party, Plan, Slot, Whole};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::{ComponentName, TargetPath};
use ampoule_protocol::release::{Base, Blocks, Class, DeltaRef, FileRef, Install, ReleaseVersion};
use ampoule_protocol::version::RollbackIndex;

/// Boots that a trial gets.
pub(super) const ATTEMPTS: u32 = 2;
/// The newest release; 0 is what left the factory.
pub(super) const NEWEST: u8 = 2;

/// What is in a slot: a whole image of a version, or bytes.
pub(super) type Content = Option<u8>;

/// Two slots and the boot loader's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct World {
    pub(super) slots: [Content; 2],
    pub(super) running: Slot,
    pub(super) default: Slot,
    pub(super) armed: Option<(Slot, u32)>,
    /// Versions that a trial found bad.
    pub(super) bad: [bool; NEWEST as usize + 1],
}

impl World {
    pub(super) fn factory() -> Self {
        Self {
            slots: [Some(0), None],
            running: Slot::A,
            default: Slot::A,
            armed: None,
            bad: [false; NEWEST as usize + 1],
        }
    }

    pub(super) fn content(&self, slot: Slot) -> Content {
        self.slots[usize::from(slot == Slot::B)]
    }

    pub(super) fn fill(&mut self, slot: Slot, content: Content) {
        self.slots[usize::from(slot == Slot::B)] = content;
    }

    pub(super) fn views(&self) -> BootViews {
        let view = BootView {
            running: self.running,
            default: self.default,
            armed: self.armed,
        };
        BootViews::from([(component(), view)])
    }

    /// The loader: counts a boot off before it starts what is armed.
    pub(super) fn boot(&self) -> Self {
        let mut after = self.clone();
        after.running = match &mut after.armed {
            Some((slot, left)) if *left > 0 => {
                *left -= 1;
                *slot
            }
            _ => after.default,
        };
        after
    }

    /// All that a power-on can come to: any number of boots may end before an agent starts.
    pub(super) fn boots(&self) -> Vec<Self> {
        let mut all = vec![self.boot()];
        for _ in 0..=ATTEMPTS {
            let next = all[all.len() - 1].boot();
            if all.contains(&next) {
                break;
            }
            all.push(next);
        }
        all
    }

    /// The update to a version, for what runs.
    pub(super) fn plan(&self, version: u8) -> Plan {
        let name = ReleaseVersion::parse(&format!("{version}.0.0")).expect("a version");
        Plan {
            release: file(&format!("p/release-{version}.toml")),
            version: name.clone(),
            rollback_index: RollbackIndex(version.into()),
            downgrade: None,
            class: Class::Security,
            notice: Notice::default(),
            parts: vec![Part {
                component: component(),
                install: Install::Slot,
                whole: Whole::default(),
                live: false,
                meta_data: None,
                slot: self.running.other(),
                artifact: file(&format!("p/{version}.img")),
                blocks: Blocks {
                    block_len: 4096,
                    root: Digest::of(b""),
                    leaves: file("p/leaves"),
                },
                delta: (version == NEWEST).then(|| DeltaRef {
                    file: file("p/delta"),
                    base: Base {
                        version: name,
                        length: 100,
                        sha256: Digest::of(b"old"),
                    },
                    memory: 1,
                    caps: Vec::new(),
                }),
                before: None,
            }],
        }
    }
}

/// The version that a plan is for.
pub(super) fn version_of(plan: &Plan) -> u8 {
    u8::try_from(plan.rollback_index.0).expect("small")
}

pub(super) fn component() -> ComponentName {
    ComponentName::parse("rootfs").expect("a name")
}

pub(super) fn fault(guilty: Party) -> Fault {
    Fault {
        guilty,
        code: guilty.as_str().to_owned(),
        text: String::new(),
        retry_after_secs: None,
    }
}

fn file(name: &str) -> FileRef {
    FileRef {
        path: TargetPath::parse(name).expect("a path"),
        length: 100,
        sha256: Digest::of(name.as_bytes()),
    }
}
