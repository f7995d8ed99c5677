//! Delegations: trust in a role for some paths (TUF 1.0.34 section 4.5, TAP 15).
//!
//! A path pattern is a shell glob of `*` and `?` per segment: neither crosses a slash, case
//! matters, and `[` stands for itself (the specification names no sets; python-tuf reads them, so
//! we do not write them).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::fields::Fields;
use super::root::{RoleKeys, read_keys, write_keys};
use super::{FormatError, RoleType};
use crate::digest::Digest;
use crate::json::{Map, Value};
use crate::key::{Key, KeyId};
use crate::limits::{DELEGATIONS_MAX, SUCCINCT_BITS_MAX};
use crate::name::{RoleName, TargetPath};

/// The paths for which a delegated role is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trusts {
    /// Globs over whole paths.
    Paths(Vec<String>),
    /// Prefixes of the hex SHA-256 of a path: hash bins.
    HashPrefixes(Vec<String>),
}

/// One delegated role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegatedRole {
    /// Its name.
    pub name: RoleName,
    /// Whose signatures it needs.
    pub keys: RoleKeys,
    /// For which paths.
    pub trusts: Trusts,
    /// Whether nobody after it is asked for a path that it is trusted for.
    pub terminating: bool,
}

/// Hash bins that share keys and a name prefix (TAP 15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuccinctBins {
    /// Whose signatures every bin needs.
    pub keys: RoleKeys,
    /// There are `2^bit_length` bins, `1 <= bit_length <= 32`.
    pub bit_length: u32,
    /// Bin 10 of 256 is named `PREFIX-0a`.
    pub name_prefix: String,
}

/// The two ways to list delegated roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// One by one, in order of priority.
    Roles(Vec<DelegatedRole>),
    /// All at once.
    Bins(SuccinctBins),
}

/// The delegations of one targets file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegations {
    /// The keys of the delegated roles, by id.
    pub keys: BTreeMap<KeyId, Key>,
    /// The roles.
    pub roles: Listing,
    /// Members that we do not know, kept.
    pub extra: Map,
}

impl DelegatedRole {
    /// Whether it is trusted for `path`.
    pub fn covers(&self, path: &TargetPath) -> bool {
        match &self.trusts {
            Trusts::Paths(patterns) => patterns
                .iter()
                .any(|pattern| path_matches(pattern, path.as_str())),
            Trusts::HashPrefixes(prefixes) => {
                let hash = Digest::of(path.as_str().as_bytes()).to_string();
                prefixes
                    .iter()
                    .any(|prefix| hash.starts_with(prefix.as_str()))
            }
        }
    }

    fn from_value(value: &Value) -> Result<Self, FormatError> {
        let mut fields = Fields::of("targets.delegations.roles", value)?;
        let name = RoleName::parse(fields.string("name")?)
            .map_err(|error| fields.error("name", &error.to_string()))?;
        if RoleType::ALL
            .iter()
            .any(|role| role.as_str() == name.as_str())
        {
            return Err(fields.error("name", "the name of a top-level role"));
        }
        let mut keys = RoleKeys::take(&mut fields)?;
        let terminating = fields.bool("terminating")?;
        let paths = strings(&mut fields, "paths")?;
        let prefixes = strings(&mut fields, "path_hash_prefixes")?;
        let trusts = match (paths, prefixes) {
            (Some(paths), None) => Trusts::Paths(paths),
            (None, Some(prefixes)) => Trusts::HashPrefixes(prefixes),
            _ => return Err(fields.error("paths", "one of paths and path_hash_prefixes is needed")),
        };
        keys.extra = fields.rest();
        Ok(Self {
            name,
            keys,
            trusts,
            terminating,
        })
    }

    fn to_map(&self) -> Map {
        let mut members = self.keys.to_map();
        members.insert("name".into(), self.name.as_str().into());
        members.insert("terminating".into(), self.terminating.into());
        let (name, list) = match &self.trusts {
            Trusts::Paths(paths) => ("paths", paths),
            Trusts::HashPrefixes(prefixes) => ("path_hash_prefixes", prefixes),
        };
        let list = list.iter().map(|text| Value::from(text.as_str())).collect();
        members.insert(name.into(), Value::Array(list));
        members
    }
}

fn strings(
    fields: &mut Fields<'_>,
    name: &'static str,
) -> Result<Option<Vec<String>>, FormatError> {
    let Some(value) = fields.optional(name) else {
        return Ok(None);
    };
    let text = |item: &Value| item.as_str().map(ToString::to_string);
    value
        .as_array()
        .and_then(|items| items.iter().map(text).collect())
        .map(Some)
        .ok_or_else(|| fields.error(name, "not an array of strings"))
}

impl SuccinctBins {
    /// The bin for `path`: the first `bit_length` bits of its SHA-256.
    pub fn bin_of(&self, path: &TargetPath) -> RoleName {
        let hash = Digest::of(path.as_str().as_bytes());
        let [a, b, c, d, ..] = *hash.as_bytes();
        self.bin_name(u32::from_be_bytes([a, b, c, d]) >> (32 - self.bit_length))
    }

    /// The name of bin `index`.
    pub fn bin_name(&self, index: u32) -> RoleName {
        let digits = self.bit_length.div_ceil(4) as usize;
        let name = format!("{}-{index:0digits$x}", self.name_prefix);
        RoleName::parse(&name).expect("a prefix of bounded length makes a name")
    }

    /// Whether `name` is one of its bins.
    pub fn has(&self, name: &RoleName) -> bool {
        let index = name
            .as_str()
            .strip_prefix(self.name_prefix.as_str())
            .and_then(|rest| rest.strip_prefix('-'))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        index.is_some_and(|index| {
            u64::from(index) < 1 << self.bit_length && self.bin_name(index) == *name
        })
    }

    fn from_value(value: &Value) -> Result<Self, FormatError> {
        let mut fields = Fields::of("targets.delegations.succinct_roles", value)?;
        let mut keys = RoleKeys::take(&mut fields)?;
        let bits = fields.u64("bit_length")?;
        let bit_length = u32::try_from(bits)
            .ok()
            .filter(|bits| (1..=SUCCINCT_BITS_MAX).contains(bits))
            .ok_or_else(|| fields.error("bit_length", "not from 1 to 32"))?;
        let name_prefix = fields.string("name_prefix")?.to_string();
        if name_prefix.is_empty() || name_prefix.len() > crate::limits::NAME_LEN_MAX - 16 {
            return Err(fields.error("name_prefix", "empty or too long"));
        }
        keys.extra = fields.rest();
        Ok(Self {
            keys,
            bit_length,
            name_prefix,
        })
    }

    fn to_map(&self) -> Map {
        let mut members = self.keys.to_map();
        members.insert("bit_length".into(), u64::from(self.bit_length).into());
        members.insert("name_prefix".into(), self.name_prefix.as_str().into());
        members
    }
}

impl Delegations {
    /// No keys and no roles yet.
    pub fn new() -> Self {
        Self {
            keys: BTreeMap::new(),
            roles: Listing::Roles(Vec::new()),
            extra: Map::new(),
        }
    }

    /// The roles to ask for `path`, in order, each with whether it is terminating.
    pub fn roles_for(&self, path: &TargetPath) -> Vec<(RoleName, bool)> {
        match &self.roles {
            Listing::Bins(bins) => alloc::vec![(bins.bin_of(path), true)],
            Listing::Roles(roles) => roles
                .iter()
                .filter(|role| role.covers(path))
                .map(|role| (role.name.clone(), role.terminating))
                .collect(),
        }
    }

    /// Whose signatures the delegated role `name` needs.
    pub fn role_keys(&self, name: &RoleName) -> Option<&RoleKeys> {
        match &self.roles {
            Listing::Bins(bins) => bins.has(name).then_some(&bins.keys),
            Listing::Roles(roles) => roles
                .iter()
                .find(|role| role.name == *name)
                .map(|role| &role.keys),
        }
    }

    pub(super) fn from_value(value: &Value) -> Result<Self, FormatError> {
        let mut fields = Fields::of("targets.delegations", value)?;
        let keys = read_keys(fields.object("keys")?, "targets.delegations")?;
        let roles = fields.optional("roles");
        let roles = match (roles, fields.optional("succinct_roles")) {
            (Some(Value::Array(roles)), None) => Listing::Roles(read_roles(&fields, roles)?),
            (None, Some(bins)) => Listing::Bins(SuccinctBins::from_value(bins)?),
            _ => return Err(fields.error("roles", "one of roles and succinct_roles is needed")),
        };
        Ok(Self {
            keys,
            roles,
            extra: fields.rest(),
        })
    }

    pub(super) fn to_map(&self) -> Map {
        let mut members = self.extra.clone();
        members.insert("keys".into(), write_keys(&self.keys).into());
        match &self.roles {
            Listing::Bins(bins) => {
                members.insert("succinct_roles".into(), bins.to_map().into());
            }
            Listing::Roles(roles) => {
                let roles = roles
                    .iter()
                    .map(|role| Value::Object(role.to_map()))
                    .collect();
                members.insert("roles".into(), Value::Array(roles));
            }
        }
        members
    }
}

impl Default for Delegations {
    fn default() -> Self {
        Self::new()
    }
}

fn read_roles(fields: &Fields<'_>, roles: &[Value]) -> Result<Vec<DelegatedRole>, FormatError> {
    if roles.len() > DELEGATIONS_MAX {
        return Err(fields.error("roles", "too many"));
    }
    let roles: Vec<DelegatedRole> = roles
        .iter()
        .map(DelegatedRole::from_value)
        .collect::<Result<_, _>>()?;
    let names: BTreeSet<&RoleName> = roles.iter().map(|role| &role.name).collect();
    if names.len() != roles.len() {
        return Err(fields.error("roles", "a name stands twice"));
    }
    Ok(roles)
}

/// Whether `path` has as many segments as `pattern` and each matches its glob.
fn path_matches(pattern: &str, path: &str) -> bool {
    let mut patterns = pattern.split('/');
    let mut segments = path.split('/');
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if segment_matches(pattern, segment) => {}
            _ => return false,
        }
    }
}

/// One segment against its glob, in time `O(pattern * segment)`: only the last `*` is retried.
fn segment_matches(pattern: &str, segment: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let segment: Vec<char> = segment.chars().collect();
    let (mut p, mut s) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while s < segment.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p, s));
                p += 1;
            }
            Some(&one) if one == '?' || one == segment[s] => {
                p += 1;
                s += 1;
            }
            _ => match &mut retry {
                Some((star, taken)) => {
                    *taken += 1;
                    (p, s) = (*star + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stay_in_their_segment() {
        for (pattern, path, expected) in [
            ("*", "a", true),
            ("*", "a/b", false),
            ("infusion-pump/*", "infusion-pump/x.img", true),
            ("infusion-pump/*", "infusion-pumps/x.img", false),
            ("infusion-pump/*", "infusion-pump/a/b", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*.tgz", ".tgz", true),
            ("*a*b", "xxaxxab", true),
            ("*a*b", "xxaxxa", false),
            ("A", "a", false),
            ("[ab]", "a", false),
            ("", "a", false),
        ] {
            assert_eq!(path_matches(pattern, path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn a_hostile_glob_ends_soon() {
        let pattern = "*a".repeat(500);
        assert!(!segment_matches(&pattern, &"a".repeat(499)));
        assert!(!segment_matches(&pattern, &"ab".repeat(1000)));
    }

    #[test]
    fn succinct_bins_by_tap_15() {
        let keys = RoleKeys::new(Vec::new(), 1);
        let bins = |bit_length| SuccinctBins {
            keys: keys.clone(),
            bit_length,
            name_prefix: "bin".into(),
        };
        let path = TargetPath::parse("a").expect("a path");
        // SHA-256("a") begins ca978112.
        assert_eq!(bins(8).bin_of(&path).as_str(), "bin-ca");
        assert_eq!(bins(5).bin_of(&path).as_str(), "bin-19");
        assert_eq!(bins(32).bin_of(&path).as_str(), "bin-ca978112");
        assert_eq!(bins(1).bin_of(&path).as_str(), "bin-1");
        let has = |bits, name: &str| bins(bits).has(&RoleName::parse(name).expect("a name"));
        assert!(has(5, "bin-1f"));
        assert!(!has(5, "bin-20"));
        assert!(!has(8, "bin-1"));
        assert!(!has(8, "bin-0A"));
        assert!(!has(8, "bon-00"));
    }
}
