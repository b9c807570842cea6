//! The envelope: what MAIL and RCPT said (RFC 5321 §2.3.1), with its extensions' parameters.

use super::Address;

/// BODY= of RFC 6152. BINARYMIME (RFC 3030) is refused at the door, so there is no variant for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyKind {
    #[default]
    SevenBit,
    EightBitMime,
}

/// RET= of RFC 3461 §4.3: what of the message a failure report returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    Full,
    Headers,
}

/// NOTIFY= of RFC 3461 §4.1. The default, no parameter given, is failure and delay at our choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notify {
    /// False when the client gave no NOTIFY: then the parameter is not passed on either.
    pub given: bool,
    pub success: bool,
    pub failure: bool,
    pub delay: bool,
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            given: false,
            success: false,
            failure: true,
            delay: false,
        }
    }
}

impl Notify {
    pub const NEVER: Self = Self {
        given: true,
        success: false,
        failure: false,
        delay: false,
    };
}

/// One RCPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    pub address: Address,
    pub notify: Notify,
    /// ORCPT= as given, `addr-type;xtext`, still encoded (RFC 3461 §4.2).
    pub orcpt: Option<Box<str>>,
}

/// One transaction's MAIL and RCPTs. Recipients are known by their index from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// `None` is the null reverse-path `<>`.
    pub sender: Option<Address>,
    pub body: BodyKind,
    /// The client gave SMTPUTF8 (RFC 6531 §3.4).
    pub smtputf8: bool,
    pub ret: Option<Ret>,
    /// ENVID= as given, still xtext (RFC 3461 §4.4).
    pub envid: Option<Box<str>>,
    /// At least one, at most 65,535.
    pub recipients: Vec<Recipient>,
}
