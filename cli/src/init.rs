//! `sterna init`: look around, and write the files to begin with.
//!
//! | module | what lives there |
//! |---|---|
//! | [`found`] | what there is: engines, clusters, metrics, nodes |
//! | [`exporters`] | exporters, by the names of their metrics |
//! | [`mod@files`] | the files that are written |

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use sterna_policies::load::is_name;

use self::files::{File, files};
use self::found::{Found, Look};
use crate::run::say;
use crate::wiring::runtime;

mod exporters;
mod files;
mod found;

/// Arguments of `sterna init`.
///
/// Looks for Docker engines and contexts, clusters in kubeconfigs, a Prometheus and what it scrapes, and local nodes of Sterna; tells
/// what it found, and writes `inventory.toml`, `sterna.toml` and `policy.toml`. The policy only observes: nothing is ever moved
/// by it. Nothing is overwritten without `--force`, and nothing else is changed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to write; it is made if there is none.
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    /// Name of the continuum.
    #[arg(long, default_value = "home")]
    name: String,
    /// Address of Prometheus [default: http://127.0.0.1:9090].
    #[arg(long, value_name = "URL", value_parser = address)]
    prometheus: Option<String>,
    /// Image of a first service, as this host's engine knows it.
    #[arg(long)]
    image: Option<String>,
    /// Write over files that are there.
    #[arg(long)]
    force: bool,
    /// Only print what would be written.
    #[arg(long)]
    dry_run: bool,
}

/// An address as settings want it, which is written into a file as it is.
fn address(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '\\' | '@');
    match rest {
        Some(rest) if !rest.is_empty() && !text.contains(odd) => Ok(text.to_owned()),
        Some(rest) if rest.contains('@') => {
            Err("it has a password in it, which would stand in the file for all to read".to_owned())
        }
        _ => Err("it begins with http:// or https://, such as http://127.0.0.1:9090".to_owned()),
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if !is_name(&args.name) {
        bail!("`{}` can't be the name of a continuum: up to 63 of a-z, 0-9 and `-`", args.name);
    }
    let look = Look::from_environment(args.prometheus.clone(), args.image.clone());
    let found = runtime()?.block_on(Found::look(&look));
    for line in found.lines() {
        say(&line);
    }
    let files = files(&args.name, &found);
    if args.dry_run {
        for File { name, text } in &files {
            say(&format!("\n==> {} <==\n{}", args.folder.join(name).display(), text.trim_end()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    write(&args.folder, &files, args.force)?;
    say(&next(&args.folder, &found));
    Ok(ExitCode::SUCCESS)
}

/// Writes all of them, or none where one is there already.
fn write(folder: &Path, files: &[File], force: bool) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    let there: Vec<String> = files
        .iter()
        .map(|file| folder.join(file.name))
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    if !there.is_empty() && !force {
        bail!("{} there already, and nothing was written: --force writes over it", there.join(", "));
    }
    for File { name, text } in files {
        let path = folder.join(name);
        let mut options = OpenOptions::new();
        options.write(true);
        if force {
            options.create(true).truncate(true)
        } else {
            options.create_new(true)
        };
        options
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("can't write {}", path.display()))?;
        say(&format!("wrote {}", path.display()));
    }
    Ok(())
}

/// What to do next.
fn next(folder: &Path, found: &Found) -> String {
    let here = folder == Path::new(".");
    let path = |name: &str| if here { name.to_owned() } else { folder.join(name).display().to_string() };
    let mut lines = vec!["next: look through the files, then".to_owned()];
    if found.engine.is_err() {
        lines.push("  start a Docker engine, for local nodes".to_owned());
    }
    if found.nodes.is_empty() {
        lines.push(format!("  sterna sites up {}", path("inventory.toml")));
    }
    if found.image.is_none() {
        lines.push(format!("  say in {} how its first service is started", path("inventory.toml")));
    }
    lines.push(format!("  sterna services up {}", path("inventory.toml")));
    lines.push(format!("  sterna plan --config {}", path("sterna.toml")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_overwritten_unless_that_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name, text: &str| File { name, text: text.to_owned() };
        std::fs::write(folder.path().join("b"), "mine").unwrap();
        let files = [file("a", "new a"), file("b", "new b")];
        let error = write(folder.path(), &files, false).unwrap_err().to_string();
        assert!(error.contains("--force") && !folder.path().join("a").exists(), "{error}");
        assert_eq!(std::fs::read_to_string(folder.path().join("b")).unwrap(), "mine");
        write(folder.path(), &files, true).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("b")).unwrap(), "new b");
    }

    #[test]
    fn an_address_is_one_that_settings_take() {
        for good in ["http://127.0.0.1:9090", "https://prom.example/prefix"] {
            assert_eq!(address(good).unwrap(), good);
        }
        for bad in ["prom:9090", "http://", "http://a b", "http://a\"", "ftp://a"] {
            assert!(address(bad).unwrap_err().contains("http://"), "{bad}");
        }
        assert!(address("http://me:secret@prom").unwrap_err().contains("password"));
    }
}
