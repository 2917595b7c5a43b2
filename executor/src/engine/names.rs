//! Names that become part of a path of the engine's API. A name with `/../` or `?` in it would be another call there, so
//! nothing else than these gets that far.

/// Most bytes of a name.
const LONGEST: usize = 255;

/// What the engine allows for the name of a container or a volume, ids among them.
pub fn is_object(name: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=LONGEST).contains(&name.len())
        && name.bytes().all(rest)
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

/// The name or digest of an image: a registry, a path, a tag, a digest; no step upwards and nothing beyond the path.
pub fn is_image(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-:@".contains(&byte);
    let part = |part: &str| {
        part.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) && part.bytes().all(allowed)
    };
    name.len() <= LONGEST && name.split('/').all(part)
}

/// The digest of an image as the engine writes it: `sha256:` and 64 hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix("sha256:").is_some_and(|hash| hash.len() == 64 && hash.bytes().all(hexadecimal))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELSEWHERE: &[&str] = &[
        "",
        ".",
        "..",
        "../events?",
        "a/../../events",
        "/a",
        "a/",
        "a//b",
        "a b",
        "a?b",
        "a#b",
        "a%2f..",
        "a\n",
        "a\0",
        "é",
        "a/..",
        "a\\b",
    ];

    #[test]
    fn no_name_leads_elsewhere() {
        for name in ELSEWHERE {
            assert!(!is_object(name) && !is_image(name) && !is_digest(name), "{name:?}");
        }
        let long = "a".repeat(LONGEST + 1);
        assert!(!is_object(&long) && !is_image(&long));
        assert!(!is_object("a/b") && !is_object("-a"));
    }

    #[test]
    fn the_engines_own_names_are_names() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for name in ["sterna-services:latest", "registry.example:5000/a/b_c:1.2", &digest, "redis"] {
            assert!(is_image(name), "{name}");
        }
        assert!(is_image(&format!("redis@{digest}")));
        for name in ["redis-data", "0", "a.b_c-d", &"0a".repeat(32)] {
            assert!(is_object(name), "{name}");
        }
        assert!(is_digest(&digest));
        assert!(!is_digest(&digest.to_uppercase()) && !is_digest(&digest[..70]));
    }
}
