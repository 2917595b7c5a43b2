//! The canary's image: Perl and its libraries from the node itself, in the form that `docker load` reads. Made from the same
//! files it has the same digest, so that nodes made alike need not send it to each other.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use ring::digest::{SHA256, digest};
use serde_json::json;

/// Its name in the engine.
pub const NAME: &str = "sterna-canary:latest";
/// On every Debian node.
const PERL: &str = "/usr/bin/perl";
/// Holds what most services hold: two processes, a pipe between them, a listening TCP socket, a file that it has made, and memory
/// that changes.
const PROGRAM: &str = "socket(S,2,1,6)||die;bind(S,pack('Snx12',2,0))||die;listen(S,5)||die;pipe(R,W)||die;\
                       if(!fork){sysread(R,$b,1)while 1}open(F,'>','/canary')||die;\
                       while(1){$n++;syswrite(W,'.');syswrite(F,'.')if$n<9;select(undef,undef,undef,0.05)}";

/// An image.
#[derive(Debug)]
pub struct Archive {
    /// As the engine names it.
    pub digest: String,
    /// What `docker load` reads.
    pub tar: Vec<u8>,
}

/// Makes the image.
///
/// # Errors
/// When Perl or a library of it is not there.
pub fn archive() -> io::Result<Archive> {
    let explain = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("{PERL} and its libraries are needed (package perl-base): {error}"),
        )
    };
    let listed = Command::new("ldd").arg(PERL).output().map_err(explain)?;
    let mut files = libraries(&String::from_utf8_lossy(&listed.stdout));
    files.insert(PERL.into());
    let mut layer = tar::Builder::new(Vec::new());
    for file in &files {
        append(&mut layer, file.strip_prefix("/").unwrap_or(file), &std::fs::read(file).map_err(explain)?)?;
    }
    let layer = layer.into_inner()?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": { "Cmd": [PERL, "-e", PROGRAM] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))] },
    });
    let config = serde_json::to_vec(&config)?;
    let digest = sha256(&config);
    let file = format!("{digest}.json");
    let manifest = json!([{ "Config": file, "RepoTags": [NAME], "Layers": ["layer.tar"] }]);
    let mut whole = tar::Builder::new(Vec::new());
    append(&mut whole, Path::new("layer.tar"), &layer)?;
    append(&mut whole, Path::new(&file), &config)?;
    append(&mut whole, Path::new("manifest.json"), &serde_json::to_vec(&manifest)?)?;
    Ok(Archive { digest: format!("sha256:{digest}"), tar: whole.into_inner()? })
}

/// Adds a file that is the same whenever it is added.
fn append(tar: &mut tar::Builder<Vec<u8>>, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    tar.append_data(&mut header, path, content)
}

/// The files that `ldd` names: `libc.so.6 => /lib/libc.so.6 (0x7f00)` or `/lib64/ld-linux-x86-64.so.2 (0x7f00)`.
fn libraries(listed: &str) -> BTreeSet<PathBuf> {
    let file = |line: &str| {
        let path = line.rsplit("=> ").next()?.split_whitespace().next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    listed.lines().filter_map(file).collect()
}

fn sha256(data: &[u8]) -> String {
    digest(&SHA256, data).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_says() {
        let listed = "\tlinux-vdso.so.1 (0x00)\n\tlibm.so.6 => /usr/lib/libm.so.6 (0x01)\n\t/lib64/ld-linux-x86-64.so.2 (0x02)\n";
        let expected = ["/lib64/ld-linux-x86-64.so.2", "/usr/lib/libm.so.6"].map(PathBuf::from);
        assert_eq!(libraries(listed), BTreeSet::from(expected));
    }

    #[test]
    fn digests_are_those_that_everybody_computes() {
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
