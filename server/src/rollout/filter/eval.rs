//! A filter asked of a device.

use std::borrow::Cow;
use std::cmp::Ordering;

use ampoule_protocol::time::UtcTime;

use super::{Fact, Filter, Node, Relation};
use crate::rollout::facts::{self, DeviceFacts};

impl Filter {
    /// Whether the device is one of those.
    pub fn matches(&self, device: &DeviceFacts, now: UtcTime) -> bool {
        matches(&self.node, device, now)
    }

    /// Whether the answer can change by time alone.
    pub fn is_timed(&self) -> bool {
        is_timed(&self.node)
    }
}

fn is_timed(node: &Node) -> bool {
    match node {
        Node::All => false,
        Node::And(parts) | Node::Or(parts) => parts.iter().any(is_timed),
        Node::Not(part) => is_timed(part),
        Node::Has(fact) | Node::Is(fact, ..) | Node::In(fact, _) => {
            matches!(fact, Fact::EnrolledDays | Fact::SilentDays)
        }
    }
}

fn matches(node: &Node, device: &DeviceFacts, now: UtcTime) -> bool {
    match node {
        Node::All => true,
        Node::And(parts) => parts.iter().all(|part| matches(part, device, now)),
        Node::Or(parts) => parts.iter().any(|part| matches(part, device, now)),
        Node::Not(part) => !matches(part, device, now),
        Node::Has(fact) => found(fact, device, now).is_some(),
        Node::Is(fact, relation, value) => {
            found(fact, device, now).is_some_and(|found| holds(*relation, &found, value))
        }
        Node::In(fact, values) => {
            found(fact, device, now).is_some_and(|found| values.iter().any(|value| *value == found))
        }
    }
}

fn found<'a>(fact: &Fact, device: &'a DeviceFacts, now: UtcTime) -> Option<Cow<'a, str>> {
    let profile = device.profile.as_deref();
    let days = |since: i64| Cow::from(facts::days(since, now).to_string());
    match fact {
        Fact::Device => Some(device.device.as_str().into()),
        Fact::Product => Some(profile?.product.as_str().into()),
        Fact::Hardware => Some(profile?.hardware.as_str().into()),
        Fact::Floor => Some(profile?.floor.to_string().into()),
        Fact::Agent => Some(profile?.agent.as_str().into()),
        Fact::EnrolledDays => Some(days(device.enrolled_at)),
        Fact::SilentDays => device.seen_at.map(days),
        Fact::Version(name) => Some(profile?.running.get(name)?.version.as_deref()?.into()),
        Fact::Digest(name) => Some(profile?.running.get(name)?.sha256?.to_string().into()),
        Fact::Tag(name) => device.tag(name).map(Cow::from),
    }
}

fn holds(relation: Relation, found: &str, value: &str) -> bool {
    let order = || compare(found, value);
    match relation {
        Relation::Equal => found == value,
        Relation::NotEqual => found != value,
        Relation::Like => like(found.as_bytes(), value.as_bytes()),
        Relation::Less => order() == Some(Ordering::Less),
        Relation::AtMost => order().is_some_and(Ordering::is_le),
        Relation::Greater => order() == Some(Ordering::Greater),
        Relation::AtLeast => order().is_some_and(Ordering::is_ge),
    }
}

/// Whether a text is numbers joined by dots, with what Semantic Versioning hangs on them.
pub(super) fn is_ordered(text: &str) -> bool {
    numbers(text).is_some()
}

/// Number by number, missing ones as 0; equal numbers with a pre-release are below those without.
fn compare(a: &str, b: &str) -> Option<Ordering> {
    let ((a, a_pre), (b, b_pre)) = (numbers(a)?, numbers(b)?);
    let at = |list: &[u64], index: usize| list.get(index).copied().unwrap_or(0);
    let order = (0..a.len().max(b.len()))
        .map(|index| at(&a, index).cmp(&at(&b, index)))
        .find(|order| order.is_ne());
    Some(order.unwrap_or_else(|| match (a_pre, b_pre) {
        (None, None) => Ordering::Equal,
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (Some(a), Some(b)) => a.cmp(b),
    }))
}

fn numbers(text: &str) -> Option<(Vec<u64>, Option<&str>)> {
    let text = text.split_once('+').map_or(text, |(version, _)| version);
    let (version, pre) = match text.split_once('-') {
        Some((version, pre)) => (version, Some(pre)),
        None => (text, None),
    };
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok())?
    };
    let numbers = version.split('.').map(number).collect::<Option<_>>()?;
    Some((numbers, pre))
}

/// `*` stands for any characters, `?` for one. Linear but for the last `*`, which moves on.
fn like(text: &[u8], pattern: &[u8]) -> bool {
    let (mut t, mut p) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                t += 1;
                p += 1;
            }
            _ => match star {
                Some((star_p, star_t)) => {
                    p = star_p + 1;
                    t = star_t + 1;
                    star = Some((star_p, star_t + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}
