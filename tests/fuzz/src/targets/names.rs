//! Certificates of peers, ids in paths, and parts.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sterna_executor::identity::Role;
use sterna_executor::migration::order::MigrationId;
use sterna_executor::node::api::Part;
use sterna_policies::load::is_name;

use super::examples::parties;

/// Reads a peer's certificate: who it speaks for stands in it, and is a name.
pub fn peer(der: &[u8]) {
    let Ok(role) = Role::of_certificate(der) else { return };
    if let Role::Agent(node) = &role {
        assert!(is_name(node.as_str()), "{node}");
    }
    let host = role.host_name();
    assert!(der.windows(host.len()).any(|part| part == host.as_bytes()), "{host} does not stand in it");
}

/// Genuine certificates.
pub fn peers() -> Vec<Vec<u8>> {
    let parties = parties();
    [&parties.source, &parties.scheduler, &parties.stranger]
        .into_iter()
        .map(|one| CertificateDer::from_pem_slice(one.cert_pem.as_bytes()).expect("a certificate").to_vec())
        .collect()
}

/// Reads a migration's id as it stands in a path, and a part.
pub fn read(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(id) = text.parse::<MigrationId>() {
        let shown = id.to_string();
        assert!(
            shown.len() == 36 && shown.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'),
            "{shown}"
        );
        assert_eq!(shown.parse(), Ok(id));
    }
    if let Ok(part) = serde_json::from_slice::<Part>(data) {
        let written = serde_json::to_vec(&part).expect("what was read can be written");
        assert_eq!(serde_json::from_slice::<Part>(&written).expect("and read again"), part);
        let path = part.path();
        match &part {
            Part::Volume(name) => assert_eq!(path.strip_prefix("volume/"), Some(name.as_str())),
            Part::Memory | Part::Ahead | Part::Layer => assert!(!path.contains('/')),
        }
    }
}

/// Ids in all their spellings, and parts.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "01890a5d-ac96-774b-bcce-b302099a8057",
        "01890a5dac96774bbcceb302099a8057",
        "{01890A5D-AC96-774B-BCCE-B302099A8057}",
        "urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057",
        "\"memory\"",
        "\"ahead\"",
        "\"layer\"",
        "{\"volume\":\"data\"}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
