//! The compactions that come next, shown before they are done.
//!
//! Calls the same functions that the jobs call, and changes nothing.

use std::fmt;
use std::sync::Arc;

use esker_base::Shown;
use esker_tree::Plan;

use crate::engine::Engine;
use crate::keyspace_core::KeyspaceCore;

/// A compaction that is running, or that would begin next if nothing else happened.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct PlannedJob {
    /// Name of the keyspace.
    pub keyspace: String,
    /// Whether it is already running.
    pub is_running: bool,
    /// Why, in a word or two.
    pub reason: &'static str,
    /// How urgently the source level needs it; above 1, that level holds too much. 0 if the policy
    /// does not go by levels.
    pub score: f64,
    /// Number of input tables.
    pub table_count: usize,
    /// Bytes of their files.
    pub input_bytes: u64,
    /// The target level.
    pub target_level: usize,
    /// Whether tables only change their level, without being read.
    pub is_trivial_move: bool,
    /// Everything, on one line: inputs, target, keys, sizes.
    pub description: String,
}

impl fmt::Display for PlannedJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_running { "runs" } else { "next" };
        let keyspace = Shown::from(&*self.keyspace);
        write!(f, "{keyspace} {state}, score {:.2}: {}", self.score, self.description)
    }
}

/// Most future jobs that are listed for one keyspace.
const FORESEEN_MAX: usize = 4;

impl Engine {
    /// The running compactions and those that would begin beside them, one keyspace after another.
    pub(crate) fn planned_jobs(&self) -> Vec<PlannedJob> {
        self.keyspaces().iter().flat_map(|keyspace| self.planned_in(keyspace)).collect()
    }

    fn planned_in(&self, keyspace: &KeyspaceCore) -> Vec<PlannedJob> {
        let (mut busy, version) = {
            let busy = keyspace.busy();
            (busy.clone(), Arc::clone(&keyspace.view().version))
        };
        let shape = version.shape();
        let settings = keyspace.settings();
        let policy = settings.policy.as_ref();
        let scores = policy.map_or_else(Vec::new, |policy| policy.scores(&shape));
        let name = keyspace.name();
        let job = |plan: &Plan, is_running| PlannedJob {
            keyspace: name.to_string(),
            is_running,
            reason: plan.reason.name(),
            score: plan.inputs.first().and_then(|i| scores.get(i.level)).copied().unwrap_or(0.0),
            table_count: plan.table_count(),
            input_bytes: plan.input_bytes,
            target_level: plan.target_level,
            is_trivial_move: plan.is_trivial_move,
            description: keyspace.plan_text(plan),
        };
        let mut jobs: Vec<PlannedJob> = busy.plans().map(|plan| job(plan, true)).collect();
        for _ in 0..FORESEEN_MAX {
            let plan = self.pick_drop(keyspace, &version, &busy);
            let plan = plan.or_else(|| self.next_plan(keyspace, &shape, &busy));
            let Some(plan) = plan else { break };
            jobs.push(job(&plan, false));
            busy.start(plan);
        }
        jobs
    }
}
