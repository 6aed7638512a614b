//! Taking a case's JSON apart, with errors that name the field.

use serde_json::{Map, Value};
use std::fmt;

/// What is wrong, and in which field: `regs.cs.base`, `map[3]`, `stop.max_insns`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field.
    pub field: String,
    /// What is wrong with it.
    pub what: String,
}

impl FieldError {
    /// An error in `field`.
    pub fn new(field: impl Into<String>, what: impl Into<String>) -> Self {
        Self { field: field.into(), what: what.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.what)
        } else {
            write!(f, "{}: {}", self.field, self.what)
        }
    }
}

impl std::error::Error for FieldError {}

/// A value and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub value: &'a Value,
    path: Path<'a>,
}

/// A path, built only when it is to be told.
#[derive(Clone, Copy, Debug)]
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => f.write_str(key),
            Path::Key(above, key) => write!(f, "{above}.{key}"),
            Path::Index(above, n) => write!(f, "{above}[{n}]"),
        }
    }
}

impl<'a> Field<'a> {
    pub fn root(value: &'a Value) -> Self {
        Self { value, path: Path::Root }
    }

    pub fn error(&self, what: impl Into<String>) -> FieldError {
        FieldError::new(self.path.to_string(), what)
    }

    pub fn key(&'a self, key: &'a str, value: &'a Value) -> Field<'a> {
        Field { value, path: Path::Key(&self.path, key) }
    }

    pub fn index(&'a self, n: usize, value: &'a Value) -> Field<'a> {
        Field { value, path: Path::Index(&self.path, n) }
    }

    pub fn object(&self) -> Result<&'a Map<String, Value>, FieldError> {
        self.value.as_object().ok_or_else(|| self.error("must be an object"))
    }

    pub fn array(&self) -> Result<&'a Vec<Value>, FieldError> {
        self.value.as_array().ok_or_else(|| self.error("must be an array"))
    }

    /// An array of exactly `n`.
    pub fn array_of(&self, n: usize, what: &str) -> Result<&'a Vec<Value>, FieldError> {
        let list = self.array()?;
        if list.len() == n { Ok(list) } else { Err(self.error(format!("must be {what}"))) }
    }

    pub fn string(&self) -> Result<&'a str, FieldError> {
        self.value.as_str().ok_or_else(|| self.error("must be a string"))
    }

    pub fn boolean(&self) -> Result<bool, FieldError> {
        self.value.as_bool().ok_or_else(|| self.error("must be true or false"))
    }

    /// A number up to 64 bits: a JSON integer, or text in decimal or after `0x` in hexadecimal.
    pub fn number(&self) -> Result<u64, FieldError> {
        let wrong = || self.error("must be an integer from 0 to 2^64-1, or a string such as \"0x1000\"");
        match self.value {
            Value::Number(n) => n.as_u64().ok_or_else(wrong),
            Value::String(s) => match s.strip_prefix("0x") {
                Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u64::from_str_radix(hex, 16),
                _ if s.starts_with('+') => return Err(wrong()),
                _ => s.parse(),
            }
            .map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }

    /// A number of at most `bits` bits.
    pub fn number_of(&self, bits: u32) -> Result<u64, FieldError> {
        let n = self.number()?;
        if bits < 64 && n >> bits != 0 {
            return Err(self.error(format!("must fit in {bits} bits")));
        }
        Ok(n)
    }

    /// Bytes as hexadecimal digits, in the order of memory.
    pub fn bytes(&self) -> Result<Vec<u8>, FieldError> {
        let text = self.string()?;
        unhex(text).ok_or_else(|| self.error("must be an even number of hexadecimal digits"))
    }

    /// A vector or x87 register as hexadecimal digits, the most significant first, in at most `len` bytes; given as
    /// little-endian bytes.
    pub fn wide(&self, len: usize) -> Result<Vec<u8>, FieldError> {
        let wrong = || self.error(format!("must be a string of 1 to {} hexadecimal digits", 2 * len));
        let text = self.value.as_str().ok_or_else(wrong)?;
        let digits = text.strip_prefix("0x").unwrap_or(text);
        if digits.is_empty() || digits.len() > 2 * len || !digits.is_ascii() {
            return Err(wrong());
        }
        let padded = format!("{digits:0>width$}", width = 2 * len);
        let mut bytes = unhex(&padded).ok_or_else(wrong)?;
        bytes.reverse();
        Ok(bytes)
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let b = text.as_bytes();
    if !b.len().is_multiple_of(2) {
        return None;
    }
    b.chunks_exact(2).map(|p| Some(digit(p[0])? << 4 | digit(p[1])?)).collect()
}
