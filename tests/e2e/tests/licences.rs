//! Every dependency may be used under a permissive licence.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeSet;
use std::process::Command;

use serde::Deserialize;

/// Licences that ask for no more than to be named.
const ALLOWED: [&str; 11] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
    "0BSD",
    // MIT and BSD-3-Clause in one; of libFuzzer, which is in nothing that is shipped.
    "NCSA",
];

/// Exceptions that ask for less than the licence does: that it need not be named in what a compiler puts out.
const LENIENT: [&str; 1] = ["LLVM-exception"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

/// Packages of another licence that the lock file has for other platforms alone: of CC0-1.0, behind Parquet on WebAssembly.
const NEVER_BUILT: [&str; 1] = ["tiny-keccak"];

/// What Sterna runs on.
const PLATFORMS: [&str; 4] = [
    "x86_64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
    "aarch64-unknown-linux-gnu",
    "aarch64-unknown-linux-musl",
];

/// What a cargo command prints about the whole workspace, with all features.
fn cargo(args: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(args)
        .args(["--locked", "--all-features"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The names of all that is built, for whatever purpose, on one of [`PLATFORMS`].
fn built() -> BTreeSet<String> {
    let mut args =
        vec!["tree", "--workspace", "--prefix", "none", "--edges", "normal,build,dev", "--format", "{p}"];
    args.extend(PLATFORMS.iter().flat_map(|platform| ["--target", platform]));
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    cargo(&args).lines().map(name).collect()
}

/// Whether the licence allows use under [`ALLOWED`] alone; what is no licence does not.
fn permissive(licence: &str) -> bool {
    // Older packages write `MIT/Apache-2.0`.
    spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX).is_ok_and(|expression| {
        expression.evaluate(|asked| {
            let added = |addition: &spdx::AdditionItem| {
                addition.id().is_some_and(|exception| LENIENT.contains(&exception.name))
            };
            asked.addition.as_ref().is_none_or(added)
                && asked.license.id().is_some_and(|id| ALLOWED.contains(&id.name))
        })
    })
}

#[test]
fn licences_are_read_as_they_are_meant() {
    for right in [
        "MIT",
        "MIT OR GPL-3.0-only",
        "MIT/Apache-2.0",
        "(MIT OR GPL-2.0-only) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(permissive(right), "{right}");
    }
    for wrong in [
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "MPL-2.0",
        "GPL-3.0-only WITH Classpath-exception-2.0",
        "Apache-2.0 WITH Classpath-exception-2.0",
        "",
        "mine",
    ] {
        assert!(!permissive(wrong), "{wrong}");
    }
}

#[test]
fn every_dependency_is_permissive() {
    let metadata: Metadata = serde_json::from_str(&cargo(&["metadata", "--format-version", "1"])).unwrap();
    assert!(metadata.packages.len() > 100, "only {} packages", metadata.packages.len());
    let refused: Vec<_> = metadata
        .packages
        .iter()
        .filter(|package| !package.license.as_deref().is_some_and(permissive))
        .filter(|package| !NEVER_BUILT.contains(&package.name.as_str()))
        .map(|package| format!("{} {}: {:?}", package.name, package.version, package.license))
        .collect();
    assert!(refused.is_empty(), "not permissive:\n{}", refused.join("\n"));
}

#[test]
fn what_is_excepted_is_built_nowhere() {
    let built = built();
    assert!(built.len() > 100, "only {} packages", built.len());
    for name in NEVER_BUILT {
        assert!(!built.contains(name), "{name}");
    }
}
