//! Commit certificates that were changed on their way: none but a genuine one is ever trusted.
//!
//! An input is not the certificate but what is done to a genuine one, so that it means the same under every authority.

use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use serde_json::Value;
use sterna_core::continuum::NodeName;
use sterna_executor::identity::{Role, Sealed};
use sterna_executor::migration::certificate::{Certificate, Grounds};

use super::examples::{certificates, parties, sealed};

/// Fields of a signed statement.
const FIELDS: [&str; 3] = ["statement", "signature", "signer"];

/// Genuine ones, and those that a liar can have signed.
fn known() -> &'static [Value] {
    static KNOWN: OnceLock<Vec<Value>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let parties = parties();
        let [commit, fenced] = certificates();
        let other = Certificate { epoch: 9, ..commit.clone() };
        let mut all = sealed();
        for (by, what) in
            [(&parties.stranger, &commit), (&parties.stranger, &fenced), (&parties.source, &other)]
        {
            all.push(by.seal(what).expect("it is signed"));
        }
        all.iter().map(|one| serde_json::to_value(one).expect("it is written")).collect()
    })
}

/// Applies the changes, and asks the destination's agent whom it trusts.
pub fn read(data: &[u8]) {
    let Ok(value) = changed(&mut Unstructured::new(data)) else { return };
    let Ok(sealed) = serde_json::from_value::<Sealed>(value) else { return };
    let Ok((who, what)) = parties().destination.unseal::<Certificate>(&sealed) else { return };
    let [commit, fenced] = certificates();
    let source = Role::Agent(NodeName::from("a"));
    let trusted = [
        (source.clone(), commit.clone()),
        (source, Certificate { epoch: 9, ..commit }),
        (Role::Scheduler, fenced.clone()),
    ];
    assert!(trusted.contains(&(who.clone(), what.clone())), "{who:?} never said {what:?}");
    assert!(what.grounds == Grounds::Commit || what == fenced);
}

fn changed(u: &mut Unstructured<'_>) -> Result<Value> {
    let mut value = u.choose(known())?.clone();
    while !u.is_empty() {
        let field = *u.choose(&FIELDS)?;
        // A field of another: a borrowed signature, name or word.
        if u.ratio(1, 4)? {
            value[field] = u.choose(known())?[field].clone();
            continue;
        }
        let mut bytes: Vec<u8> = match &value[field] {
            Value::String(text) => text.clone().into_bytes(),
            other => serde_json::from_value(other.clone()).unwrap_or_default(),
        };
        let at = u.int_in_range(0..=u16::MAX)? as usize % (bytes.len() + 1);
        match u.int_in_range(0..=3)? {
            0 => bytes.insert(at, u.arbitrary()?),
            1 => bytes.truncate(at),
            _ if at == bytes.len() => {}
            2 => drop(bytes.remove(at)),
            _ => bytes[at] ^= u.arbitrary::<u8>()?,
        }
        value[field] = match value[field] {
            Value::String(_) => String::from_utf8_lossy(&bytes).into_owned().into(),
            _ => bytes.into(),
        };
    }
    Ok(value)
}

/// Changes to begin from: none, to each of the known ones, and a few.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut seeds: Vec<Vec<u8>> = (0..16).map(|which| vec![which * 16]).collect();
    seeds.extend([6, 12, 24, 48].map(|length| (0..length).map(|_| random.u8(..)).collect()));
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_changed_is_trusted_and_every_seed_is_read() {
        let trust = |value: &Value| {
            let sealed: Sealed = serde_json::from_value(value.clone()).unwrap();
            parties().destination.unseal::<Certificate>(&sealed).is_ok()
        };
        assert_eq!(known().iter().map(trust).collect::<Vec<_>>(), [true, true, false, false, true]);
        seeds().iter().for_each(|seed| read(seed));
    }
}
