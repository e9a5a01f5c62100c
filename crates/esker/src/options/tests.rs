//! Options as they are recorded, and those that are refused.

use esker_tree::{
    FifoOptions, LazyOptions, LeveledByBytesOptions, SimpleOptions, TieredOptions,
    TimeWindowOptions, UniversalOptions,
};

use super::*;

#[test]
fn keyspace_options_round_trip() {
    let options = KeyspaceOptions {
        compaction: CompactionPolicy::None,
        compression: Compression::None,
        shallow_compression: Compression::None,
        last_level_compression: Some(Compression::None),
        zstd_level: 19,
        zstd_dictionary_bytes: 16 << 10,
        block_size_bytes: 8192,
        filter_bits_per_key: 0,
        prefix_filter: Some(PrefixRule::First(8)),
        memtable_bytes: 12_345,
        immutable_memtables_max: 7,
        log: false,
        delete_deadline: Some(Duration::from_secs(7)),
        periodic_compaction: Some(Duration::from_millis(1001)),
        idle_compaction: None,
        default_ttl: Some(Duration::from_millis(90_000)),
        order: Order::bytewise(),
        merge_operator: Some(Merge::named("mine")),
        compaction_filter: None,
        blob_threshold_bytes: Some(1024),
        blob_waste_percent_max: 20,
    };
    assert_eq!(KeyspaceOptions::decode(&options.encode()), Ok(options));
    let defaults = KeyspaceOptions::default();
    assert_eq!(KeyspaceOptions::decode(&defaults.encode()), Ok(defaults));
}

fn policies() -> [CompactionPolicy; 10] {
    let tiered = TieredOptions { num_tiers: 3, max_merge_width: Some(5), ..Default::default() };
    let simple = SimpleOptions { size_ratio_percent: 150, ..Default::default() };
    let by_bytes = LeveledByBytesOptions { base_level_size_mb: 9, ..Default::default() };
    let universal = UniversalOptions { size_ratio: 7, ..Default::default() };
    let age = Some(Duration::from_millis(3_600_001));
    [
        CompactionPolicy::Leveled,
        CompactionPolicy::None,
        CompactionPolicy::Simple(simple),
        CompactionPolicy::Tiered(tiered),
        CompactionPolicy::LeveledByBytes(by_bytes),
        CompactionPolicy::Universal(universal),
        CompactionPolicy::Lazy(LazyOptions { runs_per_level: 9, size_multiplier: 3 }),
        CompactionPolicy::Fifo(FifoOptions { bytes_max: 77, age_max: None }),
        CompactionPolicy::Fifo(FifoOptions { bytes_max: 77, age_max: age }),
        CompactionPolicy::TimeWindow(TimeWindowOptions { age_max: age, ..Default::default() }),
    ]
}

#[test]
fn every_policy_round_trips_and_no_cut_of_it_panics() {
    for compaction in policies() {
        let options = KeyspaceOptions { compaction, ..KeyspaceOptions::default() };
        let bytes = options.encode();
        assert_eq!(KeyspaceOptions::decode(&bytes), Ok(options));
        for length in 0..bytes.len() {
            if let Ok(cut) = KeyspaceOptions::decode(&bytes[..length]) {
                assert_eq!(cut.check(), Ok(()));
            }
        }
    }
}

#[test]
fn options_as_first_written_still_decode() {
    let leveled = [0, 1, 0x80, 0x20, 10, 0x80, 0x80, 0x80, 0x20, 3, 1];
    assert_eq!(KeyspaceOptions::default().encode(), leveled);
    assert_eq!(KeyspaceOptions::decode(&leveled), Ok(KeyspaceOptions::default()));
    // A choice of a later release, and parameters that no release writes, are the default.
    for (choice, parameter) in [(200, 5), (6, 0)] {
        let mut bytes = leveled.to_vec();
        bytes[0] = choice;
        if choice >= 128 {
            bytes.insert(1, 1);
        }
        bytes.extend([2, parameter, parameter]);
        assert_eq!(KeyspaceOptions::decode(&bytes), Ok(KeyspaceOptions::default()));
    }
}

/// The example of FORMAT.md section 4.
#[test]
fn golden_bytes_of_a_merge_operator_and_tags_of_later_releases() {
    let merge_operator = Some(Merge::new(crate::operators::AddU64));
    let options = KeyspaceOptions { merge_operator, ..KeyspaceOptions::default() };
    let mut bytes = vec![0, 1, 0x80, 0x20, 10, 0x80, 0x80, 0x80, 0x20, 3, 1];
    bytes.extend(b"\x00\x01\x0desker.add-u64");
    assert_eq!(options.encode(), bytes);
    bytes.extend(b"\x63\x02xy");
    let decoded = KeyspaceOptions::decode(&bytes).unwrap();
    assert_eq!(decoded, options);
    assert!(decoded.merge_operator.unwrap().operator().is_some());
    for length in 0..bytes.len() {
        drop(KeyspaceOptions::decode(&bytes[..length]));
    }
    bytes.truncate(11);
    bytes.extend(b"\x00\x01\x01\xff");
    let error = KeyspaceOptions::decode(&bytes).unwrap_err();
    assert_eq!(error.what, "a name is not UTF-8");
}

#[test]
fn times_of_upkeep_are_refused_by_name() {
    let second = Some(Duration::from_secs(1));
    let fifo = CompactionPolicy::Fifo(FifoOptions::default());
    let refused = |change: &dyn Fn(&mut KeyspaceOptions)| {
        let mut options = KeyspaceOptions::default();
        change(&mut options);
        options.check().unwrap_err()
    };
    assert_eq!(
        refused(&|o| o.delete_deadline = Some(Duration::from_millis(999))),
        "delete_deadline is 999ms, and must be at least 1s"
    );
    assert_eq!(
        refused(&|o| o.idle_compaction = Some(Duration::ZERO)),
        "idle_compaction is 0ns, and must be at least 1s"
    );
    assert_eq!(
        refused(&|o| (o.periodic_compaction, o.compaction) = (second, fifo)),
        "periodic_compaction is set, and this compaction keeps ages apart"
    );
}

/// An example of FORMAT.md section 4.
#[test]
fn sections_follow_the_parameters() {
    let options = KeyspaceOptions { idle_compaction: None, ..KeyspaceOptions::default() }.encode();
    let leveled = [0, 1, 0x80, 0x20, 10, 0x80, 0x80, 0x80, 0x20, 3, 1];
    assert_eq!(options, [&leveled[..], &[0, 5, 3, 0, 0, 0]].concat());
    assert_eq!(KeyspaceOptions::decode(&options).unwrap().idle_compaction, None);
    assert!(KeyspaceOptions::decode(&options[..options.len() - 1]).is_err());
    let unknown = [&leveled[..], &[0, 99, 2, 1, 1]].concat();
    assert_eq!(KeyspaceOptions::decode(&unknown), Ok(KeyspaceOptions::default()));
}

/// An example of FORMAT.md section 4.
#[test]
fn a_default_ttl_has_its_bytes_and_is_not_zero() {
    let ttl = |ttl| KeyspaceOptions { default_ttl: Some(ttl), ..KeyspaceOptions::default() };
    let leveled = [0, 1, 0x80, 0x20, 10, 0x80, 0x80, 0x80, 0x20, 3, 1];
    let bytes = ttl(Duration::from_millis(300)).encode();
    assert_eq!(bytes, [&leveled[..], &[0, 2, 2, 0xac, 2]].concat());
    assert_eq!(KeyspaceOptions::decode(&bytes), Ok(ttl(Duration::from_millis(300))));
    let unknown = [&leveled[..], &[0, 99, 2, 1, 1]].concat();
    assert_eq!(KeyspaceOptions::decode(&unknown), Ok(KeyspaceOptions::default()));
    let refused = "default_ttl is 0, and must be more than 0";
    assert_eq!(ttl(Duration::ZERO).check(), Err(refused.to_owned()));
}

/// An example of FORMAT.md section 4.
#[test]
fn blob_options_have_their_bytes() {
    let options =
        KeyspaceOptions { blob_threshold_bytes: Some(4096), ..KeyspaceOptions::default() };
    let leveled = [0, 1, 0x80, 0x20, 10, 0x80, 0x80, 0x80, 0x20, 3, 1];
    let section = [4, 3, 0x80, 0x20, 30];
    assert_eq!(options.encode(), [&leveled[..], &[0], &section].concat());
    assert_eq!(KeyspaceOptions::decode(&options.encode()), Ok(options));
}

/// The example of FORMAT.md section 4.
#[test]
fn a_prefix_filter_has_its_bytes_and_another_name_is_none() {
    let prefix_filter = Some(PrefixRule::Through(b'/'));
    let options = KeyspaceOptions { prefix_filter, ..KeyspaceOptions::default() };
    let leveled = [0, 1, 0x80, 0x20, 10, 0x80, 0x80, 0x80, 0x20, 3, 1];
    assert_eq!(options.encode(), [&leveled[..], b"\x00\x06\x0athrough:2f"].concat());
    assert_eq!(KeyspaceOptions::decode(&options.encode()), Ok(options));
    for name in [&b"\x00\x06\x05later"[..], b"\x00\x06\x01\xff"] {
        let unknown = [&leveled[..], name].concat();
        assert_eq!(KeyspaceOptions::decode(&unknown), Ok(KeyspaceOptions::default()));
    }
    let prefix_filter = Some(PrefixRule::First(0));
    let refused = "prefix_filter is first:0, and must take at least one byte";
    let options = KeyspaceOptions { prefix_filter, ..KeyspaceOptions::default() };
    assert_eq!(options.check(), Err(refused.to_owned()));
}

#[test]
fn bad_blob_options_are_refused_by_name() {
    let refused = |threshold, percent| {
        let options = KeyspaceOptions {
            blob_threshold_bytes: threshold,
            blob_waste_percent_max: percent,
            ..KeyspaceOptions::default()
        };
        options.check().unwrap_err()
    };
    assert_eq!(refused(Some(31), 30), "blob_threshold_bytes is 31, and must be at least 32");
    assert_eq!(refused(None, 0), "blob_waste_percent_max is 0, and must be from 1 to 95");
    assert_eq!(refused(Some(32), 96), "blob_waste_percent_max is 96, and must be from 1 to 95");
}

#[test]
fn bad_parameters_of_a_policy_are_refused_by_name() {
    let compaction = CompactionPolicy::Lazy(LazyOptions { runs_per_level: 1, size_multiplier: 3 });
    let options = KeyspaceOptions { compaction, ..KeyspaceOptions::default() };
    let refused = "compaction: runs_per_level is 1, and must be from 2 to 1000";
    assert_eq!(options.check(), Err(refused.to_owned()));
}
