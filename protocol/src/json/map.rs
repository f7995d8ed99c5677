//! The members of an object: a vector sorted by name.
//!
//! A metadata file is thousands of small objects that are read once and walked in order, so a
//! tree map would be most of the cost of reading it. Names are unique and sorted by UTF-8 bytes,
//! which is by code point.

use alloc::string::String;
use alloc::vec::{self, Vec};
use core::iter::Map as Mapped;
use core::slice;

use super::Value;

/// The members of an object, sorted by code point, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Map(Vec<(String, Value)>);

/// One name stands twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Twice;

impl Map {
    /// No members.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// From members in any order. Sorting once, rather than inserting one by one, keeps hostile
    /// orders cheap.
    pub(super) fn from_members(mut members: Vec<(String, Value)>) -> Result<Self, Twice> {
        if !members.is_sorted_by(|a, b| a.0 < b.0) {
            members.sort_by(|a, b| a.0.cmp(&b.0));
            if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return Err(Twice);
            }
        }
        Ok(Self(members))
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0
            .binary_search_by(|(member, _)| member.as_str().cmp(name))
    }

    /// The member `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.place(name).ok().map(|at| &self.0[at].1)
    }

    /// The member `name`, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.place(name).ok().map(|at| &mut self.0[at].1)
    }

    /// Whether there is a member `name`.
    pub fn contains_key(&self, name: &str) -> bool {
        self.place(name).is_ok()
    }

    /// Sets the member `name`; gives back what it was.
    pub fn insert(&mut self, name: String, value: Value) -> Option<Value> {
        match self.place(&name) {
            Ok(at) => Some(core::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (name, value));
                None
            }
        }
    }

    /// Takes the member `name` out.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.place(name).ok().map(|at| self.0.remove(at).1)
    }

    /// How many members.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The members in order.
    pub fn iter(&self) -> Iter<'_> {
        self.into_iter()
    }

    /// The names in order.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.iter().map(|(name, _)| name)
    }

    /// The values in the order of their names.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().map(|(_, value)| value)
    }

    /// The values in the order of their names, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

/// The members of a [`Map`], borrowed.
pub type Iter<'a> =
    Mapped<slice::Iter<'a, (String, Value)>, fn(&'a (String, Value)) -> (&'a String, &'a Value)>;

impl<'a> IntoIterator for &'a Map {
    type Item = (&'a String, &'a Value);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl IntoIterator for Map {
    type Item = (String, Value);
    type IntoIter = vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(String, Value)> for Map {
    /// Where a name comes twice, the later one stays.
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(members: I) -> Self {
        let mut members: Vec<_> = members.into_iter().collect();
        members.sort_by(|a, b| a.0.cmp(&b.0));
        members.reverse();
        members.dedup_by(|later, kept| later.0 == kept.0);
        members.reverse();
        Self(members)
    }
}

impl<const N: usize> From<[(String, Value); N]> for Map {
    fn from(members: [(String, Value); N]) -> Self {
        members.into_iter().collect()
    }
}

impl Extend<(String, Value)> for Map {
    fn extend<I: IntoIterator<Item = (String, Value)>>(&mut self, members: I) {
        let own = core::mem::take(self);
        *self = own.into_iter().chain(members).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn names(map: &Map) -> Vec<&str> {
        map.keys().map(String::as_str).collect()
    }

    #[test]
    fn sorted_however_it_was_made() {
        let pair = |name: &str, number: u64| (name.to_string(), Value::from(number));
        let mut map = Map::from([pair("b", 1), pair("a", 2), pair("b", 3)]);
        assert_eq!(names(&map), ["a", "b"]);
        assert_eq!(map.get("b"), Some(&Value::from(3)), "the later one stays");
        assert_eq!(map.insert("aa".into(), Value::Null), None);
        assert_eq!(map.insert("aa".into(), Value::from(4)), Some(Value::Null));
        assert_eq!(names(&map), ["a", "aa", "b"]);
        assert_eq!(map.remove("a"), Some(Value::from(2)));
        map.extend([pair("0", 5), pair("b", 6)]);
        assert_eq!(names(&map), ["0", "aa", "b"]);
        assert_eq!(map.get("b"), Some(&Value::from(6)));
        let twice = Map::from_members(alloc::vec![pair("b", 1), pair("a", 1), pair("b", 1)]);
        assert_eq!(twice, Err(Twice));
        let twice = Map::from_members(alloc::vec![pair("a", 1), pair("a", 1)]);
        assert_eq!(twice, Err(Twice));
    }
}
