//! `[traces]`: where spans are sent, as it is written.

use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;
use sterna_policies::load::{At, Findings};

use super::webhook::address;

/// Where spans are sent, and how many.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// The collector, without the path that the protocol has for spans.
    pub endpoint: Url,
    /// The share of traces that is sent, 0 to 1.
    pub sample: f64,
}

impl Traces {
    /// Where spans are posted to: the path that the protocol has for them, below the endpoint.
    pub fn url(&self) -> String {
        format!("{}/v1/traces", self.endpoint.as_str().trim_end_matches('/'))
    }
}

/// Where spans are sent. Only in builds with the feature `otlp`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Traces")]
pub(super) struct TracesFile {
    /// The OpenTelemetry collector's address for OTLP over HTTP, without `/v1/traces`.
    endpoint: Option<At<String>>,
    /// The share of traces that is sent, 0 to 1. Left out: 1, all.
    sample: Option<At<f64>>,
}

impl TracesFile {
    /// Reports what is wrong with it by itself.
    pub fn check(&self, findings: &mut Findings) {
        if let Some(endpoint) = &self.endpoint
            && let Err(reason) = address(endpoint)
        {
            findings
                .error("S0023", endpoint.span(), format!("this is not a collector's address: {reason}"))
                .label("expected http:// or https://, and a host")
                .help("write it like \"http://127.0.0.1:4318\"");
        }
        if let Some(sample) = &self.sample
            && !is_share(sample.value)
        {
            findings
                .error("S0024", sample.span(), format!("{} is not a share of traces", sample.value))
                .label("expected 0 to 1")
                .help("1 sends all, 0.1 one of ten");
        }
    }
}

fn is_share(sample: f64) -> bool {
    (0.0..=1.0).contains(&sample)
}

/// The same from all layers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TracesLayers {
    endpoint: String,
    sample: Option<f64>,
}

impl TracesLayers {
    /// What it means.
    pub fn read(self) -> Result<Traces, String> {
        let endpoint = address(&self.endpoint).map_err(|reason| format!("`traces.endpoint`: {reason}"))?;
        let sample = self.sample.unwrap_or(1.0);
        if is_share(sample) {
            Ok(Traces { endpoint, sample })
        } else {
            Err("`traces.sample` must be 0 to 1".to_owned())
        }
    }
}
