//! The sweep file as it is written.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use sterna_policies::load::At;

use super::measure::Measure;

/// A sweep file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Sweep")]
pub struct SweepFile {
    /// The version of this format: 1.
    pub schema_version: At<u32>,
    /// So many variants, drawn from all; all of them where it is left out.
    pub random: Option<At<u32>>,
    /// What the variants that nothing beats are found by; latency, cost, energy, carbon and downtime where it is left out.
    pub objectives: Option<At<Vec<Measure>>>,
    /// Values by the policy's own keys, with dots between tables: every combination is a variant.
    pub grid: At<BTreeMap<At<String>, Values>>,
}

/// What a key is tried with.
pub type Values = At<Vec<At<Any>>>;

/// Whatever a policy's key takes; the policy's own loader says whether it does.
#[derive(Debug, Clone)]
pub struct Any(pub toml::Value);

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        toml::Value::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Any {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Any".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Schema::default()
    }
}
