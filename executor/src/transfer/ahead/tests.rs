use std::collections::BTreeMap;

use super::*;

pub(in crate::transfer) const PLENTY: Allowance =
    Allowance { stream: Bytes::from_mib(64), keep_free: Bytes::ZERO };

/// Memory of processes: by process and page number the byte that the page is full of.
pub(in crate::transfer) type Memory = BTreeMap<(u32, u64), u8>;

/// A disk's file system may not have files as large as all addresses.
pub(in crate::transfer) fn in_ram() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

pub(in crate::transfer) fn bytes_of(fill: u8) -> Vec<u8> {
    vec![fill; PAGE as usize]
}

/// A round as it is written to the wire.
pub(in crate::transfer) fn write(ahead: &mut Ahead, memory: &Memory) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut writer = Writer::unpacked(&mut wire);
    ahead.begin(&mut writer).unwrap();
    for ((process, number), fill) in memory {
        ahead.pages(*process, number * PAGE, &bytes_of(*fill), &mut writer).unwrap();
    }
    writer.end().unwrap();
    wire
}

/// A round that arrives.
pub(in crate::transfer) fn round(ahead: &mut Ahead, memory: &Memory) -> Vec<u8> {
    let wire = write(ahead, memory);
    ahead.arrived();
    wire
}

fn page_at(folder: &Path, process: u32, number: u64) -> u8 {
    let mut bytes = bytes_of(0);
    let file = File::open(folder.join(pages_name(process))).unwrap();
    file.read_exact_at(&mut bytes, number * PAGE).unwrap();
    assert!(bytes.iter().all(|byte| *byte == bytes[0]));
    bytes[0]
}

#[test]
fn only_what_changed_crosses_again() {
    let folder = in_ram();
    let mut ahead = Ahead::default();
    let mut memory: Memory = (0..50).map(|at| ((1, 1000 + at), 7)).collect();
    memory.insert((2, 5), 9);
    memory.insert((2, 6), 0);
    let wire = round(&mut ahead, &memory);
    assert!(wire.len() as u64 > 51 * PAGE && (wire.len() as u64) < 52 * PAGE, "zero pages do not cross");
    receive(wire.as_slice(), folder.path(), PLENTY).unwrap();
    memory.insert((1, 1003), 8);
    memory.insert((2, 5), 0);
    let wire = round(&mut ahead, &memory);
    assert!((wire.len() as u64) < 3 * PAGE, "{}", wire.len());
    receive(wire.as_slice(), folder.path(), PLENTY).unwrap();
    finish(folder.path(), ahead.chain()).unwrap();
    for ((process, number), fill) in &memory {
        assert_eq!(page_at(folder.path(), *process, *number), *fill, "{process} {number}");
    }
    assert_eq!(page_at(folder.path(), 1, 7), 0, "what was never sent is zero");
    finish(folder.path(), ahead.chain()).unwrap();
}

#[test]
fn a_run_of_pages_is_sent_as_one() {
    let mut known = Pages::new();
    let bytes: Vec<u8> = [1, 2, 3, 0, 4].into_iter().flat_map(bytes_of).collect();
    let runs = |known: &mut Pages| {
        let changed = Changed { address: 8 * PAGE, bytes: &bytes, known };
        changed.map(|(address, bytes)| (address / PAGE, bytes.len() as u64 / PAGE)).collect::<Vec<_>>()
    };
    assert_eq!(runs(&mut known), [(8, 3), (12, 1)]);
    known.remove(&9);
    known.remove(&10);
    assert_eq!(runs(&mut known), [(9, 2)]);
    assert_eq!(runs(&mut known), []);
}

#[test]
fn what_does_not_hang_on_the_same_chain_is_not_used() {
    let folder = in_ram();
    let mut ahead = Ahead::default();
    let first = round(&mut ahead, &Memory::from([((1, 1), 1)]));
    let second = round(&mut ahead, &Memory::from([((1, 1), 2)]));
    receive(second.as_slice(), folder.path(), PLENTY).unwrap_err();
    receive(first.as_slice(), folder.path(), PLENTY).unwrap();
    finish(folder.path(), ahead.chain()).unwrap_err();
    // Cut off before the page.
    receive(&second[..second.len() - 200], folder.path(), PLENTY).unwrap_err();
    finish(folder.path(), ahead.chain()).unwrap_err();
    receive(second.as_slice(), folder.path(), PLENTY).unwrap();
    finish(folder.path(), ahead.chain()).unwrap();
    // Once too often.
    receive(second.as_slice(), folder.path(), PLENTY).unwrap();
    finish(folder.path(), ahead.chain()).unwrap_err();
    // From the beginning it can be made good.
    receive(first.as_slice(), folder.path(), PLENTY).unwrap();
    receive(second.as_slice(), folder.path(), PLENTY).unwrap();
    finish(folder.path(), ahead.chain()).unwrap();
    // In another life of the node.
    std::fs::write(folder.path().join(CHAIN), [ahead.chain().as_slice(), b"another\n"].concat()).unwrap();
    finish(folder.path(), ahead.chain()).unwrap_err();
}

#[test]
fn what_arrived_of_a_broken_round_is_not_sent_again() {
    let folder = in_ram();
    let mut ahead = Ahead::default();
    // No run of pages is longer than one.
    let memory: Memory = (0..100).map(|at| ((1, at * 2), 7)).collect();
    let wire = write(&mut ahead, &memory);
    receive(&wire[..wire.len() * 3 / 4], folder.path(), PLENTY).unwrap_err();
    ahead.broke(there(folder.path()).unwrap().as_ref());
    let wire = write(&mut ahead, &memory);
    let pages = wire.len() as u64 / PAGE;
    assert!((25..30).contains(&pages), "{pages} pages are sent again");
    receive(wire.as_slice(), folder.path(), PLENTY).unwrap();
    // Its answer was lost.
    ahead.broke(there(folder.path()).unwrap().as_ref());
    assert!(write(&mut ahead, &memory).len() < 100);
    let chain = *ahead.chain();
    ahead.broke(Some(&chain));
    finish(folder.path(), ahead.chain()).unwrap();
}

#[test]
fn pages_take_no_more_than_was_agreed_on() {
    let folder = in_ram();
    let mut ahead = Ahead::default();
    let allowance = |stream| Allowance { stream, keep_free: Bytes::ZERO };
    // Each round is small; together they are not.
    for at in 0..8 {
        let memory = (0..8).map(|page| ((1, at * 100 + page), 1)).collect();
        let wire = round(&mut ahead, &memory);
        let taken = receive(wire.as_slice(), folder.path(), allowance(Bytes(20 * PAGE)));
        // Looked at before anything of a round is written.
        assert_eq!(taken.is_ok(), at <= 2, "{at}: {taken:?}");
        if taken.is_err() {
            break;
        }
    }
}

#[test]
fn pages_outside_a_process_are_refused() {
    let folder = in_ram();
    let attempt = |process, address, length: usize| {
        let mut wire = Vec::new();
        let mut writer = Writer::new(&mut wire);
        writer.frame(&Frame::First).unwrap();
        writer.pages(process, address, &vec![1; length]).unwrap();
        writer.end().unwrap();
        receive(wire.as_slice(), folder.path(), PLENTY)
    };
    attempt(1, ADDRESSES - PAGE, 4096).unwrap();
    for (process, address, length) in
        [(0, 0, 4096), (u32::MAX, ADDRESSES, 4096), (1, 5, 4096), (1, 0, 5), (1, 0, 0), (1, ADDRESSES, 4096)]
    {
        attempt(process, address, length).unwrap_err();
    }
}
