//! Values together with the place they stand at.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::marker::PhantomData;
use std::ops::{Deref, Range};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::diagnose::{Diagnostic, Findings, quoted};
use crate::quantity::{Quantity, QuantityError};

/// A value and its place in the file. Compares by the value alone, so that it can be a key of a map.
#[derive(Debug, Clone)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands, in bytes of the text. Of a table, its header.
    pub span: Range<usize>,
}

impl<T> At<T> {
    /// Where it stands.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for At<T> {}

impl<T: PartialOrd> PartialOrd for At<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl<T: Ord> Ord for At<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.value.cmp(&other.value)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        Ok(Self { span: spanned.span(), value: spanned.into_inner() })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A quantity as it is written, not yet read: so that one wrong unit doesn't hide the next.
#[derive(Debug, Clone)]
pub struct Written<Q> {
    /// The text, with its unit.
    pub text: At<String>,
    quantity: PhantomData<Q>,
}

impl<Q> From<At<String>> for Written<Q> {
    /// A text that stands elsewhere than in a file of its own.
    fn from(text: At<String>) -> Self {
        Self { text, quantity: PhantomData }
    }
}

impl<Q> Written<Q> {
    /// Where it stands.
    pub fn span(&self) -> Range<usize> {
        self.text.span()
    }
}

impl<Q: Quantity> Written<Q> {
    /// Reads the quantity; reports what is wrong with it and gives `None`.
    pub fn read(&self, findings: &mut Findings) -> Option<Q> {
        quantity(&self.text, findings).ok()
    }

    /// As [`Written::read`], and reports a negative one.
    pub fn read_unsigned(&self, findings: &mut Findings) -> Option<Q> {
        let value = self.read(findings)?;
        if value.is_negative() {
            let message = format!("`{}` is negative", self.text.trim());
            findings.error("F0011", self.span(), message).label("must not be less than zero");
            return None;
        }
        Some(value)
    }

    /// As [`Written::read`], and reports one that is negative or zero.
    pub fn read_positive(&self, findings: &mut Findings) -> Option<Q> {
        let value = self.read_unsigned(findings)?;
        if value.is_zero() {
            let message = format!("`{}` is zero", self.text.trim());
            findings.error("F0011", self.span(), message).label("must be more than zero");
            return None;
        }
        Some(value)
    }
}

/// Reads a quantity from text; reports what is wrong with it and gives the finding, for more help.
pub(super) fn quantity<'f, Q: Quantity>(
    text: &At<String>,
    findings: &'f mut Findings,
) -> Result<Q, &'f mut Diagnostic> {
    text.value.parse().map_err(|QuantityError { text: written, expected }| {
        let written = written.trim();
        let (number, unit) = written.split_at(written.find(|c| !is_of_number(c)).unwrap_or(written.len()));
        let unit = unit.trim();
        let units: Vec<&str> = Q::UNITS.iter().copied().filter(|unit| !unit.is_empty()).collect();
        let message = match (number.parse::<f64>().is_ok(), unit) {
            (true, "") => format!("`{written}` has no unit"),
            (true, unit) if !units.contains(&unit) => format!("`{unit}` is not a unit that fits here"),
            (true, _) => format!("`{written}` is out of range"),
            (false, _) => format!("`{written}` is not a number with a unit"),
        };
        let diagnostic = findings.error("F0010", text.span(), message).label(format!("expected {expected}"));
        match units.iter().find(|known| known.eq_ignore_ascii_case(unit)) {
            Some(known) if *known != unit => diagnostic.help(format!("did you mean `{number}{known}`?")),
            Some(_) => diagnostic,
            None => diagnostic.help(format!("units: {}", quoted(&units))),
        }
    })
}

fn is_of_number(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '.' | '-' | '+')
}

impl<'de, Q> Deserialize<'de> for Written<Q> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { text: At::deserialize(deserializer)?, quantity: PhantomData })
    }
}

impl<Q: JsonSchema> JsonSchema for Written<Q> {
    fn inline_schema() -> bool {
        Q::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        Q::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        Q::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Q::json_schema(generator)
    }
}
