//! Roles, and what each may do: one table, and nothing that it does not say.

use serde::{Deserialize, Serialize};

/// What a person is to the fleet.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Makes releases and proposes their spread.
    ReleaseEngineer,
    /// Approves what is spread.
    SafetyOfficer,
    /// Answers for clearance by region.
    Regulatory,
    /// Spreads, watches, stops.
    FleetOperator,
    /// Looks for what is vulnerable; revokes what was stolen.
    SecurityAnalyst,
    /// A hospital: sees its own devices.
    Site,
    /// Reads everything that happened.
    Auditor,
    /// Makes accounts, and has no right over releases and devices.
    Administrator,
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// See devices.
    ReadDevices,
    /// See rollouts.
    ReadRollouts,
    /// Enrol a device.
    EnrollDevice,
    /// Say where a device is.
    TagDevice,
    /// End a device's right to be served.
    RevokeDevice,
    /// See what a plan would do.
    TryRollout,
    /// Make a rollout.
    CreateRollout,
    /// Approve one.
    ApproveRollout,
    /// Stop one from spreading.
    PauseRollout,
    /// End one.
    AbortRollout,
    /// Let one go on.
    ResumeRollout,
    /// Ask devices again that failed.
    RetryRollout,
    /// Read and copy the audit log.
    ReadAudit,
    /// Bring a witness's cosignature of it.
    CosignAudit,
    /// Read what the server counts.
    ReadMetrics,
    /// See accounts.
    ReadAccounts,
    /// Make and invite accounts.
    CreateAccount,
    /// Change what others may do.
    ChangeAccount,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ReleaseEngineer,
        Self::SafetyOfficer,
        Self::Regulatory,
        Self::FleetOperator,
        Self::SecurityAnalyst,
        Self::Site,
        Self::Auditor,
        Self::Administrator,
    ];

    /// What it may do.
    pub const fn rights(self) -> &'static [Right] {
        use Right as R;
        match self {
            Self::ReleaseEngineer => &[
                R::ReadDevices,
                R::ReadRollouts,
                R::TryRollout,
                R::CreateRollout,
                R::PauseRollout,
                R::ReadMetrics,
            ],
            Self::SafetyOfficer => &[
                R::ReadDevices,
                R::ReadRollouts,
                R::TryRollout,
                R::ApproveRollout,
                R::PauseRollout,
                R::AbortRollout,
                R::ReadAudit,
                R::ReadMetrics,
            ],
            Self::Regulatory => &[R::ReadDevices, R::ReadRollouts, R::PauseRollout],
            Self::FleetOperator => &[
                R::ReadDevices,
                R::ReadRollouts,
                R::EnrollDevice,
                R::TagDevice,
                R::RevokeDevice,
                R::TryRollout,
                R::CreateRollout,
                R::PauseRollout,
                R::AbortRollout,
                R::ResumeRollout,
                R::RetryRollout,
                R::ReadMetrics,
            ],
            Self::SecurityAnalyst => &[
                R::ReadDevices,
                R::ReadRollouts,
                R::RevokeDevice,
                R::PauseRollout,
                R::ReadAudit,
                R::ReadMetrics,
            ],
            Self::Site => &[R::ReadDevices, R::ReadRollouts],
            Self::Auditor => &[
                R::ReadDevices,
                R::ReadRollouts,
                R::ReadAudit,
                R::CosignAudit,
                R::ReadMetrics,
                R::ReadAccounts,
            ],
            Self::Administrator => &[
                R::ReadAudit,
                R::ReadMetrics,
                R::ReadAccounts,
                R::CreateAccount,
                R::ChangeAccount,
            ],
        }
    }

    /// Whether it may.
    pub fn may(self, right: Right) -> bool {
        self.rights().contains(&right)
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReleaseEngineer => "release-engineer",
            Self::SafetyOfficer => "safety-officer",
            Self::Regulatory => "regulatory",
            Self::FleetOperator => "fleet-operator",
            Self::SecurityAnalyst => "security-analyst",
            Self::Site => "site",
            Self::Auditor => "auditor",
            Self::Administrator => "administrator",
        }
    }

    /// From the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::ReadDevices,
        Self::ReadRollouts,
        Self::EnrollDevice,
        Self::TagDevice,
        Self::RevokeDevice,
        Self::TryRollout,
        Self::CreateRollout,
        Self::ApproveRollout,
        Self::PauseRollout,
        Self::AbortRollout,
        Self::ResumeRollout,
        Self::RetryRollout,
        Self::ReadAudit,
        Self::CosignAudit,
        Self::ReadMetrics,
        Self::ReadAccounts,
        Self::CreateAccount,
        Self::ChangeAccount,
    ];

    /// Whether doing it asks for a fresh code. Stopping never does: it must be quick.
    pub const fn is_dangerous(self) -> bool {
        match self {
            Self::RevokeDevice
            | Self::ApproveRollout
            | Self::ResumeRollout
            | Self::RetryRollout
            | Self::CreateAccount
            | Self::ChangeAccount => true,
            Self::ReadDevices
            | Self::ReadRollouts
            | Self::EnrollDevice
            | Self::TagDevice
            | Self::TryRollout
            | Self::CreateRollout
            | Self::PauseRollout
            | Self::AbortRollout
            | Self::ReadAudit
            | Self::CosignAudit
            | Self::ReadMetrics
            | Self::ReadAccounts => false,
        }
    }
}
