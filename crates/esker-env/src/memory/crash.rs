//! What a file system in memory looks like after a power loss, and copies of it before one.
//!
//! A crash builds a new world from what is durable, and from what a [`CrashPolicy`] keeps of the
//! changes that no sync has covered. A write may be kept, lost, torn at sectors, or have raised
//! only the length of its file; a name may be kept or lost; a rename may also leave both names, and
//! one from directory to directory, which nothing of ours does, none.
//!
//! Changes that are kept are applied in the order in which they were made. No other order is
//! needed: each byte of a sector comes from one change or from none, and every such choice can be
//! had by losing the others.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use esker_base::checksum::Checksummer;

use super::content::Content;
use super::world::{
    DataAction, DataChange, Directory, FileData, Inode, NameAction, NameChange, Names, World,
};
use super::{MemoryFileSystem, split};
use crate::fs::normal;
use crate::random::SplitMix;

/// Unit that the disk writes whole or not at all, in bytes.
const SECTOR_LEN: u64 = 512;

/// Unit in which the disk's room is handed out, in bytes: stale contents keep their place in it.
const BLOCK_LEN: u64 = 4096;

/// Which of the states that a power loss may legally leave is found. The seed of the crash makes
/// the choices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrashPolicy {
    /// Only what is durable.
    AllLost,
    /// Everything, as after the death of the process alone.
    AllKept,
    /// Each change by the throw of a coin: lost, kept, torn at sectors, or only the length, with
    /// zeros, stale or random bytes. Of names any subset; a rename may leave both.
    Coin,
    /// One change and no other: that of number `seed` modulo
    /// [`MemoryFileSystem::pending_count`].
    OneKept,
    /// All but one, chosen as for [`CrashPolicy::OneKept`].
    OneLost,
    /// All up to one moment, as on a disk that keeps the order, of bytes and names together; the
    /// change at that moment is torn.
    Prefix,
}

impl CrashPolicy {
    /// Every policy.
    pub const ALL: [Self; 6] =
        [Self::AllLost, Self::AllKept, Self::Coin, Self::OneKept, Self::OneLost, Self::Prefix];
}

/// What becomes of one change.
#[derive(Clone, Copy)]
enum Fate {
    Lost,
    Kept,
    /// Sector by sector, or in the case of a rename both names.
    Torn,
    Grown(Fill),
}

#[derive(Clone, Copy)]
enum Fill {
    Zeros,
    Stale,
    Random,
}

/// One crash under way.
struct Crash<'a> {
    policy: CrashPolicy,
    random: SplitMix,
    /// The order numbers of all changes, ascending.
    orders: Vec<u64>,
    /// Index into `orders`, for the policies that single one out.
    chosen: usize,
    /// Files whose blocks may show up as stale contents of others, by id.
    files: BTreeMap<u64, &'a Arc<Inode>>,
}

impl MemoryFileSystem {
    /// The file system as it could be found after a power loss at this moment. Nothing in it is
    /// pending, and nobody holds a lock; this one goes on as if nothing had happened.
    #[must_use]
    pub fn crash(&self, policy: CrashPolicy, seed: u64) -> Self {
        let world = self.shared.write();
        let mut orders = pending_orders(&world);
        orders.sort_unstable();
        let choices = orders.len() + usize::from(policy == CrashPolicy::Prefix);
        let chosen = seed.checked_rem(choices as u64).unwrap_or(0) as usize;
        let files = files(&world);
        let mut crash = Crash { policy, random: SplitMix(seed), orders, chosen, files };
        let next = crash.run(&world);
        Self::from_world(next, self.shared.next_order(), self.shared.seed ^ seed)
    }

    /// A copy of everything as it is now, durable or not, that goes its own way. Locks are not
    /// copied, and handles stay with the original.
    ///
    /// # Cost
    /// The lists of pages are copied, the pages are shared.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let world = self.shared.write();
        let copy = |inode: &Inode| inode.data().clone();
        let inodes = copy_files(&files(&world), copy);
        let mut next = World::new();
        next.capacity_bytes = world.capacity_bytes;
        for (path, directory) in &world.directories {
            let pending = directory.pending.iter().map(|change| NameChange {
                order: change.order,
                action: redirect(&change.action, &inodes),
            });
            let copy = Directory {
                live: redirect_names(&directory.live, &inodes),
                durable: redirect_names(&directory.durable, &inodes),
                pending: pending.collect(),
            };
            next.directories.insert(path.clone(), copy);
        }
        Self::from_world(next, self.shared.next_order(), self.shared.seed)
    }

    /// A checksum of all that reads see: names, lengths and bytes. It is the same for file systems of
    /// the same contents, and for others once in 2^64: what two crashes have left needs to be looked
    /// at once only, if it is the same. How names are listed does not count, nor what is durable.
    ///
    /// # Cost
    /// Bytes that were written are read, room that was only reserved is not: 16 microseconds for a
    /// database of 200 KB (release build).
    #[must_use]
    pub fn digest(&self) -> u64 {
        let world = self.shared.read();
        let mut digest = Checksummer::new();
        let mut add = |bytes: &[u8]| {
            digest.update(&(bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        };
        for (path, directory) in &world.directories {
            add(path.as_os_str().as_encoded_bytes());
            for (name, inode) in &directory.live {
                add(name.as_bytes());
                inode.data().live.visit(&mut add);
            }
            // No file has such a name: the next directory begins.
            add(b"/");
        }
        digest.finish()
    }

    /// How many changes no sync has covered: bytes and names.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        pending_orders(&self.shared.write()).len()
    }

    /// Lets the bytes of the file `path`, or the names of the directory, that are not durable never become
    /// so, though they still read as written: what a failed sync does on Linux. False if there is
    /// neither.
    pub fn forget_unsynced(&self, path: &Path) -> bool {
        let full = normal(path);
        let mut world = self.shared.write();
        if let Some(directory) = world.directories.get_mut(&full) {
            directory.pending.clear();
            return true;
        }
        let (dir, name) = split(&full);
        let inode = world.directories.get(dir).and_then(|dir| dir.live.get(&name));
        inode.is_some_and(|inode| {
            inode.data().pending.clear();
            true
        })
    }
}

/// Every file that a crash may leave, by id.
fn files(world: &World) -> BTreeMap<u64, &Arc<Inode>> {
    let mut files = BTreeMap::new();
    for directory in world.directories.values() {
        let pending = directory.pending.iter().filter_map(|change| match &change.action {
            NameAction::Set { inode, .. } | NameAction::Rename { inode, .. } => Some(inode),
            NameAction::Remove { .. } => None,
        });
        let named = directory.live.values().chain(directory.durable.values());
        files.extend(named.chain(pending).map(|inode| (inode.id, inode)));
    }
    files
}

/// Where a change puts bytes.
fn written_by(action: &DataAction) -> Option<Range<u64>> {
    match action {
        DataAction::Write { offset, bytes } => Some(*offset..offset + bytes.len() as u64),
        DataAction::Extend(_) | DataAction::SetLen(_) => None,
    }
}

/// What `actions` write of `within`, in order and without overlaps. The rest of it is holes, which have no
/// block that could hold anything.
fn written_parts<'a>(
    actions: impl Iterator<Item = &'a DataAction>,
    within: Range<u64>,
) -> Vec<Range<u64>> {
    let clipped = |range: Range<u64>| range.start.max(within.start)..range.end.min(within.end);
    let mut written: Vec<Range<u64>> = actions.filter_map(written_by).map(clipped).collect();
    written.retain(|range| !range.is_empty());
    written.sort_unstable_by_key(|range| range.start);
    let mut parts: Vec<Range<u64>> = Vec::new();
    for range in written {
        match parts.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => parts.push(range),
        }
    }
    parts
}

fn pending_orders(world: &World) -> Vec<u64> {
    let names = world.directories.values().flat_map(|directory| &directory.pending);
    let mut orders: Vec<u64> = names.map(|change| change.order).collect();
    for inode in files(world).values() {
        orders.extend(inode.data().pending.iter().map(|change| change.order));
    }
    orders
}

type Copies = BTreeMap<u64, Arc<Inode>>;

fn copy_files(
    files: &BTreeMap<u64, &Arc<Inode>>,
    mut copy: impl FnMut(&Inode) -> FileData,
) -> Copies {
    files.iter().map(|(id, inode)| (*id, Inode::new(*id, copy(inode)))).collect()
}

/// The copy that stands for `inode` in the new world.
fn redirect_inode(inode: &Inode, copies: &Copies) -> Arc<Inode> {
    Arc::clone(copies.get(&inode.id).expect("every file that has a name is copied"))
}

fn redirect_names(names: &Names, copies: &Copies) -> Names {
    let copy =
        |(name, inode): (&String, &Arc<Inode>)| (name.clone(), redirect_inode(inode, copies));
    names.iter().map(copy).collect()
}

fn redirect(action: &NameAction, copies: &Copies) -> NameAction {
    match action {
        NameAction::Set { name, inode } => {
            NameAction::Set { name: name.clone(), inode: redirect_inode(inode, copies) }
        }
        NameAction::Remove { name } => NameAction::Remove { name: name.clone() },
        NameAction::Rename { from, to, inode } => NameAction::Rename {
            from: from.clone(),
            to: to.clone(),
            inode: redirect_inode(inode, copies),
        },
    }
}

impl Crash<'_> {
    fn run(&mut self, world: &World) -> World {
        let files = self.files.clone();
        let copies = copy_files(&files, |inode| {
            let data = inode.data().clone();
            let survived = self.file(&data);
            FileData { live: survived.clone(), durable: survived, pending: Vec::new() }
        });
        let mut next = World::new();
        next.capacity_bytes = world.capacity_bytes;
        for (path, directory) in &world.directories {
            let names = self.names(directory, &copies);
            let copy = Directory { live: names.clone(), durable: names, pending: Vec::new() };
            next.directories.insert(path.clone(), copy);
        }
        next
    }

    fn names(&mut self, directory: &Directory, copies: &Copies) -> Names {
        let mut names = redirect_names(&directory.durable, copies);
        for change in &directory.pending {
            let action = redirect(&change.action, copies);
            match (self.fate(change.order), action) {
                (Fate::Kept, action) => action.apply(&mut names),
                (Fate::Torn, NameAction::Rename { to, inode, .. }) => {
                    names.insert(to, inode);
                }
                // The other actions on names are whole or not at all.
                (Fate::Grown(_), action) if self.random.coin() => action.apply(&mut names),
                _ => {}
            }
        }
        names
    }

    fn file(&mut self, data: &FileData) -> Content {
        let mut content = data.durable.clone();
        for (index, change) in data.pending.iter().enumerate() {
            match self.fate(change.order) {
                Fate::Lost => {}
                Fate::Kept => change.action.apply(&mut content),
                Fate::Torn => self.tear(&change.action, &mut content),
                Fate::Grown(fill) => {
                    self.grow(fill, &data.pending[..index], &change.action, &mut content);
                }
            }
        }
        content
    }

    fn fate(&mut self, order: u64) -> Fate {
        let kept_if = |kept| if kept { Fate::Kept } else { Fate::Lost };
        let chosen = self.orders.get(self.chosen);
        match self.policy {
            CrashPolicy::AllLost => Fate::Lost,
            CrashPolicy::AllKept => Fate::Kept,
            CrashPolicy::OneKept => kept_if(chosen == Some(&order)),
            CrashPolicy::OneLost => kept_if(chosen != Some(&order)),
            CrashPolicy::Prefix => match chosen {
                Some(chosen) if order == *chosen => Fate::Torn,
                chosen => kept_if(chosen.is_none_or(|chosen| order < *chosen)),
            },
            CrashPolicy::Coin => match self.random.below(8) {
                0 | 1 => Fate::Lost,
                2 | 3 => Fate::Kept,
                4 => Fate::Torn,
                5 => Fate::Grown(Fill::Zeros),
                6 => Fate::Grown(Fill::Stale),
                _ => Fate::Grown(Fill::Random),
            },
        }
    }

    /// Applies the sectors of a write that the coin keeps. Other changes are not torn.
    fn tear(&mut self, action: &DataAction, content: &mut Content) {
        let DataAction::Write { offset, bytes } = action else {
            if self.random.coin() {
                action.apply(content);
            }
            return;
        };
        let mut at = *offset;
        let mut rest: &[u8] = bytes;
        while !rest.is_empty() {
            let len = (SECTOR_LEN - at % SECTOR_LEN).min(rest.len() as u64);
            let (sector, after) = rest.split_at(len as usize);
            if self.random.coin() {
                content.write_at(at, sector);
            }
            (at, rest) = (at + len, after);
        }
    }

    /// Raises the length as far as the change does, without its bytes. `earlier` are the changes before
    /// it, of which some are lost.
    fn grow(
        &mut self,
        fill: Fill,
        earlier: &[DataChange],
        action: &DataAction,
        content: &mut Content,
    ) {
        // Room reserved is never given out before it reads as zeros.
        if let DataAction::Extend(len) | DataAction::SetLen(len) = action {
            return content.extend(*len);
        }
        let writes = earlier.iter().map(|change| &change.action).chain([action]);
        let end = written_by(action).map_or(0, |written| written.end);
        for Range { start: from, end: to } in written_parts(writes, content.len()..end) {
            let mut bytes = vec![0; (to - from) as usize];
            match fill {
                Fill::Zeros => {}
                Fill::Random => self.random.fill(&mut bytes),
                Fill::Stale => self.read_stale(from, &mut bytes),
            }
            content.write_at(from, &bytes);
        }
    }

    /// What some block of another file holds, at the same place inside the block.
    fn read_stale(&mut self, offset: u64, bytes: &mut [u8]) {
        let nth = self.random.below(self.files.len().max(1) as u64) as usize;
        let Some(inode) = self.files.values().nth(nth) else { return };
        let live = inode.data().live.clone();
        let block = self.random.below(live.len() / BLOCK_LEN + 1);
        live.read_at(block * BLOCK_LEN + offset % BLOCK_LEN, bytes);
    }
}
