//! A registry with one tiny image, as a service of a node: its own engine reaches it on loopback, where it asks for no TLS.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

/// The port that it listens on, and publishes.
pub const PORT: u16 = 5000;
/// The image that it has.
pub const IMAGE: &str = "127.0.0.1:5000/tests/tiny:1";

/// Serves what it is given: of each answer the path, the type and the content in base64.
const SCRIPT: &str = r#"use IO::Socket::INET; use MIME::Base64;
my %answers;
$SIG{CHLD} = "IGNORE";
while (my ($path, $type, $content) = splice(@ARGV, 0, 3)) { $answers{$path} = [$type, decode_base64($content)] }
my $listener = IO::Socket::INET->new(LocalPort => 5000, Listen => 16, ReuseAddr => 1) or die;
while (my $client = $listener->accept) {
    # An engine opens connections that it says nothing on.
    if (fork) { close($client); next }
    # It tries TLS first, and would wait long for an answer.
    exit if !read($client, my $first, 1) || $first eq "\x16";
    my ($method, $path) = split(" ", $first . (<$client> // ""));
    while (defined(my $line = <$client>)) { last if $line =~ /^\r?$/ }
    my $found = $answers{$path // ""};
    my ($status, $type, $content) = $found ? ("200 OK", @$found) : ("404 Not Found", "text/plain", "none");
    print $client "HTTP/1.1 $status\r\nContent-Type: $type\r\nContent-Length: ", length($content), "\r\nConnection: close\r\n\r\n";
    print $client $content if $method ne "HEAD";
    exit;
}"#;

/// The command of the registry; its image is one file in one layer.
///
/// # Errors
/// When that file can't be packed.
pub fn command(folder: &Path) -> anyhow::Result<Vec<String>> {
    std::fs::write(folder.join("file"), "tiny")?;
    let packed = folder.join("layer.tar");
    run(Command::new("tar").arg("-C").arg(folder).arg("-cf").arg(&packed).arg("file"))?;
    let layer = std::fs::read(&packed)?;
    let layer_digest = digest(&packed)?;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture, "os": "linux", "config": { "Cmd": ["/file"] },
        "rootfs": { "type": "layers", "diff_ids": [layer_digest] },
    })
    .to_string();
    let config_digest = digest_of(folder, &config)?;
    let manifest_type = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": manifest_type,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": config.len(), "digest": config_digest,
        },
        "layers": [{
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar",
            "size": layer.len(), "digest": layer_digest,
        }],
    })
    .to_string();
    let manifest_digest = digest_of(folder, &manifest)?;
    let manifests = |reference: &str| format!("/v2/tests/tiny/manifests/{reference}");
    let blobs = |digest: &str| format!("/v2/tests/tiny/blobs/{digest}");
    let bytes = "application/octet-stream";
    let mut command = ["perl", "-e", SCRIPT].map(str::to_owned).to_vec();
    for (path, of_type, content) in [
        ("/v2/".to_owned(), "application/json", &b"{}"[..]),
        (manifests("1"), manifest_type, manifest.as_bytes()),
        (manifests(&manifest_digest), manifest_type, manifest.as_bytes()),
        (blobs(&config_digest), bytes, config.as_bytes()),
        (blobs(&layer_digest), bytes, &layer),
    ] {
        command.extend([path, of_type.to_owned(), BASE64_STANDARD.encode(content)]);
    }
    Ok(command)
}

fn digest_of(folder: &Path, content: &str) -> anyhow::Result<String> {
    let file = folder.join("content");
    std::fs::write(&file, content)?;
    digest(&file)
}

fn digest(file: &Path) -> anyhow::Result<String> {
    let printed = run(Command::new("sha256sum").arg(file))?;
    let hash = printed.split_whitespace().next().context("sha256sum prints nothing")?;
    Ok(format!("sha256:{hash}"))
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
