//! Verification: silent on what is sound, and loud on what is not.

use std::path::Path;
use std::sync::Arc;

use esker::doctor::Doctor;
use esker::env::Env;
use esker::{Db, ErrorKind};
use esker_base::{FileId, ManifestId, OwnerId};
use esker_tree::Manifest;

use super::sample::{DIR, Files, Left, Sample};
use crate::random::{Rng, for_each_seed};
use crate::reading::assert_state;

/// Checks that exactly the files of `expected` have findings.
fn assert_found_in(sample: &Sample, expected: &[&str], when: &str) {
    let report = sample.verify();
    let mut found: Vec<&str> = report.findings.iter().map(|f| f.file.as_str()).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, expected, "{when}: {report}");
}

#[test]
fn verify_is_silent_on_sound_databases_and_changes_nothing() {
    for_each_seed("verify_is_silent_on_sound_databases_and_changes_nothing", 20, |seed| {
        for left in [Left::Closed, Left::Abandoned] {
            let sample = Sample::new(seed, left);
            let before = sample.files().everything();
            let mut told = Vec::new();
            let report =
                sample.files().doctor().verify(&mut |progress| told.push(progress.clone()));
            let report = report.unwrap();
            assert!(report.is_sound(), "{left:?}: {report}");
            assert_eq!(report.totals.keyspaces, 3);
            assert!(report.totals.tables > 0 && report.totals.entries > 0);
            let last = told.last().unwrap();
            assert_eq!(last.bytes_done, last.bytes_total, "the progress ends where it should");
            assert!(told.is_sorted_by_key(|progress| progress.bytes_done));
            assert_eq!(before, sample.files().everything());
            assert_state(&sample.open(), &sample.model, "after verification");
        }
    });
}

#[test]
fn verify_of_an_open_database_is_refused() {
    let sample = Sample::new(1, Left::Closed);
    let _db = sample.open();
    let error = sample.files().doctor().verify(&mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
}

#[test]
fn verify_of_a_directory_without_a_database_is_refused() {
    let sample = Sample::new(1, Left::Closed);
    let doctor = esker::doctor::Doctor::new("elsewhere").env(sample.env.clone());
    assert_eq!(doctor.verify(&mut |_| {}).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn every_damaged_byte_of_a_closed_database_is_found() {
    for_each_seed("every_damaged_byte_of_a_closed_database_is_found", 3, |seed| {
        let sample = Sample::new(seed, Left::Closed);
        let mut rng = Rng::new(seed);
        let manifest = sample.files().newest_manifest();
        let mut names = sample.files().ending_with(".table");
        names.extend(sample.files().ending_with(".log"));
        names.push(manifest);
        for name in &names {
            let bytes = sample.files().read(name);
            // A seal lost alone loses nothing, and is not missed; nor is what follows it.
            let end = if name.ends_with(".table") { bytes.len() } else { sealed_end(&bytes) };
            for _ in 0..12 {
                let offset = rng.index(end);
                sample.files().flip(name, offset);
                assert_found_in(&sample, &[name], &format!("{name} flipped at {offset}"));
                sample.files().replace(name, &bytes);
            }
        }
        assert_found_in(&sample, &[], "healed");
    });
}

/// Where the seal of a closed segment starts.
fn sealed_end(bytes: &[u8]) -> usize {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    // Tag, checksum, chain, 0, and a lag that is 0 too: a seal follows a sync.
    end.saturating_sub(14).max(1)
}

#[test]
fn tables_that_are_missing_cut_or_swapped_are_found_with_their_keys() {
    let sample = Sample::new(4, Left::Closed);
    let names = sample.files().ending_with(".table");
    for name in &names {
        let bytes = sample.files().read(name);
        sample.files().remove(name);
        let report = sample.verify();
        assert_eq!(report.findings.len(), 1, "{report}");
        assert!(report.findings[0].what.contains("missing"), "{report}");
        assert!(report.findings[0].affected.is_some());
        for len in [0, 20, 48, bytes.len() / 2, bytes.len() - 1] {
            sample.files().replace(name, &bytes[..len]);
            assert_found_in(&sample, &[name], &format!("{name} cut to {len}"));
        }
        sample.files().replace(name, &bytes);
    }
    sample.files().swap(&names[0], &names[1]);
    assert_found_in(&sample, &[&names[0], &names[1]], "swapped");
}

#[test]
fn damaged_blocks_affect_the_keys_of_their_range_and_no_others() {
    for_each_seed("damaged_blocks_affect_the_keys_of_their_range_and_no_others", 4, |seed| {
        let sample = Sample::new(seed, Left::Closed);
        let mut rng = Rng::new(seed);
        for name in sample.files().ending_with(".table") {
            let bytes = sample.files().read(&name);
            let offset = 48 + rng.index(bytes.len() - 48 - 48);
            sample.files().flip(&name, offset);
            let report = sample.verify();
            assert!(!report.is_sound());
            let db = sample.builder().read_only(true).open().unwrap();
            for keyspace in sample.model.names() {
                let handle = db.existing_keyspace(&keyspace).unwrap().unwrap();
                for (key, value) in sample.model.contents(&keyspace).iter() {
                    match handle.get(key) {
                        Ok(found) => assert_eq!(found.as_deref(), Some(&**value)),
                        Err(_) => assert!(
                            report.findings.iter().filter_map(|f| f.affected.as_ref()).any(
                                |keys| {
                                    use std::ops::RangeBounds as _;
                                    keys.keyspace == keyspace
                                        && (keys.start.clone(), keys.end.clone())
                                            .contains(&key.to_vec())
                                }
                            ),
                            "{} of {keyspace} cannot be read, and nothing says so: {report}",
                            key.escape_ascii()
                        ),
                    }
                }
            }
            drop(db);
            sample.files().replace(&name, &bytes);
        }
    });
}

/// Reports named keys as the tree holds them, which nobody knows.
#[test]
fn keys_of_a_keyspace_with_an_order_are_those_of_its_user() {
    let env = Env::memory(1);
    let options = esker::Options { background_threads: 0, ..esker::Options::default() };
    let builder = || Db::builder(DIR).env(env.clone()).options(options.clone());
    let db = builder().open().unwrap();
    let order = esker::Order::reverse_bytewise();
    let options = esker::KeyspaceOptions { order, ..esker::KeyspaceOptions::default() };
    let keyspace = db.keyspace("backwards", options).unwrap();
    ["a", "b", "c"].iter().for_each(|key| keyspace.put(key, "v").unwrap());
    keyspace.flush().unwrap();
    keyspace.put("d", "in the log").unwrap();
    drop((db, keyspace));
    let files = Files(&env);
    let table = files.ending_with(".table").remove(0);
    files.remove(&table);
    let report = files.verify().to_string();
    let keys = "keys from \"c\" up to \"a\" of backwards";
    assert!(report.contains(&format!("; affects {keys}\n")), "{report}");
    let report = files.doctor().repair(&esker::doctor::RepairOptions::default(), &mut |_| {});
    let lost = format!("lost: {keys} ({table}: the file is missing)\n");
    assert!(report.as_ref().unwrap().to_string().contains(&lost), "{report:?}");
}

#[test]
fn missing_and_cut_manifests_are_found() {
    let sample = Sample::new(5, Left::Closed);
    let name = sample.files().newest_manifest();
    let bytes = sample.files().read(&name);
    for len in [0, 30, 48, 100] {
        sample.files().replace(&name, &bytes[..len]);
        assert_found_in(&sample, &[&name], &format!("cut to {len}"));
    }
    sample.files().replace(&name, &bytes);
    let old = sample.files().ending_with(".manifest.old").remove(0);
    sample.files().remove(&name);
    assert_found_in(&sample, &[&old], "newest manifest");
    sample.files().remove(&old);
    assert_found_in(&sample, &["manifest"], "no manifest");
}

#[test]
fn missing_log_segments_are_found() {
    let mut found = 0;
    for seed in 1..9 {
        let sample = Sample::new(seed, Left::Abandoned);
        for name in &sample.files().ending_with(".log") {
            let bytes = sample.files().read(name);
            sample.files().remove(name);
            // One that is kept for reuse is not missed.
            found += usize::from(!sample.verify().is_sound());
            sample.files().replace(name, &bytes);
        }
    }
    assert!(found > 4, "{found}");
}

#[test]
fn runs_in_the_wrong_order_are_found() {
    let env = Env::memory(1);
    let open = || {
        let options = esker::Options { background_threads: 0, ..esker::Options::default() };
        Db::builder(DIR).env(env.clone()).options(options).open().unwrap()
    };
    let db = open();
    for round in 0..2 {
        db.put("a", format!("{round}")).unwrap();
        db.put("b", format!("{round}")).unwrap();
        db.flush().unwrap();
    }
    db.close().unwrap();
    let doctor = Doctor::new(DIR).env(env.clone());
    assert!(doctor.verify(&mut |_| {}).unwrap().is_sound());

    let mut catalog = Manifest::recover(&*env.fs, Path::new(DIR)).unwrap().unwrap().catalog;
    let state = Arc::make_mut(catalog.keyspaces.values_mut().next().unwrap());
    let mut places: Vec<_> = state.tables.values_mut().collect();
    assert_eq!(places.len(), 2);
    let (first, second) = (places[0].run, places[1].run);
    (places[0].run, places[1].run) = (second, first);
    let id = ManifestId(FileId { owner: OwnerId::FIRST, counter: catalog.next_file_counter });
    drop(Manifest::create(Arc::clone(&env.fs), Path::new(DIR), id, catalog).unwrap());
    let report = doctor.verify(&mut |_| {}).unwrap();
    assert_eq!(report.findings.len(), 1, "{report}");
    assert!(
        report.findings[0].what.contains("not newer than an entry in a run behind it"),
        "{report}"
    );
    // And reads are wrong indeed.
    assert_eq!(open().get("a").unwrap().unwrap(), "0");
    let options = esker::doctor::RepairOptions::default();
    let repaired = doctor.repair(&options, &mut |_| {}).unwrap();
    let report = doctor.verify(&mut |_| {}).unwrap();
    assert!(report.is_sound(), "{repaired}\n{report}");
    assert_eq!(open().get("a").unwrap().unwrap(), "1");
}
