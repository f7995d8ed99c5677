//! The walls around a process: Landlock for files and ports, seccomp for system calls.
//!
//! What stands is told ([`Walls`]); a kernel or a processor that lacks one is no error.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, NetPort, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, path_beneath_rules,
};

/// What is asked of Landlock; an older kernel does what it can.
const ABI_WANTED: ABI = ABI::V5;
/// The port of name servers, for answers that are too long for UDP.
const DNS_PORT: u16 = 53;
/// What resolving names reads: its configuration, and the parts of the C library for it.
const RESOLVING: [&str; 14] = [
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/localtime",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/dev/urandom",
];

/// What stands around a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walls {
    /// Files and ports, by Landlock.
    pub files: Wall,
    /// System calls, by seccomp.
    pub calls: Wall,
}

/// One wall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wall {
    /// It stands.
    Stands,
    /// A part of it does: the kernel knows no more.
    InPart,
    /// It does not, for this reason.
    Missing(String),
}

impl Wall {
    /// What is missing of it, in words.
    fn gap(&self, what: &str) -> Option<String> {
        match self {
            Self::Stands => None,
            Self::InPart => Some(format!("{what} are confined in part: the kernel is older")),
            Self::Missing(why) => Some(format!("{what} are not confined: {why}")),
        }
    }
}

impl Walls {
    /// What is missing of them, in words; nothing where all of it stands.
    pub fn gaps(&self) -> Vec<String> {
        let gaps = [self.files.gap("files"), self.calls.gap("system calls")];
        gaps.into_iter().flatten().collect()
    }
}

/// Around the network half: reads what resolving names takes, writes nothing, connects to
/// `ports`, starts no program, listens nowhere.
pub fn network(ports: &[u16]) -> Walls {
    Walls {
        files: landlock(&[], &RESOLVING.map(PathBuf::from), Some(ports)),
        calls: calls::deny(calls::Kind::Network),
    }
}

/// Around a writer that runs no programs: writes below these places alone, starts no program, opens
/// no socket but local ones.
pub fn writer_alone(writes: &[PathBuf]) -> Walls {
    Walls {
        files: landlock(writes, &[PathBuf::from("/")], None),
        calls: calls::deny(calls::Kind::WriterAlone),
    }
}

/// Around a writer that runs programs of its configuration, which live within the same walls: the
/// kernel itself is out of reach, the rest is theirs.
pub fn writer_with_programs() -> Walls {
    Walls {
        files: Wall::Missing("it runs programs of its configuration".to_owned()),
        calls: calls::deny(calls::Kind::WriterWithPrograms),
    }
}

fn landlock(writes: &[PathBuf], reads: &[PathBuf], ports: Option<&[u16]>) -> Wall {
    match restrict(writes, reads, ports) {
        Ok(RulesetStatus::FullyEnforced) => Wall::Stands,
        Ok(RulesetStatus::PartiallyEnforced) => Wall::InPart,
        Ok(RulesetStatus::NotEnforced) => Wall::Missing("the kernel has no Landlock".to_owned()),
        Err(error) => Wall::Missing(error.to_string()),
    }
}

fn restrict(
    writes: &[PathBuf],
    reads: &[PathBuf],
    ports: Option<&[u16]>,
) -> Result<RulesetStatus, RulesetError> {
    let there = |paths: &[PathBuf]| -> Vec<PathBuf> {
        paths
            .iter()
            .filter(|path| Path::new(path).exists())
            .cloned()
            .collect()
    };
    // Only the network half may connect at all; the writer's sockets are seccomp's to refuse.
    let mut rules = Ruleset::default().handle_access(AccessFs::from_all(ABI_WANTED))?;
    if ports.is_some() {
        rules = rules.handle_access(AccessNet::from_all(ABI_WANTED))?;
    }
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules: RulesetCreated = rules
        .create()?
        .add_rules(path_beneath_rules(there(reads), reading))?
        .add_rules(path_beneath_rules(
            there(writes),
            AccessFs::from_all(ABI_WANTED) ^ AccessFs::Execute,
        ))?;
    let ports = ports
        .into_iter()
        .flat_map(|ports| ports.iter().chain([&DNS_PORT]));
    for port in ports {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod calls {
    use super::Wall;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) enum Kind {
        Network,
        WriterAlone,
        WriterWithPrograms,
    }

    pub(super) fn deny(_kind: Kind) -> Wall {
        Wall::Missing("no seccomp filter for this processor".to_owned())
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod calls {
    //! The system calls that are refused, with `EPERM`: an answer that every library expects.

    use std::collections::BTreeMap;

    use libc::c_long;
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, TargetArch,
    };

    use super::Wall;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) enum Kind {
        Network,
        WriterAlone,
        WriterWithPrograms,
    }

    /// What no part of an agent needs, nor any program that it runs: the kernel, other processes,
    /// and ways around the rest.
    const NEVER: &[c_long] = &[
        libc::SYS_add_key,
        libc::SYS_bpf,
        libc::SYS_delete_module,
        libc::SYS_finit_module,
        libc::SYS_init_module,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_io_uring_setup,
        libc::SYS_kexec_file_load,
        libc::SYS_kexec_load,
        libc::SYS_keyctl,
        libc::SYS_open_by_handle_at,
        libc::SYS_perf_event_open,
        libc::SYS_pivot_root,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_ptrace,
        libc::SYS_request_key,
        libc::SYS_setns,
        libc::SYS_unshare,
        libc::SYS_userfaultfd,
    ];
    /// What starts programs.
    const PROGRAMS: &[c_long] = &[libc::SYS_execve, libc::SYS_execveat];
    /// What the network half has no use for besides.
    const NETWORK: &[c_long] = &[
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_chroot,
        libc::SYS_kill,
        libc::SYS_listen,
        libc::SYS_memfd_create,
        libc::SYS_mount,
        libc::SYS_reboot,
        libc::SYS_setgid,
        libc::SYS_settimeofday,
        libc::SYS_setuid,
        libc::SYS_tgkill,
        libc::SYS_umount2,
    ];

    pub(super) fn deny(kind: Kind) -> Wall {
        match filter(kind).and_then(|program| {
            seccompiler::apply_filter(&program).map_err(|error| error.to_string())
        }) {
            Ok(()) => Wall::Stands,
            Err(why) => Wall::Missing(why),
        }
    }

    fn filter(kind: Kind) -> Result<BpfProgram, String> {
        let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = BTreeMap::new();
        let mut refuse = |calls: &[c_long]| {
            rules.extend(calls.iter().map(|call| (*call, Vec::new())));
        };
        refuse(NEVER);
        match kind {
            Kind::Network => {
                refuse(PROGRAMS);
                refuse(NETWORK);
            }
            Kind::WriterAlone => {
                refuse(PROGRAMS);
                rules.insert(
                    libc::SYS_socket,
                    vec![not_local().map_err(|error| text(&error))?],
                );
            }
            Kind::WriterWithPrograms => {}
        }
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| text(&error))?;
        let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch);
        let filter = filter.map_err(|error| text(&error))?;
        filter.try_into().map_err(|error| text(&error))
    }

    fn text(error: &seccompiler::BackendError) -> String {
        error.to_string()
    }

    /// A socket of any family but the local one.
    fn not_local() -> Result<SeccompRule, seccompiler::BackendError> {
        let local = u64::from(libc::AF_UNIX.unsigned_abs());
        let family = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, local)?;
        SeccompRule::new(vec![family])
    }
}
