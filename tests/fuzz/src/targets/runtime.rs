//! Calls of the runtime shim, and its note.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use sterna_executor::engine::shim::{Call, Note, decide, parse};

/// Reads a note: what was read can be written and read again.
pub fn note(text: &[u8]) {
    let Ok(note) = serde_json::from_slice::<Note>(text) else { return };
    let written = serde_json::to_vec(&note).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<Note>(&written).expect("and read again"), note);
}

/// Genuine notes.
pub fn notes() -> Vec<Vec<u8>> {
    let note = |restored, given_up| Note { given_up, ..note_of("/run/in-1", restored) };
    [note(false, false), note(true, false), note(false, true)]
        .map(|note| serde_json::to_vec(&note).expect("a note is written"))
        .into()
}

fn note_of(image: &str, restored: bool) -> Note {
    Note { image: image.into(), restored, limit: None, awaited: None, given_up: false }
}

/// Reads a call, its arguments parted by zeros as the kernel shows them.
pub fn call(data: &[u8]) {
    let arguments: Vec<OsString> =
        data.split(|byte| *byte == 0).map(|one| OsString::from_vec(one.to_vec())).collect();
    assert_eq!(decide(&arguments, None), Call::Pass, "nothing is changed without a note");
    for restored in [false, true] {
        let note = note_of("/image", restored);
        if let Call::Restore(_) | Call::Nothing = decide(&arguments, Some(&note)) {
            let given_up = Note { given_up: true, ..note.clone() };
            assert_eq!(decide(&arguments, Some(&given_up)), Call::Refuse);
        }
        match (decide(&arguments, Some(&note)), parse(&arguments)) {
            (Call::Pass, _) => {}
            (Call::Refuse, _) => panic!("nothing was given up"),
            (Call::Nothing, told) => assert!(restored && told.is_some_and(|(command, _)| command == "start")),
            (Call::Restore(rest), Some((command, container))) => {
                assert!(!restored && command == "create");
                // An option before the command may have any value, `create` and `restore` too.
                let at = rest.iter().zip(&arguments).position(|(to, from)| to != from);
                let at = at.expect("the command was changed");
                assert!(arguments[at] == "create" && rest[at] == "restore", "only the command is changed");
                assert_eq!(rest.last().and_then(|one| one.to_str()), Some(container));
                for wanted in ["--detach", "--image-path", "--work-path", "/image"] {
                    assert!(rest[at..].iter().any(|one| one == wanted), "{wanted} is missing");
                }
                assert!(
                    rest.len() <= arguments.len() + 9,
                    "{} arguments became {}",
                    arguments.len(),
                    rest.len()
                );
            }
            (Call::Restore(_), None) => panic!("a restore of nothing"),
        }
    }
}

/// Calls as engines make them.
pub fn calls() -> Vec<Vec<u8>> {
    [
        "--root /run/r --log /l --log-format json create --bundle /b --pid-file /b/init.pid --no-new-keyring abc",
        "--root /run/r --systemd-cgroup create -b /b --console-socket /s --preserve-fds 2 --pidfd-socket /p abc",
        "--root /run/r --log /l start abc",
        "--root /run/r kill --all abc 9",
        "--root /run/r delete --force abc",
        "features",
    ]
    .map(|text| text.replace(' ', "\0").into_bytes())
    .into()
}
