//! `esker tour`: what the database does, on real data, in a minute.
//!
//! Loads the cities of the world into two keyspaces, then shows reads, a batch, a snapshot, what is
//! left after the program was killed while writing, and the tree. It undoes its changes, so a
//! second tour of the same directory shows the same. Any other database is refused.

mod cities;
mod kill;

use std::io::Write;
use std::path::Path;

use esker::{Db, Keyspace, KeyspaceOptions, SnapshotView};
use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::{DatabasePlace, Form};
use crate::failure::{Failure, Result};
use crate::output::Printer;
use crate::report;
use crate::text::{grouped, quoted_path, shown_path, size};
use cities::City;
pub(crate) use kill::write_until_killed;

/// Keyspace of the cities by name.
const BY_NAME: &str = "cities";
/// Keyspace of the index by country and population.
const BY_POPULATION: &str = "by-population";
/// Small memtables, so that this data already makes a tree of several levels.
const MEMTABLE_BYTES: u64 = 1 << 20;
/// Cities stored in one batch.
const BATCH_COUNT: usize = 500;
/// GeoNames id of the city shown.
const LISBON: u64 = 2_267_057;

/// Runs the tour.
pub(crate) fn run(dir: &Path, out: &mut dyn Write) -> Result<()> {
    let mut tour = Tour { out, step: 0 };
    let db = open(dir)?;
    let options = KeyspaceOptions { memtable_bytes: MEMTABLE_BYTES, ..KeyspaceOptions::default() };
    let maps = Maps {
        by_name: db.keyspace(BY_NAME, options.clone())?,
        by_population: db.keyspace(BY_POPULATION, options)?,
        db,
    };
    let lisbon = tour.load(dir, &maps)?;
    tour.get(&maps, &lisbon)?;
    tour.prefix(&maps)?;
    tour.reverse(&maps)?;
    tour.explain(&maps, &lisbon)?;
    tour.batch_and_snapshot(&maps, &lisbon)?;
    tour.tree(&maps)?;
    maps.db.close()?;
    tour.kill(dir)?;
    tour.goodbye(dir, &lisbon)
}

/// Opens the database of the tour: a new one, or that of an earlier tour. Nothing is written to any
/// other.
fn open(dir: &Path) -> Result<Db> {
    let db = crate::open::or_create(&DatabasePlace::whole(dir))?;
    let made = [BY_NAME, BY_POPULATION, kill::NUMBERS];
    // The default one is the first, and the tour puts nothing there.
    let is_ours = db.keyspaces().iter().skip(1).all(|found| made.contains(&found.as_str()));
    if is_ours && db.iter().next().transpose()?.is_none() {
        return Ok(db);
    }
    db.close()?;
    let dir = shown_path(dir);
    Err(Failure::other(format!(
        "the database in {dir} is not one of the tour: name another directory"
    )))
}

/// The database and the keyspaces that the tour uses.
struct Maps {
    db: Db,
    by_name: Keyspace,
    by_population: Keyspace,
}

impl Maps {
    /// Stores cities with their index entries: all of them or none.
    fn store(&self, cities: &[City]) -> Result<()> {
        let mut batch = self.db.batch();
        for city in cities {
            batch.put(&self.by_name, city.key(), city.value());
            batch.put(&self.by_population, city.index_key(), city.key());
        }
        Ok(batch.commit()?)
    }

    /// Changes the number of inhabitants of a city, in both keyspaces at once.
    fn change_population(&self, city: &City, population: u64) -> Result<City> {
        let changed = City { population, ..city.clone() };
        let mut batch = self.db.batch();
        batch.put(&self.by_name, changed.key(), changed.value());
        batch.delete(&self.by_population, city.index_key());
        batch.put(&self.by_population, changed.index_key(), changed.key());
        batch.commit()?;
        Ok(changed)
    }
}

struct Tour<'a> {
    out: &'a mut dyn Write,
    step: u32,
}

impl Tour<'_> {
    fn heading(&mut self, title: &str) -> Result<()> {
        self.step += 1;
        writeln!(self.out, "\n{}. {title}", self.step)?;
        self.out.flush()?;
        Ok(())
    }

    fn command(&mut self, command: &str) -> Result<()> {
        writeln!(self.out, "> {command}")?;
        Ok(())
    }

    fn entries(
        &mut self,
        entries: impl Iterator<Item = esker::Result<(esker::Key, esker::Value)>>,
    ) -> Result<()> {
        let mut printer = Printer::new(self.out, Form::default());
        for entry in entries {
            let (key, value) = entry?;
            printer.entry(&key, &value)?;
        }
        Ok(())
    }

    fn load(&mut self, dir: &Path, maps: &Maps) -> Result<City> {
        self.heading("Load every city of the world with at least 1,000 inhabitants")?;
        let (cities, bytes) = cities::all()?;
        let bar = progress(cities.len() as u64);
        for chunk in cities.chunks(BATCH_COUNT) {
            maps.store(chunk)?;
            bar.inc(chunk.len() as u64);
        }
        let seconds = bar.elapsed().as_secs_f64().max(0.001);
        bar.finish_and_clear();
        maps.db.flush()?;
        maps.db.wait_until_settled()?;
        let count = cities.len() as u64;
        writeln!(
            self.out,
            "{} cities ({} of text) in {seconds:.2} s, each written to two keyspaces in one batch: \
             {} writes a second.",
            grouped(count),
            size(bytes),
            grouped((2.0 * count as f64 / seconds) as u64)
        )?;
        writeln!(
            self.out,
            "  {BY_NAME:13}  NAME/COUNTRY/ID           -> what is known of the city"
        )?;
        writeln!(self.out, "  {BY_POPULATION:13}  COUNTRY/INHABITANTS/ID    -> the key above")?;
        writeln!(self.out, "The data is from GeoNames (geonames.org), CC-BY 4.0.")?;
        writeln!(self.out, "The database is in {}.", shown_path(dir))?;
        cities
            .into_iter()
            .find(|city| city.id == LISBON)
            .ok_or_else(|| Failure::other("the city of the tour is not among the data"))
    }

    fn get(&mut self, maps: &Maps, city: &City) -> Result<()> {
        self.heading("Get one city by its key")?;
        self.command(&format!("get {}", city.key()))?;
        let value = maps.by_name.get(city.key())?;
        let value = value.ok_or_else(|| Failure::NotFound(city.key()))?;
        Printer::new(self.out, Form::default()).entry(city.key().as_bytes(), &value)
    }

    fn prefix(&mut self, maps: &Maps) -> Result<()> {
        self.heading("Scan a prefix: every place called Paris")?;
        self.command("prefix Paris/")?;
        self.entries(maps.by_name.prefix("Paris/"))
    }

    fn reverse(&mut self, maps: &Maps) -> Result<()> {
        self.heading("Scan a range backwards: cities of Japan from 1 to 3 million, largest first")?;
        self.command("scan JP/0001000000 to JP/0003000000, reverse")?;
        self.entries(maps.by_population.scan("JP/0001000000".."JP/0003000000").rev())
    }

    fn explain(&mut self, maps: &Maps, city: &City) -> Result<()> {
        self.heading("Explain a read: what was looked at, and why")?;
        self.command(&format!("explain {}", city.key()))?;
        write!(self.out, "{}", maps.by_name.explain_get(city.key())?)?;
        let missing = "Atlantis/GR/0";
        self.command(&format!("explain {missing}"))?;
        write!(self.out, "{}", maps.by_name.explain_get(missing)?)?;
        Ok(())
    }

    fn batch_and_snapshot(&mut self, maps: &Maps, city: &City) -> Result<()> {
        self.heading("Take a snapshot, then change two keyspaces in one atomic batch")?;
        let snapshot = maps.db.snapshot();
        let changed = maps.change_population(city, city.population + 1_000)?;
        let index = format!("{}/", city.country);
        writeln!(
            self.out,
            "A thousand people moved to {}. The four largest of its country:",
            city.name
        )?;
        for (when, view) in [
            ("through the snapshot, as before", snapshot.keyspace(&maps.by_population)),
            ("now", maps.db.snapshot().keyspace(&maps.by_population)),
        ] {
            writeln!(self.out, "{when}:")?;
            self.largest(&view, &index)?;
        }
        drop(snapshot);
        maps.change_population(&changed, city.population)?;
        writeln!(self.out, "And back again, with another batch.")?;
        Ok(())
    }

    fn largest(&mut self, view: &SnapshotView, index: &str) -> Result<()> {
        for entry in view.prefix(index).rev().take(4) {
            let (key, value) = entry?;
            write!(self.out, "  ")?;
            Printer::new(self.out, Form::default()).entry(&key, &value)?;
        }
        Ok(())
    }

    fn tree(&mut self, maps: &Maps) -> Result<()> {
        self.heading("Look at the trees: tables of sorted entries, level by level")?;
        for keyspace in [&maps.by_name, &maps.by_population] {
            report::levels(keyspace, self.out)?;
        }
        let stats = maps.db.stats();
        writeln!(
            self.out,
            "Since it was opened: {} flushes, {} compactions, {} bytes written to disk for each byte \
             stored.",
            grouped(stats.counters.flushes),
            grouped(stats.counters.compactions),
            format_args!("{:.1}", stats.write_amplification())
        )?;
        Ok(())
    }

    fn kill(&mut self, dir: &Path) -> Result<()> {
        self.heading("Kill the program while it writes, and open the database again")?;
        let killed = kill::run_and_kill(dir)?;
        writeln!(
            self.out,
            "A child process wrote numbers, one batch of two keys each, and told us of each batch that \
             was acknowledged. It was killed with SIGKILL after number {}.",
            grouped(killed.acknowledged)
        )?;
        let recovered = kill::check(dir, &killed)?;
        writeln!(
            self.out,
            "Opened again in {:.1} ms: numbers up to {} are there, without a gap, and no half batch.",
            recovered.open_seconds * 1e3,
            grouped(recovered.last)
        )?;
        Ok(())
    }

    fn goodbye(&mut self, dir: &Path, city: &City) -> Result<()> {
        writeln!(self.out, "\nThe database stays in {}. Go on in the shell:", shown_path(dir))?;
        let dir = quoted_path(dir);
        writeln!(self.out, "  esker shell {dir} --keyspace {BY_NAME}")?;
        writeln!(self.out, "  esker> prefix 'San Francisco/'")?;
        writeln!(self.out, "  esker> explain {}", city.key())?;
        writeln!(self.out, "or with one command:")?;
        writeln!(
            self.out,
            "  esker scan {dir} --keyspace {BY_POPULATION} --prefix BR/ --reverse --limit 10"
        )?;
        writeln!(self.out, "In the source tree, write `cargo run --release --` for `esker`.")?;
        Ok(())
    }
}

fn progress(len: u64) -> ProgressBar {
    let template = "{bar:40} {human_pos}/{human_len} cities, {per_sec}";
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    ProgressBar::new(len).with_style(style)
}
