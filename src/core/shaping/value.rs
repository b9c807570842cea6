//! A key's value, checked.

use core::fmt;
use core::time::Duration;

use super::fault::{Place, Wrong};
use super::keys::Kind;
use super::rate::{Cap, Rate};
use super::read::{Entry, Node, Tree};
use super::span;
use crate::words::Network;

/// Octets of a text value.
const TEXT_MAX: usize = 1_024;

/// How the message rate of a path moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    pub mode: PacingMode,
    /// The slowest the rate may become.
    pub min: Option<Rate>,
    /// The fastest; `max_message_rate` holds as well.
    pub max: Option<Rate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacingMode {
    /// The rate is what the file says.
    Fixed,
    /// The rate follows the peer's answers between min and max.
    Adaptive,
}

/// A value of one of the [`Kind`]s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Flag(bool),
    Count(u32),
    Cap(Cap),
    Rate(Rate),
    Duration(Duration),
    Text(Box<str>),
    /// One of the words of its kind.
    Word(&'static str),
    Networks(Box<[Network]>),
    Pacing(Pacing),
}

/// Which of the shaping's layers a value comes from; later ones are laid over earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// `shaping/default.toml`.
    BuiltIn,
    /// `shaping/provider/*.toml`.
    Shipped,
    /// The operator's own files.
    Operator,
    /// Set by a rule of automation at run time, with an expiry.
    Rule,
    /// Set by somebody at run time, with an expiry.
    Live,
}

impl Layer {
    pub const fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Shipped => "shipped",
            Self::Operator => "operator",
            Self::Rule => "automation",
            Self::Live => "live",
        }
    }
}

/// A value, and where it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub value: Value,
    pub place: Place,
    pub layer: Layer,
}

impl Kind {
    /// What a value of this kind is, in words.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Flag => "true or false",
            Self::Count { .. } => "a number",
            Self::Port => "a port",
            Self::Cap => "a number or \"local:number\"",
            Self::Rate => "a rate such as \"100/s\"",
            Self::Duration => "a duration such as \"90s\", or a number of seconds",
            Self::Text => "text of at most 1024 octets",
            Self::Networks => "a list of networks such as \"10.0.0.0/8\"",
            Self::Word(_) => "one of its words",
            Self::Caps => "a table of name = limit",
            Self::Rates => "a table of name = rate",
            Self::Pacing => "a table of mode, min and max",
            Self::Foreign => "left out",
        }
    }

    /// The kind of one entry of a map: of [`Kind::Caps`] or [`Kind::Rates`].
    pub(super) const fn of_entry(self) -> Self {
        if matches!(self, Self::Caps) {
            Self::Cap
        } else {
            Self::Rate
        }
    }

    pub(super) fn check(self, node: &Node<'_>) -> Result<Value, Wrong> {
        match (self, &node.tree) {
            (Self::Flag, Tree::Flag(flag)) => Ok(Value::Flag(*flag)),
            (Self::Count { min, max }, Tree::Number(number)) => {
                let within = u32::try_from(*number)
                    .ok()
                    .filter(|n| *n >= min && *n <= max);
                within.map(Value::Count).ok_or_else(|| self.beyond(*number))
            }
            (Self::Port, Tree::Number(number)) => {
                let port = u16::try_from(*number).ok().filter(|port| *port != 0);
                port.map(|port| Value::Count(port.into()))
                    .ok_or_else(|| self.beyond(*number))
            }
            (Self::Cap, Tree::Number(number)) => Cap::parse(&number.to_string()).map(Value::Cap),
            (Self::Cap, Tree::Text(text)) => Cap::parse(text).map(Value::Cap),
            (Self::Rate, Tree::Text(text)) => Rate::parse(text).map(Value::Rate),
            (Self::Duration, Tree::Text(text)) => span::parse(text).map(Value::Duration),
            #[expect(
                clippy::cast_precision_loss,
                reason = "what is cut is beyond the bound"
            )]
            (Self::Duration, Tree::Number(secs)) => {
                span::from_secs(*secs as f64).map(Value::Duration)
            }
            (Self::Duration, Tree::Decimal(secs)) => span::from_secs(*secs).map(Value::Duration),
            (Self::Text, Tree::Text(text)) if text.len() <= TEXT_MAX => {
                Ok(Value::Text(text.as_ref().into()))
            }
            (Self::Word(words), Tree::Text(text)) => words
                .iter()
                .find(|word| **word == *text)
                .map(|word| Value::Word(word))
                .ok_or_else(|| Wrong::Form {
                    expected: words_text(words),
                    found: node.tree.to_string(),
                }),
            (Self::Networks, Tree::List(items)) => networks(items),
            (Self::Pacing, Tree::Table(entries)) => pacing(entries),
            _ => Err(self.form(node)),
        }
    }

    fn form(self, node: &Node<'_>) -> Wrong {
        if let (Self::Rate, Tree::Number(number)) = (self, &node.tree)
            && *number < 0
        {
            return Wrong::Negative(number.to_string());
        }
        Wrong::Form {
            expected: self.expected(),
            found: node.tree.to_string(),
        }
    }

    /// Of a number, in words.
    fn bound(self) -> &'static str {
        let (Self::Count { max, .. }, known) =
            (self, ["1 to 100000", "1 to 1000000", "1 to 10000000"])
        else {
            return "1 to 65535";
        };
        let number = |bound: &str| bound.rsplit(' ').next().and_then(|n| n.parse().ok());
        let found = known.into_iter().find(|bound| number(bound) == Some(max));
        found.unwrap_or("the number its key allows")
    }

    fn beyond(self, number: i64) -> Wrong {
        if number < 0 {
            return Wrong::Negative(number.to_string());
        }
        Wrong::Bounds {
            found: number.to_string(),
            bound: self.bound(),
        }
    }
}

/// The words that are common enough to be worth naming in full.
fn words_text(words: &[&str]) -> &'static str {
    match words.first() {
        Some(&"Opportunistic") => {
            "Opportunistic, OpportunisticInsecure, Required, RequiredInsecure or Disabled"
        }
        Some(&"Ipv4AndIpv6") => "Ipv4AndIpv6, Ipv4Only, Ipv6Only, Ipv6ThenIpv4 or Ipv4ThenIpv6",
        Some(&"TerminateSession") => "TerminateSession, ReconnectSameHost or ConnectNextHost",
        _ => "one of its words",
    }
}

fn networks(items: &[Node<'_>]) -> Result<Value, Wrong> {
    let read = |item: &Node<'_>| {
        let network = item
            .tree
            .text()
            .and_then(|text| Network::rounded(text).ok());
        network.ok_or_else(|| Wrong::Form {
            expected: "a network such as \"10.0.0.0/8\"",
            found: item.tree.to_string(),
        })
    };
    let networks: Result<Box<[Network]>, Wrong> = items.iter().map(read).collect();
    networks.map(Value::Networks)
}

fn pacing(entries: &[Entry<'_>]) -> Result<Value, Wrong> {
    let (mut mode, mut min, mut max) = (None, None, None);
    for entry in entries {
        match (&*entry.key, &entry.node.tree) {
            ("mode", Tree::Text(word)) if word == "fixed" => mode = Some(PacingMode::Fixed),
            ("mode", Tree::Text(word)) if word == "adaptive" => mode = Some(PacingMode::Adaptive),
            ("min", Tree::Text(text)) => min = Some(Rate::parse(text)?),
            ("max", Tree::Text(text)) => max = Some(Rate::parse(text)?),
            (key, found) => {
                return Err(Wrong::Form {
                    expected: "a table of mode = \"fixed\" or \"adaptive\", min and max",
                    found: format!("{key} = {found}"),
                });
            }
        }
    }
    let mode = mode.ok_or_else(|| Wrong::Form {
        expected: "a table of mode, min and max",
        found: "one without mode".into(),
    })?;
    if let (Some(min), Some(max)) = (min, max)
        && min.cmp_sustained(&max).is_gt()
    {
        return Err(Wrong::MinAboveMax);
    }
    Ok(Value::Pacing(Pacing { mode, min, max }))
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Cap(cap) => write!(f, "{cap}"),
            Self::Rate(rate) => write!(f, "{rate}"),
            Self::Duration(duration) => f.write_str(&span::print(*duration)),
            Self::Text(text) => f.write_str(text),
            Self::Word(word) => f.write_str(word),
            Self::Networks(networks) => {
                let texts: Vec<String> = networks.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", texts.join(", "))
            }
            Self::Pacing(pacing) => {
                let mode = match pacing.mode {
                    PacingMode::Fixed => "fixed",
                    PacingMode::Adaptive => "adaptive",
                };
                f.write_str(mode)?;
                for (name, rate) in [("min", pacing.min), ("max", pacing.max)] {
                    if let Some(rate) = rate {
                        write!(f, " {name} {rate}")?;
                    }
                }
                Ok(())
            }
        }
    }
}
