//! JSON that can be read in one way only, and its canonical form.
//!
//! Signatures cover the canonical form of a parsed value, so two readers must never see two values
//! in the same bytes. Refused are: duplicate members, numbers that are not whole or do not fit
//! 64 bits, bad UTF-8, lone surrogates, nesting beyond [`JSON_DEPTH_MAX`], anything after the
//! value. The reader is serde_json; these rules sit on top of it.
//!
//! [`canonical`] is OLPC canonical JSON as securesystemslib writes it: members sorted by code
//! point, no white space, strings escaped only at `"` and `\`, so a control character stands raw.
//! It is for signing; files are written with [`compact`].

mod map;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub use map::{Iter, Map};

use memchr::memchr2;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use crate::limits::JSON_DEPTH_MAX;

/// A JSON value without floats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number, `i64::MIN ..= u64::MAX`.
    Int(i128),
    /// Text, kept code point by code point: no normalisation.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object.
    Object(Map),
}

/// Bytes that are not JSON in our sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not well-formed JSON at line {line}, column {column}: {what}")]
pub struct JsonError {
    /// What was found.
    pub what: String,
    /// Line of the place, from 1.
    pub line: usize,
    /// Column of the place, from 0.
    pub column: usize,
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let mut what = alloc::format!("{error}");
        if let Some(at) = what.rfind(" at line ") {
            what.truncate(at);
        }
        Self { what, line, column }
    }
}

/// Reads one value that fills `bytes`.
///
/// # Errors
/// Whatever could be read in two ways, or not at all; see the module's head.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Depth(0).deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// OLPC canonical JSON, the form under every signature.
pub fn canonical(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out, canonical_string);
    out
}

/// Plain JSON without white space, as we write files.
pub fn compact(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out, json_string);
    out
}

fn write(value: &Value, out: &mut Vec<u8>, string: fn(&str, &mut Vec<u8>)) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(number) => integer(*number, out),
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out, string);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            out.push(b'{');
            for (index, (name, member)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                string(name, out);
                out.push(b':');
                write(member, out, string);
            }
            out.push(b'}');
        }
    }
}

/// Nearly all numbers fit 64 bits, which are written several times faster than 128.
fn integer(number: i128, out: &mut Vec<u8>) {
    let digits = match u64::try_from(number) {
        Ok(number) => alloc::format!("{number}"),
        Err(_) => alloc::format!("{number}"),
    };
    out.extend_from_slice(digits.as_bytes());
}

fn canonical_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    if memchr2(b'"', b'\\', text.as_bytes()).is_some() {
        for &byte in text.as_bytes() {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(byte);
        }
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
}

fn json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => out.extend_from_slice(alloc::format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

impl Value {
    /// The members, where this is an object.
    pub fn as_object(&self) -> Option<&Map> {
        if let Self::Object(members) = self {
            Some(members)
        } else {
            None
        }
    }

    /// The items, where this is an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        if let Self::Array(items) = self {
            Some(items)
        } else {
            None
        }
    }

    /// The text, where this is a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The number, where this is one from 0 to 2^64-1.
    pub fn as_u64(&self) -> Option<u64> {
        if let Self::Int(number) = self {
            u64::try_from(*number).ok()
        } else {
            None
        }
    }

    /// The truth, where this is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(truth) = self {
            Some(*truth)
        } else {
            None
        }
    }

    /// The member `name`, where this is an object that has it.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.as_object()?.get(name)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Int(number.into())
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<Map> for Value {
    fn from(members: Map) -> Self {
        Self::Object(members)
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::Array(items)
    }
}

/// A value at this depth; carries the count that [`JSON_DEPTH_MAX`] bounds.
#[derive(Clone, Copy)]
struct Depth(usize);

impl Depth {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.0 == JSON_DEPTH_MAX {
            return Err(E::custom(format_args!(
                "nested deeper than {JSON_DEPTH_MAX}"
            )));
        }
        Ok(Self(self.0 + 1))
    }
}

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Int(number.into()))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value, E> {
        Err(E::custom(
            "a number that is not whole or does not fit 64 bits",
        ))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let seed = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(seed)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let seed = self.deeper()?;
        let mut members = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            members.push((name, map.next_value_seed(seed)?));
        }
        Map::from_members(members)
            .map(Value::Object)
            .map_err(|_| de::Error::custom("a member stands twice in one object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn what_has_two_readings_is_refused() {
        let cases: &[(&[u8], &str)] = &[
            (br#"{"a":1,"a":1}"#, "twice"),
            (br#"{"a":1,"\u0061":1}"#, "twice"),
            (b"1.0", "not whole"),
            (b"1e3", "not whole"),
            (b"-0", "not whole"),
            (b"18446744073709551616", "not whole"),
            (b"01", "number"),
            (b"\"\xff\"", "unicode"),
            (br#""\ud800""#, "hex escape"),
            (b"\xef\xbb\xbf1", "expected value"),
            (b"1 2", "trailing"),
            (b"{\"a\":1,}", "trailing comma"),
            (b"", "EOF"),
            (b"\"a\nb\"", "control character"),
            (b"NaN", "expected"),
        ];
        for (bytes, what) in cases {
            let error = parse(bytes).expect_err(what).to_string();
            assert!(error.contains(what), "{error} should say {what}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert!(parse(nested(JSON_DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(parse(nested(100_000).as_bytes()).is_err());
    }

    #[test]
    fn canonical_form_of_the_olpc_kind() {
        let value = parse(br#"{ "b": [1, -2, true, null], "a": "l\n\"\\\u00e9\u0001", "": {} }"#);
        let bytes = canonical(&value.expect("well-formed"));
        assert_eq!(
            bytes,
            b"{\"\":{},\"a\":\"l\n\\\"\\\\\xc3\xa9\x01\",\"b\":[1,-2,true,null]}"
        );
    }

    #[test]
    fn text_is_not_normalised() {
        let composed = parse("\"caf\u{e9}\"".as_bytes()).expect("well-formed");
        let decomposed = parse("\"cafe\u{301}\"".as_bytes()).expect("well-formed");
        assert_ne!(canonical(&composed), canonical(&decomposed));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(|number| Value::Int(number.into())),
            any::<String>().prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                prop::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn compact_reads_back(value in any_value()) {
            prop_assert_eq!(parse(&compact(&value)), Ok(value));
        }

        #[test]
        fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse(&bytes);
        }
    }
}
