//! Law 6: compaction changes no answer. Random writes, snapshots, flushes and plans.

use std::ops::Bound;

use esker_base::checksum::hash_key;
use esker_table::{Compression, NoTrace};

use super::*;
use crate::blob_account::pick_blob_waste;
use crate::blob_options::{BlobBound, BlobOptions};
use crate::plan::Busy;
use crate::split::split;
use crate::test_tree::visible_contents;

/// A tree with everything ever written to it, and who reads.
struct World {
    tree: TestTree,
    random: TestRandom,
    written: Vec<Entry>,
    /// Entries of each memtable that is not flushed, the oldest first.
    memtables: Vec<Vec<Entry>>,
    seqno: u64,
    /// Up to where readers may stand.
    visible: u64,
    snapshots: Vec<SeqNo>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            tree: TestTree::new(),
            random: TestRandom::new(seed),
            written: Vec::new(),
            memtables: Vec::new(),
            seqno: 0,
            visible: 0,
            snapshots: Vec::new(),
        };
        // Every other tree has all its values in tables.
        if seed % 2 == 1 {
            world.change_blob_options();
        }
        world
    }

    fn change_blob_options(&mut self) {
        let random = &mut self.random;
        self.tree.blobs = BlobOptions {
            threshold_bytes: (!random.one_in(6)).then(|| 10 + random.below(50)),
            bound: BlobBound { waste_percent_max: 5 + random.below(60) as u32, due_millis: None },
            compression: Compression::Lz4,
            file_bytes_max: 500 + random.below(3000),
        };
    }

    /// The plan against garbage in blob files.
    fn blob_plan(&self) -> Option<Plan> {
        pick_blob_waste(&self.tree.version.shape(), &Busy::new(), self.tree.blobs.bound, 2000)
    }

    /// Follows plans against garbage in blob files until there is none left.
    fn bound_blob_waste(&mut self) -> usize {
        let mut count = 0;
        while let Some(plan) = self.blob_plan() {
            self.tree.compact(&plan, &self.readers());
            self.check("against garbage");
            count += 1;
            assert!(count < 200, "it ends: {plan}");
        }
        let account = self.tree.account();
        let (garbage, all) = (account.garbage_bytes(), account.record_bytes());
        let percent = u64::from(self.tree.blobs.bound.waste_percent_max);
        assert!(garbage * 100 <= all * percent, "{garbage} of {all} is more than {percent} %");
        count
    }

    fn write_memtable(&mut self) {
        let random = &mut self.random;
        let mut entries = Vec::new();
        for _ in 0..1 + random.below(60) {
            self.seqno += 1;
            let key = random.key(2, 5);
            let entry = if random.one_in(12) {
                let end = if random.one_in(4) { Vec::new() } else { random.key(2, 5) };
                Entry::new(&key, self.seqno, EntryKind::RangeTombstone, &end)
            } else if random.one_in(3) {
                Entry::new(&key, self.seqno, EntryKind::Tombstone, b"")
            } else {
                let value = vec![self.seqno as u8; random.below(60) as usize];
                Entry::new(&key, self.seqno, EntryKind::Put, &value)
            };
            entries.push(entry);
        }
        self.written.extend_from_slice(&entries);
        self.memtables.push(entries);
    }

    /// Writes a few entries or range tombstones that are near to each other, and flushes them.
    fn flush_narrow(&mut self) {
        let random = &mut self.random;
        let prefix = b'a' + random.below(20) as u8;
        let mut entries = Vec::new();
        for _ in 0..1 + random.below(3) {
            self.seqno += 1;
            let key = [prefix, b'a' + random.below(5) as u8];
            let (kind, value) = match random.below(8) {
                0 => (EntryKind::RangeTombstone, [key.as_slice(), b"x"].concat()),
                1 | 2 => (EntryKind::Tombstone, Vec::new()),
                _ => (EntryKind::Put, vec![self.seqno as u8; random.below(60) as usize]),
            };
            entries.push(Entry::new(&key, self.seqno, kind, &value));
        }
        self.written.extend_from_slice(&entries);
        self.memtables.push(entries);
        self.flush();
    }

    /// Readers come and go. The latest view may lag behind what is written.
    fn change_readers(&mut self) {
        let random = &mut self.random;
        self.visible += random.below(self.seqno - self.visible + 1);
        if random.one_in(2) {
            self.snapshots.push(seqno(self.visible));
        }
        if random.one_in(2) && !self.snapshots.is_empty() {
            let gone = random.below(self.snapshots.len() as u64) as usize;
            self.snapshots.remove(gone);
        }
    }

    fn readers(&self) -> Readers {
        Readers::new(&self.snapshots, seqno(self.visible))
    }

    fn flush(&mut self) {
        let readers = self.readers();
        let memtables: Vec<_> =
            self.memtables.drain(..).map(|entries| memtable_of(&entries)).collect();
        let table_bytes_max = 500 + self.random.below(3000);
        self.tree.flush(&memtables, &readers, table_bytes_max);
    }

    /// Drops what range tombstones make needless; how many tables.
    fn drop_tables(&mut self) -> usize {
        let busy = crate::plan::Busy::new();
        let plan = crate::range_drops::pick_drop(&self.tree.version, &busy, &self.readers());
        let Some(plan) = plan.unwrap() else { return 0 };
        self.tree.remove(&plan.tables().collect::<Vec<_>>());
        plan.table_count()
    }

    /// Some tables, and all that must come along so that the order of entries is kept.
    fn random_plan(&mut self) -> Option<Plan> {
        let random = &mut self.random;
        let version = &self.tree.version;
        let all = places(version);
        let (chosen, _) = *all.get(random.below(all.len() as u64) as usize)?;
        let levels = version.levels().len() as u64;
        let target_level = chosen.level + random.below(levels - chosen.level as u64) as usize;
        let target_run = random_run(version, target_level, random);
        let target = Position::of(target_level, target_run.unwrap_or(RunId(u64::MAX)));
        let odds = 1 + random.below(4);
        let mut inputs: BTreeSet<TableId> = all
            .iter()
            .filter(|(place, _)| *place == chosen && random.one_in(odds))
            .map(|(_, table)| table.id)
            .collect();
        loop {
            let count = inputs.len();
            for input in &all {
                for other in &all {
                    if inputs.contains(&input.1.id) && is_passed(other, input, target) {
                        inputs.insert(other.1.id);
                    }
                }
            }
            if inputs.len() == count {
                break;
            }
        }
        let mut plan = plan_of(&self.tree, &inputs, target_level, target_run);
        for _ in 0..random.below(3) {
            plan.cut_keys.push(random.key(2, 5));
        }
        // Tables of the target run that are left where they are may stand between the inputs.
        let run = self.tree.version.levels()[target_level].runs();
        let run = run.iter().filter(|run| Some(run.id()) == target_run);
        let tables = run.flat_map(|run| run.tables()).map(|table| table.properties());
        plan.cut_keys.extend(tables.map(|table| table.smallest_key.clone()));
        plan.cut_keys.sort();
        plan.cut_keys.dedup();
        plan.output_bytes_max = 500 + random.below(3000);
        (!inputs.is_empty()).then_some(plan)
    }

    /// A merge of tables that might as well be moved, from anywhere to a deeper level.
    fn random_move(&mut self) -> Option<Plan> {
        let random = &mut self.random;
        let version = &self.tree.version;
        let target_level = 1 + random.below(version.levels().len() as u64 - 1) as usize;
        let target_run = random_run(version, target_level, random);
        let target = Position::of(target_level, target_run.unwrap_or(RunId(u64::MAX)));
        let all = places(version);
        let inputs: BTreeSet<TableId> = all
            .iter()
            .filter(|table| table.0.level < target_level)
            .filter(|table| !all.iter().any(|other| is_passed(other, table, target)))
            .filter(|_| random.one_in(2))
            .map(|(_, table)| table.id)
            .collect();
        let plan = plan_of(&self.tree, &inputs, target_level, target_run);
        let plan = Plan { is_trivial_move: true, ..plan };
        (!inputs.is_empty()).then(|| plan.as_merge(&version.shape()))
    }

    /// Carries out a merge instead of a move, whose outputs must stay within the bounds of inputs: anything
    /// may stand between two. How many inputs there were.
    fn merge_moved(&mut self, plan: &Plan) -> usize {
        let inputs: BTreeSet<TableId> = plan.tables().collect();
        let tables = self.tree.version.tables().map(|table| Arc::clone(table.properties()));
        let inputs: Vec<_> = tables.filter(|table| inputs.contains(&table.id)).collect();
        let (output, _) = self.compact(plan);
        for added in &output.added {
            let is_within = |input: &Arc<TableProperties>| {
                input.smallest_key <= added.smallest_key && added.largest_key <= input.largest_key
            };
            assert!(inputs.iter().any(is_within), "{plan}: {}", added.id);
        }
        inputs.len()
    }

    /// Parts of `plan`: by the indexes of the inputs, or anywhere.
    fn random_parts(&mut self, plan: &Plan) -> Vec<PartRange> {
        let random = &mut self.random;
        if random.one_in(2) {
            return split(&self.tree.version, plan, random.below(6) as usize, 1).unwrap();
        }
        let mut cuts: Vec<_> = (0..random.below(4)).map(|_| random.key(2, 5)).collect();
        cuts.retain(|cut| !cut.is_empty());
        cuts.sort();
        cuts.dedup();
        PartRange::between(&cuts)
    }

    /// Carries out `plan` in parts, and makes sure that nothing comes out but what comes out whole.
    /// How many parts there were.
    fn compact(&mut self, plan: &Plan) -> (CompactionOutput, usize) {
        let readers = self.readers();
        let parts = self.random_parts(plan);
        let before = self.tree.files().0;
        let whole = self.tree.try_compact(plan, &readers).unwrap();
        let (expected, expected_ranges) = self.held(&whole);
        for name in self.tree.files().0.difference(&before) {
            self.tree.context.fs.remove(&self.tree.context.dir.join(name)).unwrap();
        }
        let output = self.tree.try_compact_in(plan, &readers, &parts).unwrap();
        let (entries, ranges) = self.held(&output);
        assert_eq!(entries, expected, "{plan} in {parts:?}");
        for key in (0..20).map(|_| self.random.key(2, 5)) {
            let seqnos = |ranges: &Fragments| ranges.fragment(&key).map(|f| f.seqnos.clone());
            assert_eq!(seqnos(&ranges), seqnos(&expected_ranges), "{plan} in {parts:?}: {key:?}");
        }
        let counts = |output: &CompactionOutput| (output.entries_in, output.entries_dropped);
        assert_eq!(counts(&output), counts(&whole), "{plan} in {parts:?}");
        assert_eq!(output.bytes_read, whole.bytes_read);
        self.tree.install_output(plan, &output);
        (output, parts.len())
    }

    /// Entries of the outputs, with the values that are in blob files, and range tombstones.
    fn held(&self, output: &CompactionOutput) -> (Vec<Entry>, Fragments) {
        let added = output.added.iter().cloned().map(Arc::new);
        let tables: Vec<Arc<Table>> = added
            .map(|table| Arc::new(Table::new(Arc::clone(&self.tree.context), table)))
            .collect();
        let ranges = tables.iter().filter_map(|table| table.ranges().unwrap());
        let ranges = Fragments::of(ranges.flat_map(Fragments::tombstones).collect());
        let mut entries = self.tree.entries_of(tables.iter());
        for entry in &mut entries {
            if entry.key().kind() == EntryKind::BlobReference {
                entry.value = self.tree.reads.blob(&entry.user_key, &entry.value).unwrap().to_vec();
            }
        }
        (entries, ranges)
    }

    /// Every reader sees what was written, of what is flushed.
    fn check(&mut self, context: &str) {
        let in_memory = self.memtables.iter().map(Vec::len).sum::<usize>();
        let flushed = &self.written[..self.written.len() - in_memory];
        let later = (self.visible..=self.seqno).step_by(7).map(seqno);
        for reader in self.snapshots.iter().copied().chain(later) {
            let range = match self.random.below(3) {
                0 => KeyRange {
                    start: Bound::Included(self.random.key(2, 5)),
                    end: Bound::Excluded(self.random.key(2, 5)),
                },
                _ => KeyRange::all(),
            };
            let expected = visible_contents(flushed, reader, &range);
            assert_eq!(self.tree.contents(reader, &range), expected, "{context} at {reader}");
            let key = self.random.key(2, 5);
            let point =
                KeyRange { start: Bound::Included(key.clone()), end: Bound::Included(key.clone()) };
            let expected = visible_contents(flushed, reader, &point).pop().map(|(_, value)| value);
            assert_eq!(self.get(&key, reader), expected, "{context} at {reader} {key:?}");
        }
        let (files, known) = self.tree.files();
        assert_eq!(files, known, "{context}");
    }

    /// A point read: the first table that knows the key decides.
    fn get(&self, key: &[u8], reader: SeqNo) -> Option<Vec<u8>> {
        for (_, table) in self.tree.version.candidates(key) {
            let covering = table.covering(key, reader).unwrap();
            if let Some(entry) = table.get(key, hash_key(key), reader, &mut NoTrace).unwrap() {
                let is_covered = covering.is_some_and(|covering| entry.trailer.seqno() < covering);
                return match entry.trailer.kind() {
                    _ if is_covered => None,
                    EntryKind::Put => Some(entry.value.to_vec()),
                    EntryKind::BlobReference => {
                        let value = self.tree.reads.blob(key, &entry.value).unwrap();
                        Some(value.to_vec())
                    }
                    _ => None,
                };
            }
            if covering.is_some() {
                return None;
            }
        }
        None
    }
}

/// A table and where it stands.
type Placed<'a> = (Position, &'a Arc<TableProperties>);

fn places(version: &Version) -> Vec<Placed<'_>> {
    let mut all = Vec::new();
    for (level, runs) in version.levels().iter().enumerate() {
        for run in runs.runs() {
            let place = Position::of(level, run.id());
            all.extend(run.tables().iter().map(|table| (place, table.properties())));
        }
    }
    all
}

/// One of the runs of a level, or none.
fn random_run(version: &Version, level: usize, random: &mut TestRandom) -> Option<RunId> {
    let runs = version.levels()[level].runs();
    let run = runs.get(random.below(runs.len() as u64) as usize);
    run.filter(|_| !random.one_in(4)).map(|run| run.id())
}

/// Whether `table` may not go to `target` without `other`, which overlaps it.
fn is_passed(&(place, other): &Placed<'_>, &(from, table): &Placed<'_>, target: Position) -> bool {
    let overlaps =
        table.smallest_key <= other.largest_key && other.smallest_key <= table.largest_key;
    let is_between = (place < from) != (place < target) || place == target;
    overlaps && place != from && is_between
}

#[test]
fn compaction_changes_no_answer() {
    let (mut dropped, mut zeroed, mut dropped_tables, mut cut) = (0, 0, 0, 0);
    let (mut separated, mut against_garbage) = (0, 0);
    for seed in 0..60 {
        let mut world = World::new(seed);
        for step in 0..40 {
            let context = format!("seed {seed} step {step}");
            world.change_readers();
            match world.random.below(6) {
                0 if seed % 2 == 1 => {
                    world.change_blob_options();
                    against_garbage += world.bound_blob_waste();
                }
                0 | 1 => world.write_memtable(),
                2 => world.flush(),
                3 => dropped_tables += world.drop_tables(),
                _ => {
                    if let Some(plan) = world.random_plan() {
                        let (output, part_count) = world.compact(&plan);
                        dropped += output.entries_dropped;
                        cut += usize::from(part_count > 1);
                    }
                }
            }
            world.check(&context);
            separated += world.tree.account().files().map(|file| file.count).sum::<u64>();
        }
        // All of it to the last level, with nobody reading but the latest view.
        world.flush();
        world.snapshots.clear();
        world.visible = world.seqno;
        let plan = plan_of_all(&world.tree, 6);
        world.tree.compact(&plan, &world.readers());
        world.check("at the end");
        against_garbage += world.bound_blob_waste();
        let entries = world.tree.entries();
        let has_ranges = |table: &Arc<Table>| table.properties().extras.ranges.is_some();
        assert!(!world.tree.version.tables().any(has_ranges), "seed {seed}: all are spent");
        let everything = KeyRange::all();
        let expected = visible_contents(&world.written, seqno(world.seqno), &everything);
        assert_eq!(entries.len(), expected.len(), "seed {seed}: only what is visible is left");
        assert!(entries.iter().all(|entry| entry.key().seqno() == SeqNo::ZERO));
        zeroed += entries.len();
    }
    assert!(dropped > 1000 && zeroed > 300, "{dropped} {zeroed}");
    assert!(dropped_tables > 50, "{dropped_tables} tables");
    assert!(separated > 5000 && against_garbage > 10, "{separated} {against_garbage}");
    assert!(cut > 200, "{cut} compactions in parts");
}

#[test]
fn a_merge_instead_of_a_move_reaches_over_nothing() {
    let (mut joined, mut alone) = (0, 0);
    for seed in 0..40 {
        let mut world = World::new(2 * seed);
        for step in 0..60 {
            world.change_readers();
            if !world.random.one_in(3) {
                world.flush_narrow();
            } else if let Some(plan) = world.random_move() {
                let count = world.merge_moved(&plan);
                joined += usize::from(count > 1);
                alone += usize::from(count == 1);
            }
            world.check(&format!("seed {seed} step {step}"));
        }
    }
    assert!(joined > 100 && alone > 100, "{joined} {alone}");
}
