//! Asking an object for its members one by one; what nobody asked for is kept as unknown.

use alloc::format;
use alloc::string::ToString;
use core::fmt;

use super::{Common, FormatError};
use crate::json::{Map, Value};
use crate::time::UtcTime;
use crate::version::MetaVersion;

/// The members of one object; those not asked for by name are kept as unknown.
///
/// A targets file has thousands of these, so the place is only joined when an error names it.
pub(super) struct Fields<'a> {
    place: Place<'a>,
    members: &'a Map,
    asked: [&'static str; ASKED_MAX],
    asked_len: usize,
    found: usize,
}

/// More members than any object of ours has.
const ASKED_MAX: usize = 12;

/// Where an object stands: a fixed path, and the name of an entry below it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a>(pub(super) &'static str, pub(super) Option<&'a str>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            None => f.write_str(self.0),
            Some(entry) => write!(f, "{}.{entry}", self.0),
        }
    }
}

impl<'a> Fields<'a> {
    pub(super) fn of(place: &'static str, value: &'a Value) -> Result<Self, FormatError> {
        Self::at(Place(place, None), value)
    }

    pub(super) fn at(place: Place<'a>, value: &'a Value) -> Result<Self, FormatError> {
        let members = value
            .as_object()
            .ok_or_else(|| FormatError::new(place.to_string(), "not an object"))?;
        Ok(Self {
            place,
            members,
            asked: [""; ASKED_MAX],
            asked_len: 0,
            found: 0,
        })
    }

    pub(super) fn error(&self, name: &str, what: &str) -> FormatError {
        FormatError::new(format!("{}.{name}", self.place), what)
    }

    pub(super) fn optional(&mut self, name: &'static str) -> Option<&'a Value> {
        debug_assert!(!self.asked().contains(&name), "{name} was asked for before");
        self.asked[self.asked_len] = name;
        self.asked_len += 1;
        let member = self.members.get(name);
        self.found += usize::from(member.is_some());
        member
    }

    pub(super) fn required(&mut self, name: &'static str) -> Result<&'a Value, FormatError> {
        self.optional(name)
            .ok_or_else(|| self.error(name, "missing"))
    }

    pub(super) fn object(&mut self, name: &'static str) -> Result<&'a Map, FormatError> {
        self.required(name)?
            .as_object()
            .ok_or_else(|| self.error(name, "not an object"))
    }

    pub(super) fn array(&mut self, name: &'static str) -> Result<&'a [Value], FormatError> {
        self.required(name)?
            .as_array()
            .ok_or_else(|| self.error(name, "not an array"))
    }

    pub(super) fn string(&mut self, name: &'static str) -> Result<&'a str, FormatError> {
        self.required(name)?
            .as_str()
            .ok_or_else(|| self.error(name, "not a string"))
    }

    pub(super) fn u64(&mut self, name: &'static str) -> Result<u64, FormatError> {
        let value = self.required(name)?;
        value
            .as_u64()
            .ok_or_else(|| self.error(name, "not a number from 0 to 2^64-1"))
    }

    pub(super) fn bool(&mut self, name: &'static str) -> Result<bool, FormatError> {
        let value = self.required(name)?;
        value
            .as_bool()
            .ok_or_else(|| self.error(name, "neither true nor false"))
    }

    pub(super) fn version(&mut self) -> Result<MetaVersion, FormatError> {
        let version = self.u64("version")?;
        MetaVersion::new(version).ok_or_else(|| self.error("version", "0, versions begin at 1"))
    }

    /// `_type`, `spec_version`, `version` and `expires`, which every payload has.
    pub(super) fn common(&mut self, kind: &str) -> Result<Common, FormatError> {
        let found = self.string("_type")?;
        if found != kind {
            return Err(self.error("_type", &format!("found \"{found}\", expected \"{kind}\"")));
        }
        let spec_version = self.string("spec_version")?;
        if !is_spec_1(spec_version) {
            let what = format!("found \"{spec_version}\", version 1 is the one known here");
            return Err(self.error("spec_version", &what));
        }
        let version = self.version()?;
        let expires = UtcTime::parse(self.string("expires")?)
            .map_err(|error| self.error("expires", &error.to_string()))?;
        Ok(Common {
            version,
            expires,
            spec_version: spec_version.into(),
            extra: Map::new(),
        })
    }

    fn asked(&self) -> &[&'static str] {
        &self.asked[..self.asked_len]
    }

    pub(super) fn rest(self) -> Map {
        if self.found == self.members.len() {
            return Map::new();
        }
        let unknown = self
            .members
            .iter()
            .filter(|(name, _)| !self.asked().contains(&name.as_str()));
        unknown
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

/// `1.x` or `1.x.y`, each a number.
fn is_spec_1(text: &str) -> bool {
    let mut parts = text.split('.');
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let count = text.split('.').count();
    parts.next() == Some("1") && (2..=3).contains(&count) && parts.all(number)
}

/// The members that every payload begins with.
pub(super) fn common_members(kind: &str, common: &Common) -> Map {
    let mut members = common.extra.clone();
    members.insert("_type".into(), kind.into());
    members.insert("spec_version".into(), common.spec_version.as_str().into());
    members.insert("version".into(), common.version.get().into());
    members.insert("expires".into(), common.expires.to_string().into());
    members
}
