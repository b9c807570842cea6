//! Why a reply was given: the truth behind its text.

use serde::Serialize;

/// One class per cause; the accounts are kept by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Accepted,
    /// Above the hidden capacity, or within the knee below it.
    Capacity,
    /// A plain limit of the profile.
    Rate,
    ConnectionLimit,
    /// Messages per connection.
    MessageLimit,
    /// In the penalty box.
    Penalty,
    /// Escalated from deferrals or complaints.
    Block,
    /// On one of the lists of the bit mask.
    Blocklist,
    /// The client's address has no name.
    Ptr,
    Greylist,
    /// An earlier answer given again.
    Cached,
    UnknownMailbox,
    FullMailbox,
    InactiveMailbox,
    /// The domain takes no mail.
    NullMx,
    Content,
    /// SPF, DKIM or DMARC.
    Authentication,
    TlsRequired,
    /// STARTTLS offered, then broken.
    TlsFault,
    /// A fault by rate: 421 or 451 for no reason of the client's.
    Fault,
    /// A backend behind the address that does not answer.
    Backend,
}

impl Class {
    pub const ALL: [Self; 21] = [
        Self::Accepted,
        Self::Capacity,
        Self::Rate,
        Self::ConnectionLimit,
        Self::MessageLimit,
        Self::Penalty,
        Self::Block,
        Self::Blocklist,
        Self::Ptr,
        Self::Greylist,
        Self::Cached,
        Self::UnknownMailbox,
        Self::FullMailbox,
        Self::InactiveMailbox,
        Self::NullMx,
        Self::Content,
        Self::Authentication,
        Self::TlsRequired,
        Self::TlsFault,
        Self::Fault,
        Self::Backend,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Capacity => "capacity",
            Self::Rate => "rate",
            Self::ConnectionLimit => "connection_limit",
            Self::MessageLimit => "message_limit",
            Self::Penalty => "penalty",
            Self::Block => "block",
            Self::Blocklist => "blocklist",
            Self::Ptr => "ptr",
            Self::Greylist => "greylist",
            Self::Cached => "cached",
            Self::UnknownMailbox => "unknown_mailbox",
            Self::FullMailbox => "full_mailbox",
            Self::InactiveMailbox => "inactive_mailbox",
            Self::NullMx => "null_mx",
            Self::Content => "content",
            Self::Authentication => "authentication",
            Self::TlsRequired => "tls_required",
            Self::TlsFault => "tls_fault",
            Self::Fault => "fault",
            Self::Backend => "backend",
        }
    }

    /// Whether the client's own pace brought this about.
    pub const fn is_pressure(self) -> bool {
        matches!(
            self,
            Self::Capacity | Self::Rate | Self::ConnectionLimit | Self::Penalty
        )
    }
}
