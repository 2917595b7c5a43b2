//! `[[webhook]]`: receivers of what happens, as they are written.

use std::path::{Path, PathBuf};

use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;
use sterna_policies::load::{At, Findings};

use crate::webhook::{Kind, Webhook};

/// A receiver of what happens.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Webhook")]
pub(super) struct WebhookFile {
    /// Where events are posted to.
    url: At<String>,
    /// Which ones. Left out: all.
    events: Option<At<Vec<At<Kind>>>>,
    /// File with the secret that they are signed with. Left out: they are not signed.
    #[expect(dead_code, reason = "checked for its type only; the value is taken from all layers together")]
    secret_file: Option<String>,
}

impl WebhookFile {
    /// Reports what is wrong with it by itself.
    pub fn check(&self, findings: &mut Findings) {
        if let Err(reason) = address(&self.url) {
            findings
                .error(
                    "S0020",
                    self.url.span(),
                    format!("this is not an address to post events to: {reason}"),
                )
                .label("expected http:// or https://, and a host")
                .help("write it like \"https://hooks.example.org/sterna\"");
        }
        let Some(events) = &self.events else { return };
        if events.is_empty() {
            findings
                .error("S0021", events.span(), "an empty list chooses no event")
                .label("expected at least one entry")
                .help("leave the key out to choose all");
        }
        for (index, event) in events.iter().enumerate() {
            if let Some(first) = events[..index].iter().find(|first| *first == event) {
                findings
                    .error("S0022", event.span(), format!("`{}` is listed twice", event.name()))
                    .label("again")
                    .also(first.span(), "first here");
            }
        }
    }
}

/// The same from all layers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookLayers {
    url: String,
    events: Option<Vec<Kind>>,
    secret_file: Option<PathBuf>,
}

impl WebhookLayers {
    /// What it means; paths are relative to `folder`.
    pub fn read(self, folder: &Path) -> Result<Webhook, String> {
        Ok(Webhook {
            url: address(&self.url)?,
            kinds: self.events.unwrap_or_else(|| Kind::ALL.to_vec()).into_iter().collect(),
            secret_file: self.secret_file.map(|file| folder.join(file)),
        })
    }
}

/// An address that HTTP is spoken with.
pub(super) fn address(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("`{other}` is not http or https")),
    }
}
