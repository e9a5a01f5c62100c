//! Runs a policy: a flush, then all that it plans until it plans nothing.

use std::fmt;
use std::time::Duration;

use esker_tree::{Busy, Plan, PlanReason, Policy};

use crate::figures::Figures;
use crate::keys::{RandomStretches, Stretch};
use crate::picture::{Picture, Rows, TablePicture};
use crate::tree::Tree;

/// The initial settings of a simulation.
#[derive(Debug)]
pub struct Setup {
    /// The policy.
    pub policy: Box<dyn Policy>,
    /// How trees are shown and counted.
    pub rows: Rows,
    /// The size assumed for a table, in bytes.
    pub table_bytes: u64,
    /// With a seed, flushes hold random ranges of keys; without, each holds all keys.
    pub seed: Option<u64>,
    /// Time from one flush to the next.
    pub interval: Duration,
}

/// A running policy.
#[derive(Debug)]
pub struct Simulation {
    policy: Box<dyn Policy>,
    rows: Rows,
    stretches: Option<RandomStretches>,
    interval: Duration,
    now: Duration,
    tree: Tree,
    flushes: u64,
    tables_written: u64,
    peak_tables: u64,
}

/// A flush and what followed from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Its number, from 0.
    pub iteration: u64,
    /// The tree including the flushed table.
    pub after_flush: Picture,
    /// In order.
    pub compactions: Vec<Compaction>,
    /// All counts up to here.
    pub figures: Figures,
}

/// One executed plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compaction {
    /// Why.
    pub reason: PlanReason,
    /// The rows of its inputs, with the tables.
    pub inputs: Vec<(String, Vec<TablePicture>)>,
    /// What was written.
    pub outputs: Vec<TablePicture>,
    /// Whether the inputs were dropped.
    pub is_drop: bool,
    /// The tree afterwards.
    pub after: Picture,
}

/// Why a simulation cannot continue: the policy is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The step in which it happened.
    pub iteration: u64,
    /// What the policy did.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in iteration {}: {}", self.iteration, self.what)
    }
}

impl std::error::Error for Failure {}

impl Simulation {
    /// A simulation of an empty tree.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            policy: setup.policy,
            rows: setup.rows,
            stretches: setup.seed.map(RandomStretches::new),
            interval: setup.interval,
            now: Duration::ZERO,
            tree: Tree::new(setup.table_bytes),
            flushes: 0,
            tables_written: 0,
            peak_tables: 0,
        }
    }

    /// How trees are shown and counted.
    #[must_use]
    pub const fn rows(&self) -> Rows {
        self.rows
    }

    /// Flushes one table and executes all that the policy plans.
    ///
    /// # Errors
    /// If the policy does not come to rest, plans what is impossible, or breaks the order of a
    /// level or of the entries of a key.
    pub fn step(&mut self) -> Result<Step, Failure> {
        let iteration = self.flushes;
        self.steps(iteration).map_err(|what| Failure { iteration, what })
    }

    fn steps(&mut self, iteration: u64) -> Result<Step, String> {
        let stretch = self.stretches.as_mut().map_or(Stretch::ALL, RandomStretches::next);
        self.tree.flush(stretch, self.now);
        self.flushes += 1;
        self.tables_written += 1;
        self.peak_tables = self.peak_tables.max(self.tree.table_count());
        self.tree.check()?;
        let after_flush = self.tree.picture(self.rows);
        let mut compactions = Vec::new();
        // A leveled policy may take one table at a time, each through every level.
        let most = 64 + 8 * self.tree.table_count();
        while let Some(plan) = self.policy.pick(&self.tree.shape, &Busy::new(), self.now) {
            if compactions.len() as u64 >= most {
                let name = self.policy.name();
                return Err(format!(
                    "the policy {name} does not converge: {most} compactions after one flush, and \
                     it still plans {plan}"
                ));
            }
            compactions.push(self.carry_out(&plan)?);
        }
        self.now = self.now.saturating_add(self.interval);
        Ok(Step { iteration, after_flush, compactions, figures: self.figures() })
    }

    fn carry_out(&mut self, plan: &Plan) -> Result<Compaction, String> {
        let inputs = self.inputs(plan);
        let done = self.tree.carry_out(plan)?;
        self.tables_written += done.outputs.len() as u64;
        self.peak_tables = self.peak_tables.max(done.peak_tables);
        self.tree.check().map_err(|what| format!("{what}, after {plan}"))?;
        Ok(Compaction {
            reason: plan.reason,
            inputs: inputs?,
            outputs: done.outputs,
            is_drop: plan.is_drop,
            after: self.tree.picture(self.rows),
        })
    }

    /// The inputs by row, without those that the tree does not have.
    fn inputs(&self, plan: &Plan) -> Result<Vec<(String, Vec<TablePicture>)>, String> {
        if !plan.fits(&self.tree.shape) {
            return Err(format!("the tree does not have the inputs of the plan: {plan}"));
        }
        let mut rows: Vec<(String, Vec<TablePicture>)> = Vec::new();
        for input in &plan.inputs {
            let tables: Vec<_> = input.tables.iter().map(|&id| self.tree.table(id)).collect();
            let name = match self.rows {
                Rows::Levels(_) => self.rows.level_name(input.level),
                Rows::Tiers => format!("L{}", tables.first().map_or(0, |table| table.id)),
            };
            match rows.last_mut() {
                Some((last, others)) if *last == name => others.extend(tables),
                _ => rows.push((name, tables)),
            }
        }
        Ok(rows)
    }

    /// All counts up to here.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let shape = self.rows.counts(&self.tree.picture(self.rows));
        let below = shape.iter().skip(1).filter(|&&count| count > 0).count() as u64;
        Figures {
            flushes: self.flushes,
            tables_written: self.tables_written,
            peak_tables: self.peak_tables,
            read_amplification: shape.first().copied().unwrap_or(0) + below,
            shape,
        }
    }
}

#[cfg(test)]
mod tests;
