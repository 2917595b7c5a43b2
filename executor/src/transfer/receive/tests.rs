use std::os::unix::fs::FileExt as _;

use proptest::prelude::*;

use super::super::stream::Writer;
use super::super::tree::{Pass, Sent, Writers};
use super::super::written::Written;
use super::*;

const PLENTY: Allowance = Allowance { stream: Bytes::from_mib(64), keep_free: Bytes::ZERO };

/// A pass with its manifest, as it crosses the wire.
fn send(root: &Path, sent: &mut Sent) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut writer = Writer::unpacked(&mut wire);
    let pass = sent.pass(root, Writers::Frozen).unwrap();
    let mut written = Written::default();
    writer.pass(root, &pass, sent.there(), &mut written).unwrap();
    sent.note(&pass, &written);
    writer.manifest(sent.manifest(), &mut written).unwrap();
    writer.end().unwrap();
    sent.arrived(&pass, &written);
    wire
}

fn take(wire: &[u8], root: &Path) -> io::Result<Bytes> {
    receive(wire, root, &mut Received::default(), PLENTY)
}

/// All that can be seen of a tree but inode numbers and change times.
fn seen(root: &Path) -> Vec<(Entry, Vec<u8>)> {
    let pass = Sent::default().pass(root, Writers::Frozen).unwrap();
    let content = |entry: &Entry| match entry.kind {
        Kind::File(_) => std::fs::read(root.join(entry.relative())).unwrap(),
        _ => Vec::new(),
    };
    pass.entries.into_iter().map(|entry| (entry.clone(), content(&entry))).collect()
}

fn build(root: &Path) {
    std::fs::create_dir_all(root.join("d/e")).unwrap();
    std::fs::write(root.join("d/a"), vec![7; 3_000_000]).unwrap();
    std::fs::hard_link(root.join("d/a"), root.join("d/b")).unwrap();
    std::fs::write(root.join(".hidden"), "").unwrap();
    std::os::unix::fs::symlink("/nowhere", root.join("s")).unwrap();
    nix::unistd::mkfifo(&root.join("pipe"), Mode::from_bits_truncate(0o640)).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(5_000_000).unwrap();
    sparse.write_all_at(b"end", 4_999_997).unwrap();
    std::fs::set_permissions(root.join("d/e"), std::os::unix::fs::PermissionsExt::from_mode(0o1750)).unwrap();
    filetime::set_file_mtime(root.join("d"), filetime::FileTime::from_unix_time(1_000_000_000, 5)).unwrap();
}

#[test]
fn a_tree_arrives_as_it_was_and_follows_its_changes() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    build(from.path());
    let mut sent = Sent::default();
    let wire = send(from.path(), &mut sent);
    assert!(wire.len() < 4_000_000, "holes do not cross: {}", wire.len());
    let mut received = Received::default();
    receive(wire.as_slice(), to.path(), &mut received, PLENTY).unwrap();
    assert_eq!(seen(from.path()), seen(to.path()));

    std::fs::remove_dir_all(from.path().join("d/e")).unwrap();
    std::fs::write(from.path().join("d/e"), "a file now").unwrap();
    std::fs::write(from.path().join("d/a"), "shorter").unwrap();
    std::fs::remove_file(from.path().join("s")).unwrap();
    receive(send(from.path(), &mut sent).as_slice(), to.path(), &mut received, PLENTY).unwrap();
    assert_eq!(seen(from.path()), seen(to.path()));
}

#[test]
fn a_file_that_grows_while_it_is_read_is_gone_on_with() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = from.path().join("log");
    std::fs::write(&path, vec![7; 2_500_000]).unwrap();
    let (mut sent, mut received) = (Sent::default(), Received::default());
    let mut wire = Vec::new();
    let mut writer = Writer::unpacked(&mut wire);
    let (pass, mut written) = (sent.pass(from.path(), Writers::Running).unwrap(), Written::default());
    // Also by whole chunks that the destination cuts off again.
    std::fs::write(&path, vec![7; 5_000_000]).unwrap();
    writer.pass(from.path(), &pass, sent.there(), &mut written).unwrap();
    writer.end().unwrap();
    sent.note(&pass, &written);
    sent.arrived(&pass, &written);
    receive(wire.as_slice(), to.path(), &mut received, PLENTY).unwrap();
    receive(send(from.path(), &mut sent).as_slice(), to.path(), &mut received, PLENTY).unwrap();
    assert_eq!(seen(from.path()), seen(to.path()));
}

/// Sends a pass whose stream breaks after a share of it, and says so; how much was written.
fn send_broken(from: &Path, to: &Path, sent: &mut Sent, received: &mut Received, share: f64) -> usize {
    let mut wire = Vec::new();
    let mut writer = Writer::unpacked(&mut wire);
    let (pass, mut written) = (sent.pass(from, Writers::Frozen).unwrap(), Written::default());
    writer.pass(from, &pass, sent.there(), &mut written).unwrap();
    sent.note(&pass, &written);
    writer.manifest(sent.manifest(), &mut written).unwrap();
    writer.end().unwrap();
    let cut = (wire.len() as f64 * share) as usize;
    receive(&wire[..cut], to, received, PLENTY).unwrap_err();
    sent.broke(&pass, &written, received.headers().as_ref());
    wire.len()
}

#[test]
fn what_arrived_of_a_broken_stream_is_not_sent_again() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    build(from.path());
    // All different, so that none can be taken for another.
    let noise = |at: u64| {
        let mut bytes = vec![0; 1 << 20];
        blake3::Hasher::new().update(&at.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    };
    for at in 0..8 {
        std::fs::write(from.path().join(format!("f{at}")), noise(at)).unwrap();
    }
    let large: Vec<u8> = (100..116).flat_map(noise).collect();
    std::fs::write(from.path().join("large"), large).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(120));
    let (mut sent, mut received) = (Sent::default(), Received::default());
    let all = send_broken(from.path(), to.path(), &mut sent, &mut received, 0.8);
    assert!(all > 27 << 20);
    // Meanwhile the service writes, removes and makes files, those on their way too.
    let file = File::options().write(true).open(from.path().join("large")).unwrap();
    file.write_all_at(b"changed", 3 << 20).unwrap();
    file.write_all_at(&vec![0; 2 << 20], 6 << 20).unwrap();
    std::fs::remove_file(from.path().join("sparse")).unwrap();
    std::fs::write(from.path().join("f2"), "short").unwrap();
    let rest = send(from.path(), &mut sent);
    assert!(rest.len() < all / 4 + (3 << 20), "{} after {all}", rest.len());
    receive(rest.as_slice(), to.path(), &mut received, PLENTY).unwrap();
    assert_eq!(seen(from.path()), seen(to.path()));
    // And of a file that changes in one place only that crosses.
    file.write_all_at(b"changed", 12 << 20).unwrap();
    let rest = send(from.path(), &mut sent);
    assert!(rest.len() < 2 << 20, "{}", rest.len());
    receive(rest.as_slice(), to.path(), &mut received, PLENTY).unwrap();
    assert_eq!(seen(from.path()), seen(to.path()));
    // Unless the other end knows nothing of it.
    assert_eq!(std::fs::read(from.path().join("large")).unwrap().len(), 16 << 20);
    file.write_all_at(b"changed again", 12 << 20).unwrap();
    send_broken(from.path(), to.path(), &mut sent, &mut Received::default(), 0.0);
    receive(send(from.path(), &mut sent).as_slice(), to.path(), &mut received, PLENTY).unwrap();
    assert_eq!(seen(from.path()), seen(to.path()));
}

#[test]
fn what_is_not_there_as_it_should_be_is_not_gone_on_with() {
    let to = tempfile::tempdir().unwrap();
    let attempt = |name: &str, frames: &[Frame]| {
        let mut wire = Vec::new();
        let mut writer = Writer::new(&mut wire);
        writer.frame(&Frame::Onward(entry(name, Kind::File(4)))).unwrap();
        frames.iter().for_each(|frame| writer.frame(frame).unwrap());
        writer.end().unwrap();
        take(&wire, to.path())
    };
    let here =
        |offset, bytes: &[u8]| Frame::Here { offset, length: 2, hash: *blake3::hash(bytes).as_bytes() };
    std::fs::write(to.path().join("a"), "abcd").unwrap();
    std::os::unix::fs::symlink("a", to.path().join("s")).unwrap();
    nix::unistd::mkfifo(&to.path().join("pipe"), Mode::S_IRWXU).unwrap();
    for name in ["gone", "s", "pipe", "../a"] {
        attempt(name, &[]).unwrap_err();
    }
    attempt("a", &[here(2, b"cd"), here(0, b"ab")]).unwrap_err();
    attempt("a", &[here(0, b"cd")]).unwrap_err();
    attempt("a", &[here(4, b"ef")]).unwrap_err();
    std::fs::write(to.path().join("a"), "abcdefgh").unwrap();
    attempt("a", &[here(2, b"cd")]).unwrap();
    assert_eq!(std::fs::read(to.path().join("a")).unwrap(), b"\0\0cd");
}

#[test]
fn what_was_there_before_the_first_pass_goes() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    build(from.path());
    std::fs::create_dir_all(to.path().join("of/an/earlier")).unwrap();
    std::fs::write(to.path().join("of/an/earlier/attempt"), "x").unwrap();
    std::fs::write(to.path().join("d"), "a file where a folder is to be").unwrap();
    take(&send(from.path(), &mut Sent::default()), to.path()).unwrap();
    assert_eq!(seen(from.path()), seen(to.path()));
}

#[test]
fn a_folder_keeps_its_time_when_only_a_file_in_it_changed() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    build(from.path());
    std::thread::sleep(std::time::Duration::from_millis(120));
    let (mut sent, mut received) = (Sent::default(), Received::default());
    let wire = send(from.path(), &mut sent);
    receive(wire.as_slice(), to.path(), &mut received, PLENTY).unwrap();
    // Not a new name: the folder is no part of the next pass.
    std::fs::write(from.path().join("d/a"), "other").unwrap();
    let wire = send(from.path(), &mut sent);
    receive(wire.as_slice(), to.path(), &mut received, PLENTY).unwrap();
    assert_eq!(seen(from.path()), seen(to.path()));
}

#[test]
fn what_is_not_what_was_sent_is_refused() {
    let from = tempfile::tempdir().unwrap();
    build(from.path());
    // Settled, so that nothing is sent again.
    std::thread::sleep(std::time::Duration::from_millis(120));
    let spoil: [fn(&Path); 6] = [
        |root| std::fs::write(root.join("new"), "").unwrap(),
        |root| std::fs::remove_file(root.join("d/b")).unwrap(),
        |root| File::options().write(true).open(root.join("sparse")).unwrap().write_all_at(b"E", 9).unwrap(),
        |root| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            std::fs::set_permissions(root.join(".hidden"), mode).unwrap();
        },
        |root| xattr::set(root.join("d/e"), "user.x", b"y").unwrap(),
        |root| {
            let time = filetime::FileTime::from_unix_time(1, 0);
            filetime::set_symlink_file_times(root.join("s"), time, time).unwrap();
        },
    ];
    for (at, spoil) in spoil.into_iter().enumerate() {
        let to = tempfile::tempdir().unwrap();
        let (mut sent, mut received) = (Sent::default(), Received::default());
        let wire = send(from.path(), &mut sent);
        receive(wire.as_slice(), to.path(), &mut received, PLENTY).unwrap();
        let nothing_new = send(from.path(), &mut sent);
        receive(nothing_new.as_slice(), to.path(), &mut received, PLENTY).unwrap();
        spoil(to.path());
        let error = receive(nothing_new.as_slice(), to.path(), &mut received, PLENTY).unwrap_err();
        assert!(error.to_string().contains("not what was sent"), "{at}: {error}");
        // An agent that was restarted reads all of it, and comes to the same.
        take(&nothing_new, to.path()).unwrap_err();
    }
}

#[test]
fn a_stream_takes_no_more_than_it_may() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    build(from.path());
    let wire = send(from.path(), &mut Sent::default());
    let receive = |stream, keep_free| {
        let allowance = Allowance { stream, keep_free };
        receive(wire.as_slice(), to.path(), &mut Received::default(), allowance)
    };
    receive(Bytes(wire.len() as u64), Bytes::ZERO).unwrap();
    let error = receive(Bytes(wire.len() as u64 - 1), Bytes::ZERO).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded, "{error}");
    let error = receive(Bytes::from_mib(64), Bytes(u64::MAX)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
}

fn stream_of(entries: Vec<Entry>, removed: Vec<Vec<u8>>) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut writer = Writer::new(&mut wire);
    let pass = Pass { first: false, removed, entries };
    let there = Sent::default().there().clone();
    writer.pass(Path::new("/nonexistent"), &pass, &there, &mut Written::default()).unwrap();
    writer.end().unwrap();
    wire
}

fn entry(path: &str, kind: Kind) -> Entry {
    Entry { path: path.into(), kind, mode: 0o755, uid: 0, gid: 0, modified: (0, 0), attributes: vec![] }
}

#[test]
fn nothing_leaves_the_folder() {
    let outer = tempfile::tempdir().unwrap();
    std::fs::write(outer.path().join("precious"), "x").unwrap();
    let root = outer.path().join("root");
    std::fs::create_dir(&root).unwrap();
    for wire in [
        stream_of(vec![entry("../new", Kind::Folder)], vec![]),
        stream_of(vec![entry("/tmp/new", Kind::Folder)], vec![]),
        stream_of(vec![], vec![b"../precious".to_vec()]),
        stream_of(vec![entry("s", Kind::Symlink(b"..".to_vec())), entry("s/new", Kind::Folder)], vec![]),
        stream_of(vec![entry("h", Kind::HardLink(b"../precious".to_vec()))], vec![]),
    ] {
        take(&wire, &root).unwrap_err();
    }
    let left: Vec<_> = std::fs::read_dir(outer.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(outer.path().join("precious").exists());
}

#[test]
fn a_link_in_the_place_of_a_folder_does_not_lend_its_mode_to_what_it_points_to() {
    use std::os::unix::fs::PermissionsExt as _;
    let outer = tempfile::tempdir().unwrap();
    let precious = outer.path().join("precious");
    std::fs::write(&precious, "x").unwrap();
    std::fs::set_permissions(&precious, std::fs::Permissions::from_mode(0o600)).unwrap();
    let root = outer.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let folder = Entry { mode: 0o4777, ..entry("d", Kind::Folder) };
    let link = entry("d", Kind::Symlink(b"../precious".to_vec()));
    take(&stream_of(vec![folder, link], vec![]), &root).unwrap_err();
    assert_eq!(std::fs::metadata(&precious).unwrap().permissions().mode() & 0o7777, 0o600);
}

/// What a service does to one of its files between two passes.
fn change() -> impl Strategy<Value = (u8, u8, u8)> {
    (0_u8..6, 0_u8..5, any::<u8>())
}

fn make(root: &Path, (name, what, fill): (u8, u8, u8)) {
    let path = root.join(format!("f{name}"));
    let _gone = match what {
        0 => std::fs::remove_file(&path),
        1 => std::fs::write(&path, vec![fill; 100]),
        // A file of three chunks, one of them zero now and again.
        2 => std::fs::write(&path, [fill % 3, fill % 2, 7].map(|fill| vec![fill; 1 << 20]).concat()),
        3 => std::fs::hard_link(root.join(format!("f{}", fill % 6)), &path),
        _ => std::fs::rename(root.join(format!("f{}", fill % 6)), &path),
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn however_often_streams_break_the_tree_arrives(
        rounds in proptest::collection::vec(
            (proptest::collection::vec(change(), 0..8), 0.0..1.0, any::<bool>()), 1..5),
        last in proptest::collection::vec(change(), 0..8),
    ) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut sent, mut received) = (Sent::default(), Received::default());
        for (changes, share, forgotten) in rounds {
            changes.into_iter().for_each(|change| make(from.path(), change));
            if forgotten {
                // The agent was restarted: what it took in stays, what it knew does not.
                let before = sent.clone();
                let (pass, mut written) = (sent.pass(from.path(), Writers::Frozen).unwrap(), Written::default());
                let mut wire = Vec::new();
                let mut writer = Writer::unpacked(&mut wire);
                writer.pass(from.path(), &pass, before.there(), &mut written).unwrap();
                receive(&wire[..(wire.len() as f64 * share) as usize], to.path(), &mut received, PLENTY)
                    .unwrap_err();
                received = Received::default();
                sent.broke(&pass, &written, None);
            } else {
                send_broken(from.path(), to.path(), &mut sent, &mut received, share);
            }
        }
        last.into_iter().for_each(|change| make(from.path(), change));
        receive(send(from.path(), &mut sent).as_slice(), to.path(), &mut received, PLENTY).unwrap();
        prop_assert_eq!(seen(from.path()), seen(to.path()));
    }

    #[test]
    fn a_changed_byte_or_a_cut_is_noticed(at in 0usize..5000, flip in 1u8..) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(from.path().join("a"), vec![9; 4000]).unwrap();
        let wire = send(from.path(), &mut Sent::default());
        let at = at % wire.len();
        prop_assert!(take(&wire[..at], to.path()).is_err());
        let mut bad = wire.clone();
        bad[at] ^= flip;
        prop_assert!(take(&bad, to.path()).is_err());
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(wire in proptest::collection::vec(any::<u8>(), 0..400)) {
        let to = tempfile::tempdir().unwrap();
        prop_assert!(take(&wire, to.path()).is_err());
    }
}
