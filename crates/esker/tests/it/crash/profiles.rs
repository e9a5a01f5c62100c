//! The kinds of work during which the power goes.

use esker::Durability::{Buffered, Power, Process};

use crate::workload::Profile;

pub(crate) const PROFILES: [&Profile; 5] =
    [&SEVERAL_KEYSPACES, &MANY_SEGMENTS, &NO_SYNCS, &CHANGING_KEYSPACES, &WITHOUT_LOG];

/// Which of them it is.
pub(crate) fn number(profile: &Profile) -> u64 {
    let at = PROFILES.iter().position(|other| other.name == profile.name);
    at.expect("it is one of them") as u64
}

const ALL: [u64; 4] = [1, 20_000, 40_000, 64 << 20];

pub(crate) const SEVERAL_KEYSPACES: Profile = Profile {
    name: "several keyspaces",
    step_count: 70,
    keyspaces: &["a", "b", "c"],
    memtable_bytes: &ALL,
    value_len_max: 300,
    durabilities: &[Buffered, Process, Process, Power],
    weights: [8, 3, 15, 0, 3, 4],
};

pub(crate) const MANY_SEGMENTS: Profile = Profile {
    name: "many segments",
    step_count: 70,
    keyspaces: &["a", "b"],
    memtable_bytes: &[100_000, 64 << 20],
    value_len_max: 12_000,
    durabilities: &[Buffered, Process, Process, Process, Power],
    weights: [6, 1, 12, 0, 3, 2],
};

pub(crate) const NO_SYNCS: Profile = Profile {
    name: "no syncs",
    step_count: 60,
    keyspaces: &["a"],
    memtable_bytes: &[64 << 20],
    value_len_max: 15_000,
    durabilities: &[Buffered, Process],
    weights: [0, 0, 20, 0, 2, 0],
};

pub(crate) const CHANGING_KEYSPACES: Profile = Profile {
    name: "changing keyspaces",
    step_count: 70,
    keyspaces: &["a", "b"],
    memtable_bytes: &ALL,
    value_len_max: 2_000,
    durabilities: &[Buffered, Process, Power],
    weights: [8, 4, 12, 20, 3, 3],
};

pub(crate) const WITHOUT_LOG: Profile = Profile {
    name: "without log",
    step_count: 60,
    keyspaces: &["a", "unlogged"],
    memtable_bytes: &ALL,
    value_len_max: 1_000,
    durabilities: &[Buffered, Process, Power],
    weights: [12, 3, 15, 0, 0, 3],
};
