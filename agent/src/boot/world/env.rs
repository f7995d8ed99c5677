//! U-Boot's environment as text: `name=value`, each ended by a NUL, an empty one at the end.
//!
//! Order and unknown variables are kept: they are the board's.

/// Variables in the order in which they stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Env {
    /// Raw `name=value`, never empty.
    lines: Vec<Vec<u8>>,
}

impl Env {
    /// Of the data behind the checksum (and flags). `None` where no empty variable ends it.
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        let mut lines = Vec::new();
        let mut rest = data;
        loop {
            let end = rest.iter().position(|byte| *byte == 0)?;
            if end == 0 {
                return Some(Self { lines });
            }
            lines.push(rest[..end].to_vec());
            rest = &rest[end + 1..];
        }
    }

    /// The value of a variable, where it is set and is text.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let line = self.lines.iter().find(|line| is_of(line, name))?;
        std::str::from_utf8(&line[name.len() + 1..]).ok()
    }

    /// Whether a variable is set to something else than nothing.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.lines
            .iter()
            .any(|line| is_of(line, name) && line.len() > name.len() + 1)
    }

    /// A whole number in base `radix`; `None` where it is not one.
    pub(super) fn number(&self, name: &str, radix: u32) -> Option<u32> {
        let text = self.value(name)?;
        let text = if radix == 16 {
            text.strip_prefix("0x").unwrap_or(text)
        } else {
            text
        };
        u32::from_str_radix(text, radix).ok()
    }

    /// Sets a variable where it stands, or at the end.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        let line = format!("{name}={value}").into_bytes();
        match self.lines.iter_mut().find(|line| is_of(line, name)) {
            Some(old) => *old = line,
            None => self.lines.push(line),
        }
    }

    /// Removes a variable.
    pub(super) fn unset(&mut self, name: &str) {
        self.lines.retain(|line| !is_of(line, name));
    }

    /// Exactly `room` bytes, zeros behind the end; or the number of bytes that it would need.
    pub(super) fn encode(&self, room: usize) -> Result<Vec<u8>, usize> {
        let mut data = Vec::with_capacity(room);
        for line in &self.lines {
            data.extend_from_slice(line);
            data.push(0);
        }
        if self.lines.is_empty() {
            data.push(0);
        }
        data.push(0);
        if data.len() > room {
            return Err(data.len());
        }
        data.resize(room, 0);
        Ok(data)
    }
}

fn is_of(line: &[u8], name: &str) -> bool {
    let value = line.strip_prefix(name.as_bytes());
    value.is_some_and(|value| value.first() == Some(&b'='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsed_then_encoded_is_the_same() {
        let data = b"bootcmd=run x\0arch=arm\0odd line\0empty=\0\0\0\0\0";
        let env = Env::parse(data).expect("it ends");
        assert_eq!(env.encode(data.len()).as_deref(), Ok(data.as_slice()));
        assert_eq!(env.value("arch"), Some("arm"));
        assert_eq!(env.value("arc"), None);
        assert!(!env.is_set("empty"));
    }

    #[test]
    fn an_environment_without_end_is_refused() {
        assert_eq!(Env::parse(b"a=1\0b=2"), None);
        assert_eq!(Env::parse(b"a=1\0"), None);
        assert_eq!(Env::parse(b""), None);
    }

    #[test]
    fn a_full_environment_tells_what_it_needs() {
        let mut env = Env::default();
        env.set("ampoule_default", "b");
        assert_eq!(env.encode(18), Err(19));
        assert_eq!(env.encode(19).map(|data| data.len()), Ok(19));
    }
}
