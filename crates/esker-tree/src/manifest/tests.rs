//! The manifest under crashes, faults and damage: what was acknowledged is there, what was not is
//! there whole or not at all.

use std::sync::Mutex;

use esker_base::{DatabaseId, FileId, KeyspaceId, OwnerId};
use esker_env::{
    CrashPolicy, Fault, FaultFileSystem, FileExt, ManualClock, MemoryFileSystem, Operation, Rule,
    When,
};

use super::*;
use crate::edit::EditRecord;
use crate::testing::parse_edit;

const EIO: i32 = 5;

const DATABASE: DatabaseId = DatabaseId(*b"0123456789abcdef");

fn dir() -> &'static Path {
    Path::new("db")
}

fn manifest_id(counter: u64) -> ManifestId {
    ManifestId(FileId { owner: OwnerId::FIRST, counter })
}

fn first_catalog() -> Catalog {
    let mut catalog = Catalog::new(DATABASE);
    catalog
        .apply(&parse_edit("keyspace-created 0 \"default\" order \"bytewise\" options -"))
        .unwrap();
    catalog
}

/// An edit that no other number makes; every third is so large that few of them fill a manifest.
fn edit(number: u64) -> VersionEdit {
    let id = 1000 + number;
    let mut edit = parse_edit(&format!("table-added 0 L0 #{id} {id}[a..z 1MiB]"));
    if number % 3 == 2 {
        let options = vec![number as u8; 400 << 10];
        edit.records.push(EditRecord::KeyspaceOptions { keyspace: KeyspaceId::DEFAULT, options });
    }
    edit
}

/// The tables of a catalog, as numbers of [`edit`].
fn numbers(catalog: &Catalog) -> Vec<u64> {
    let tables = catalog.keyspaces[&KeyspaceId::DEFAULT].tables.keys();
    tables.map(|id| id.0.counter - 1000).collect()
}

struct Rig {
    memory: MemoryFileSystem,
    faults: FaultFileSystem,
    fs: Arc<dyn FileSystem>,
}

fn rig() -> Rig {
    let memory = MemoryFileSystem::new(0);
    let clock = Arc::new(ManualClock::default());
    let faults = FaultFileSystem::new(Arc::new(memory.clone()), clock);
    faults.create_dir_all(dir()).unwrap();
    faults.sync_dir(Path::new("")).unwrap();
    Rig { memory, fs: Arc::new(faults.clone()), faults }
}

fn recover(fs: &dyn FileSystem) -> Recovered {
    Manifest::recover(fs, dir()).unwrap().expect("the manifest was durable")
}

fn names(fs: &dyn FileSystem) -> Vec<String> {
    let mut names: Vec<_> = fs.list(dir()).unwrap().into_iter().map(|entry| entry.name).collect();
    names.sort();
    names
}

/// How many edits were acknowledged at a moment, and the files then.
type State = (Option<u64>, MemoryFileSystem);

#[test]
fn acknowledged_edits_survive_every_crash_and_others_are_whole_or_absent() {
    // How many edits were acknowledged; `None` before the manifest itself was.
    let acknowledged: Arc<Mutex<Option<u64>>> = Arc::default();
    let states: Arc<Mutex<Vec<State>>> = Arc::default();
    let Rig { memory, faults, fs } = rig();
    let (seen, marks) = (Arc::clone(&states), Arc::clone(&acknowledged));
    let below = memory.clone();
    faults.observe(move |event| {
        if event.operation.is_change() {
            seen.lock().unwrap().push((*marks.lock().unwrap(), below.snapshot()));
        }
    });
    let mut manifest =
        Manifest::create(Arc::clone(&fs), dir(), manifest_id(1), first_catalog()).unwrap();
    *acknowledged.lock().unwrap() = Some(0);
    for number in 0..12 {
        manifest.append(&edit(number), || manifest_id(2 + number)).unwrap();
        *acknowledged.lock().unwrap() = Some(number + 1);
    }
    assert!(manifest.id() > manifest_id(1), "some edit started a new manifest");
    states.lock().unwrap().push((*acknowledged.lock().unwrap(), memory.snapshot()));
    let (mut checked, mut torn) = (0, 0);
    for (acknowledged, memory) in states.lock().unwrap().iter() {
        for policy in CrashPolicy::ALL {
            for seed in 0..8 {
                let crashed: Arc<dyn FileSystem> = Arc::new(memory.crash(policy, seed));
                torn += usize::from(check_crashed(*acknowledged, crashed));
                checked += 1;
            }
        }
    }
    assert!(checked > 1_000 && torn > 10, "{checked} crashes, {torn} torn tails");
}

/// Recovers, goes on writing, and recovers again. Whether there was a torn tail.
fn check_crashed(acknowledged: Option<u64>, fs: Arc<dyn FileSystem>) -> bool {
    let Some(recovered) = Manifest::recover(&*fs, dir()).unwrap() else {
        assert_eq!(acknowledged, None, "the manifest is gone");
        return false;
    };
    let found = numbers(&recovered.catalog);
    let count = found.len() as u64;
    assert_eq!(found, (0..count).collect::<Vec<_>>(), "edits are missing in between");
    assert!((acknowledged.unwrap_or(0)..=acknowledged.unwrap_or(0) + 1).contains(&count));
    let end = recovered.end;
    let mut manifest = Manifest::open(Arc::clone(&fs), dir(), recovered).unwrap();
    let before = manifest.id();
    manifest.append(&edit(100), || manifest_id(200)).unwrap();
    let is_torn = matches!(end, LogEnd::Torn { .. });
    assert!(!is_torn || manifest.id() != before, "appended behind a torn tail");
    let again = recover(&*fs);
    assert_eq!(&again.catalog, manifest.catalog());
    assert_eq!(numbers(&again.catalog).len() as u64, count + 1);
    is_torn
}

#[test]
fn what_open_returns_is_durable() {
    let Rig { memory, fs, .. } = rig();
    let mut manifest =
        Manifest::create(Arc::clone(&fs), dir(), manifest_id(1), first_catalog()).unwrap();
    // The process dies after the write and before the sync.
    let segment = manifest.segment.as_mut().unwrap();
    let mut payload = Vec::new();
    edit(0).encode(&mut payload);
    segment.writer.append(&[&payload]);
    segment.writer.write().unwrap();
    assert_eq!(numbers(&recover(&memory.crash(CrashPolicy::AllLost, 0)).catalog), [0; 0]);
    let manifest = Manifest::open(Arc::clone(&fs), dir(), recover(&*fs)).unwrap();
    assert_eq!(numbers(manifest.catalog()), [0]);
    assert_eq!(numbers(&recover(&memory.crash(CrashPolicy::AllLost, 0)).catalog), [0]);
}

#[test]
fn append_is_one_write_and_one_sync_and_the_frame_that_says_so() {
    let Rig { faults, fs, .. } = rig();
    let mut manifest = Manifest::create(fs, dir(), manifest_id(1), first_catalog()).unwrap();
    let operations: Arc<Mutex<Vec<Operation>>> = Arc::default();
    let seen = Arc::clone(&operations);
    faults.observe(move |event| seen.lock().unwrap().push(event.operation));
    manifest.append(&edit(0), || unreachable!("there is room")).unwrap();
    let expected = [Operation::Write, Operation::Sync, Operation::Write];
    assert_eq!(*operations.lock().unwrap(), expected);
}

/// Otherwise it would be taken for an edit that was being written when the process died.
#[test]
fn no_flipped_bit_costs_the_last_edit_of_a_killed_process() {
    let Rig { fs, .. } = rig();
    let mut manifest =
        Manifest::create(Arc::clone(&fs), dir(), manifest_id(1), first_catalog()).unwrap();
    manifest.append(&edit(0), || unreachable!("there is room")).unwrap();
    let path = dir().join(manifest_id(1).file_name());
    let file = fs.open_for_write(&path).unwrap();
    let written = manifest.segment.as_ref().unwrap().writer.written_offset();
    let mut errors = 0;
    for bit in 0..written * 8 {
        let mut byte = [0];
        file.read_exact_at(bit / 8, &mut byte).unwrap();
        let flipped = [byte[0] ^ (1 << (bit % 8))];
        file.write_all_at(bit / 8, &flipped).unwrap();
        match Manifest::recover(&*fs, dir()) {
            Ok(recovered) => assert_eq!(numbers(&recovered.unwrap().catalog), [0], "bit {bit}"),
            Err(_) => errors += 1,
        }
        file.write_all_at(bit / 8, &byte).unwrap();
    }
    assert!(0 < errors && errors < written * 8, "those of the last frame cost nothing");
}

/// What cannot say so has done what it was asked.
#[test]
fn an_edit_whose_frame_behind_it_fails_is_done() {
    let Rig { faults, fs, .. } = rig();
    let mut manifest =
        Manifest::create(Arc::clone(&fs), dir(), manifest_id(1), first_catalog()).unwrap();
    faults.add(Rule::new(Fault::Error(EIO)).on(&[Operation::Write]).when(When::Nth(2)));
    manifest.append(&edit(0), || unreachable!("there is room")).unwrap();
    assert_eq!(numbers(&recover(&*fs).catalog), [0]);
    manifest.append(&edit(1), || manifest_id(2)).unwrap();
    assert_eq!((manifest.id(), numbers(&recover(&*fs).catalog)), (manifest_id(2), vec![0, 1]));
}

#[test]
fn directory_without_a_manifest_is_none() {
    let Rig { fs, .. } = rig();
    assert!(Manifest::recover(&*fs, dir()).unwrap().is_none());
    fs.create(&dir().join("1-00000001.manifest.tmp")).unwrap();
    fs.create(&dir().join("1-00000002.log")).unwrap();
    fs.create(&dir().join("2.manifest")).unwrap();
    assert!(Manifest::recover(&*fs, dir()).unwrap().is_none());
}

#[test]
fn new_manifest_keeps_one_predecessor_and_removes_the_rest() {
    let Rig { fs, .. } = rig();
    fs.create(&dir().join("1-00000001.manifest.tmp")).unwrap();
    fs.create(&dir().join("9.tmp")).unwrap();
    let mut manifest =
        Manifest::create(Arc::clone(&fs), dir(), manifest_id(1), first_catalog()).unwrap();
    assert_eq!(names(&*fs), ["1-00000001.manifest", "9.tmp"]);
    for number in 2..5 {
        manifest.restart(manifest_id(number)).unwrap();
    }
    assert_eq!(names(&*fs), ["1-00000003.manifest.old", "1-00000004.manifest", "9.tmp"]);
    assert_eq!(recover(&*fs).id, manifest_id(4));
    assert_eq!(manifest.catalog().next_file_counter, 5);
    assert_eq!(&recover(&*fs).catalog, manifest.catalog());
}

#[test]
fn failed_append_poisons_until_a_restart_without_it() {
    for operation in [Operation::Write, Operation::Sync] {
        let Rig { memory, faults, fs } = rig();
        let mut manifest =
            Manifest::create(Arc::clone(&fs), dir(), manifest_id(1), first_catalog()).unwrap();
        manifest.append(&edit(0), || manifest_id(2)).unwrap();
        faults.add(Rule::new(Fault::Error(EIO)).on(&[operation]).when(When::Nth(1)));
        let error = manifest.append(&edit(1), || manifest_id(2)).unwrap_err().to_string();
        let again = manifest.append(&edit(2), || manifest_id(2)).unwrap_err().to_string();
        assert_eq!(again, error);
        let closed = manifest.close(&VersionEdit::default(), || manifest_id(2));
        assert_eq!(closed.unwrap_err().to_string(), error);
        assert_eq!(numbers(manifest.catalog()), [0]);
        manifest.restart(manifest_id(3)).unwrap();
        manifest.append(&edit(2), || manifest_id(4)).unwrap();
        for policy in CrashPolicy::ALL {
            let recovered = recover(&memory.crash(policy, 1));
            assert_eq!(numbers(&recovered.catalog), [0, 2], "{operation:?} {policy:?}");
        }
    }
}

#[test]
fn failed_start_of_a_new_manifest_poisons_the_old_one() {
    // The new manifest has its name, but the directory was not synced: were an edit appended to
    // the old one now, a recovery from the new one would not know it.
    let Rig { memory, faults, fs } = rig();
    let mut manifest =
        Manifest::create(Arc::clone(&fs), dir(), manifest_id(1), first_catalog()).unwrap();
    manifest.append(&edit(0), || manifest_id(2)).unwrap();
    faults.add(Rule::new(Fault::Error(EIO)).on(&[Operation::SyncDir]).when(When::Nth(1)));
    assert!(manifest.restart(manifest_id(2)).is_err());
    assert!(manifest.append(&edit(1), || manifest_id(3)).is_err());
    manifest.restart(manifest_id(3)).unwrap();
    manifest.append(&edit(1), || manifest_id(4)).unwrap();
    for policy in CrashPolicy::ALL {
        assert_eq!(numbers(&recover(&memory.crash(policy, 1)).catalog), [0, 1]);
    }
}

#[test]
fn failure_of_any_operation_is_an_error_and_loses_nothing_acknowledged() {
    let operations = [
        Operation::Create,
        Operation::Allocate,
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::SyncDir,
        Operation::Exists,
    ];
    for operation in operations {
        for nth in 1..8 {
            let Rig { memory, faults, fs } = rig();
            let mut manifest =
                Manifest::create(Arc::clone(&fs), dir(), manifest_id(1), first_catalog()).unwrap();
            faults.add(Rule::new(Fault::Error(EIO)).on(&[operation]).when(When::Nth(nth)));
            let mut acknowledged = 0;
            for number in 0..8 {
                match manifest.append(&edit(number), || manifest_id(2 + number)) {
                    Ok(()) => acknowledged += 1,
                    Err(_) => break,
                }
            }
            for policy in CrashPolicy::ALL {
                let found = numbers(&recover(&memory.crash(policy, nth)).catalog);
                let count = found.len();
                assert_eq!(found, (0..count as u64).collect::<Vec<_>>());
                let expected = acknowledged..=acknowledged + 1;
                assert!(expected.contains(&count), "{operation:?} {nth} {policy:?}: {found:?}");
            }
        }
    }
}

fn bytes_of(fs: &dyn FileSystem, path: &Path) -> Vec<u8> {
    let file = fs.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn no_flipped_bit_of_a_closed_manifest_goes_unnoticed() {
    let Rig { fs, .. } = rig();
    let mut manifest =
        Manifest::create(Arc::clone(&fs), dir(), manifest_id(1), first_catalog()).unwrap();
    for number in [0, 1, 3] {
        manifest.append(&edit(number), || manifest_id(2)).unwrap();
    }
    manifest.close(&VersionEdit::default(), || manifest_id(6)).unwrap();
    let path = dir().join(manifest_id(6).file_name());
    let good = bytes_of(&*fs, &path);
    let file = fs.open_for_write(&path).unwrap();
    for bit in 0..good.len() * 8 {
        let (offset, good) = (bit / 8, good[bit / 8]);
        file.write_all_at(offset as u64, &[good ^ 1 << (bit % 8)]).unwrap();
        match Manifest::recover(&*fs, dir()) {
            Err(FileError::Corruption(_)) => {}
            other => panic!("bit {bit}: {other:?}"),
        }
        file.write_all_at(offset as u64, &[good]).unwrap();
    }
    for len in 0..good.len() as u64 {
        file.truncate(len).unwrap();
        let cut = Manifest::recover(&*fs, dir());
        assert!(matches!(cut, Err(FileError::Corruption(_))), "cut to {len}: {cut:?}");
        file.write_all_at(0, &good).unwrap();
    }
    assert_eq!(numbers(&recover(&*fs).catalog), [0, 1, 3]);
    // Closing again changes nothing; going on takes a new file, and the closed one stays as it is.
    let mut manifest = Manifest::open(Arc::clone(&fs), dir(), recover(&*fs)).unwrap();
    manifest.close(&VersionEdit::default(), || unreachable!("nothing has changed")).unwrap();
    manifest.append(&edit(4), || manifest_id(7)).unwrap();
    assert_eq!(manifest.id(), manifest_id(7));
    let kept = path.with_extension("manifest.old");
    assert_eq!(bytes_of(&*fs, &kept), good);
    fs.remove(&dir().join(manifest_id(7).file_name())).unwrap();
    assert_eq!(
        Manifest::recover(&*fs, dir()).unwrap_err().to_string(),
        "1-00000006.manifest.old is damaged at offset 0: the manifest that followed this one is \
         missing"
    );
}

#[test]
fn damage_in_the_newest_manifest_is_never_answered_from_an_older_one() {
    let Rig { fs, .. } = rig();
    let mut manifest =
        Manifest::create(Arc::clone(&fs), dir(), manifest_id(1), first_catalog()).unwrap();
    manifest.restart(manifest_id(2)).unwrap();
    let path = dir().join(manifest_id(2).file_name());
    let good = bytes_of(&*fs, &path);
    let file = fs.open_for_write(&path).unwrap();
    // The first frame, and the whole file.
    for start in [FileHeader::LEN, 0] {
        file.write_all_at(start as u64, &vec![0; good.len() - start]).unwrap();
        let error = Manifest::recover(&*fs, dir()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "1-00000002.manifest is damaged at offset 48: manifest does not start with a whole \
             catalog"
        );
    }
}

/// A manifest of format version `format` whose second frame is `payload`.
fn write_by_hand(fs: &dyn FileSystem, format: u16, payload: &[u8]) {
    let header =
        FileHeader { kind: FileKind::Manifest, format, id: manifest_id(3).0, database: DATABASE };
    let path = dir().join(manifest_id(3).file_name());
    let mut writer = LogWriter::create(fs, &path, header, 0).unwrap();
    let mut snapshot = Vec::new();
    first_catalog().snapshot_edit().encode(&mut snapshot);
    writer.append(&[&snapshot]);
    writer.append(&[payload]);
    writer.write().unwrap();
}

#[test]
fn what_a_newer_release_wrote_is_refused_by_name() {
    let text = "1-00000003.manifest is a manifest of format version 3, and this release reads \
                versions up to 2";
    for (format, payload) in [(3, &[1, 1, 9][..]), (1, &[65, 0])] {
        let Rig { fs, .. } = rig();
        write_by_hand(&*fs, format, payload);
        let error = Manifest::recover(&*fs, dir()).unwrap_err();
        assert!(matches!(error, FileError::UnsupportedFormat(_)));
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn manifest_of_an_older_format_is_read_and_takes_no_edit() {
    // An older release that finds a record of this one must be able to refuse the file by its header.
    let mut added = Vec::new();
    parse_edit("log-added 5").encode(&mut added);
    let Rig { fs, .. } = rig();
    write_by_hand(&*fs, MANIFEST_FORMAT - 1, &added);
    let before = bytes_of(&*fs, &dir().join(manifest_id(3).file_name()));
    let recovered = recover(&*fs);
    assert!(matches!(recovered.end, LogEnd::Clean { .. }));
    let mut manifest = Manifest::open(Arc::clone(&fs), dir(), recovered).unwrap();
    manifest.append(&parse_edit("log-durable 5 100"), || manifest_id(6)).unwrap();
    assert_eq!(names(&*fs), ["1-00000003.manifest.old", "1-00000006.manifest"]);
    assert_eq!(bytes_of(&*fs, &dir().join("1-00000003.manifest.old")), before);
    assert_eq!(&recover(&*fs).catalog, manifest.catalog());
    assert_eq!(bytes_of(&*fs, &dir().join("1-00000006.manifest"))[10], MANIFEST_FORMAT as u8);
}

#[test]
fn edits_that_cannot_be_are_damage() {
    let mut absent = Vec::new();
    parse_edit("table-removed 0 5").encode(&mut absent);
    for (payload, what) in [
        (&absent[..], "edit does not fit: table 1-00000005 is removed but not in keyspace 0"),
        (&[], "edit does not decode: edit holds no record at byte 0"),
        (&[1, 9], "edit does not decode: ends too early at byte 2"),
    ] {
        let Rig { fs, .. } = rig();
        write_by_hand(&*fs, MANIFEST_FORMAT, payload);
        let error = Manifest::recover(&*fs, dir()).unwrap_err();
        assert!(matches!(error, FileError::Corruption(_)));
        assert!(error.to_string().ends_with(what), "{error}");
    }
}

#[test]
#[should_panic(expected = "an edit that does not fit is not written")]
fn edit_that_does_not_fit_is_a_bug_and_not_written() {
    let Rig { fs, .. } = rig();
    let mut manifest = Manifest::create(fs, dir(), manifest_id(1), first_catalog()).unwrap();
    drop(manifest.append(&parse_edit("table-removed 0 5"), || manifest_id(2)));
}

#[test]
fn golden_bytes() {
    // The example of docs/FORMAT.md, section 6: a change here makes databases unreadable.
    let Rig { fs, .. } = rig();
    let mut manifest =
        Manifest::create(Arc::clone(&fs), dir(), manifest_id(1), first_catalog()).unwrap();
    let edit = parse_edit("log-added 2\ntable-added 0 L0 #4 3[a..m 64MiB seqnos=1-500]");
    manifest.append(&edit, || unreachable!("there is room")).unwrap();
    let end = manifest.segment.as_ref().unwrap().writer.written_offset() as usize;
    let bytes = bytes_of(&*fs, &dir().join(manifest_id(1).file_name()));
    let expected = [
        "65736b65720d0a1a030002000100000001000000000000003031323334353637",
        "383961626364656600000000ff6f7098297b49b536f25852000000001f300413",
        "000764656661756c7408627974657769736500010102020100030101297b49b5",
        "64eabb0e36f2585231000c020102082a00000480808020efcdab896745230101",
        "030000000a0161016d01f403e80700807da08d06808080201401297b49b54301",
        "3fc264eabb0e0400010105",
    ];
    let found = crate::testing::hex_lines(&bytes[..end]);
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
}

/// Nothing told the last edit of a manifest from one that a crash has torn, once the frame behind it was
/// lost: not even an open that has relied on it.
#[test]
fn an_open_vouches_for_the_last_edit_once() {
    let fs = MemoryFileSystem::new(1);
    let shared: Arc<dyn FileSystem> = Arc::new(fs.clone());
    fs.create_dir_all(dir()).unwrap();
    let mut manifest =
        Manifest::create(Arc::clone(&shared), dir(), manifest_id(1), first_catalog()).unwrap();
    manifest.append(&edit(0), || unreachable!("there is room")).unwrap();
    drop(manifest);
    let path = dir().join(manifest_id(1).file_name());
    let mut reader = LogReader::open(&fs, &path, &expected()).unwrap();
    let mut offsets = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        offsets.push(frame.offset);
    }
    let [_, of_edit, of_voucher] = offsets.try_into().unwrap();
    fs.open_for_write(&path).unwrap().truncate(of_voucher).unwrap();
    let reopen = || {
        let recovered = Manifest::recover(&fs, dir()).unwrap().unwrap();
        drop(Manifest::open(Arc::clone(&shared), dir(), recovered).unwrap());
        fs.open(&path).unwrap().len().unwrap()
    };
    assert!(of_voucher < reopen());
    assert_eq!(reopen(), reopen());
    for bit in of_edit * 8..of_voucher * 8 {
        let damaged = fs.snapshot();
        let file = damaged.open_for_write(&path).unwrap();
        let mut byte = [0];
        file.read_exact_at(bit / 8, &mut byte).unwrap();
        file.write_all_at(bit / 8, &[byte[0] ^ (1 << (bit % 8))]).unwrap();
        assert!(Manifest::recover(&damaged, dir()).is_err(), "bit {bit}");
    }
}

fn expected() -> ExpectedHeader {
    let (kind, id) = (FileKind::Manifest, manifest_id(1).0);
    ExpectedHeader { kind, id, database: None, newest_format: MANIFEST_FORMAT }
}
