//! Which thread goes on: a function of the seed and of what the threads did so far.
//!
//! Plain data; the threads themselves, and how they are held up, are in `baton`.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::panic::Location;
use std::thread::Thread;
use std::time::Duration;

use crate::checksum::checksum64;

/// How threads are picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// At one of so many steps, on the average, any thread that can; else the one that runs.
    Uniform {
        /// 1 for a choice at each step.
        one_in: u64,
    },
    /// The one of the largest priority. Priorities are random, and so many times the thread that
    /// runs falls behind all others, at steps that are chosen before: every bug that needs no more
    /// reversals has a fair chance to show, whatever the length of the run (the algorithm PCT).
    Priorities {
        /// How often the thread that runs falls behind.
        falls: usize,
        /// Among how many steps the falls are spread.
        among: u64,
    },
}

/// What a run depends on, beside the code.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What the choices follow from.
    pub seed: u64,
    /// How threads are picked.
    pub policy: Policy,
    /// A run of more steps than this has failed: it is going round in circles.
    pub steps_max: u64,
    /// A run of more virtual time than this has failed: its threads wait for each other, and look
    /// again from time to time in vain.
    pub time_max: Duration,
}

impl Settings {
    /// With limits that no run reaches which gets on.
    #[must_use]
    pub const fn new(seed: u64, policy: Policy) -> Self {
        Self { seed, policy, steps_max: 5_000_000, time_max: Duration::from_secs(3600) }
    }
}

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Places at which another thread could have gone on.
    pub steps: u64,
    /// How often another one did.
    pub switches: u64,
    /// Of who did what, in order.
    pub hash: u64,
    /// Virtual time that passed.
    pub time: Duration,
    /// What went wrong, with the last steps.
    pub failure: Option<String>,
}

/// What a thread waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// A lock or condition variable, by its address.
    Place(usize),
    /// The end of a thread.
    End(usize),
    /// A time.
    Time,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Status {
    Runnable,
    Waiting(Wait, Option<Duration>, &'static Location<'static>),
    Ended,
}

struct Member {
    name: String,
    status: Status,
    /// Only for [`Policy::Priorities`].
    priority: u64,
    has_timed_out: bool,
    thread: Option<Thread>,
}

/// A step that somebody took.
#[derive(Clone, Copy)]
struct Taken {
    id: usize,
    what: &'static str,
    at: &'static Location<'static>,
}

pub(crate) struct Schedule {
    settings: Settings,
    members: Vec<Member>,
    now: Duration,
    /// How much of that passed while nobody could go on.
    idle: Duration,
    steps: u64,
    switches: u64,
    hash: u64,
    /// Choices so far.
    choices: u64,
    /// Steps at which the thread that runs falls behind, the next one last.
    falls: Vec<u64>,
    /// Below all priorities given so far.
    lowest: u64,
    /// Steps that one thread took without a switch.
    stretch: u64,
    recent: VecDeque<Taken>,
    failure: Option<String>,
}

/// Steps that a failure shows.
const RECENT_COUNT: usize = 80;

/// Once in so many steps time jumps though somebody could go on.
const JUMP_ONE_IN: u64 = 512;

/// Once in so many times a wait ends for nothing.
const FOR_NOTHING_ONE_IN: u64 = 32;

/// After so many steps a thread falls behind whatever the policy: it may be waiting for another one
/// in a way that cannot be seen.
const STRETCH_MAX: u64 = 5000;

impl Schedule {
    pub(crate) fn new(settings: Settings) -> Self {
        let mut schedule = Self {
            settings,
            members: Vec::new(),
            now: Duration::ZERO,
            idle: Duration::ZERO,
            steps: 0,
            switches: 0,
            hash: settings.seed,
            choices: 0,
            falls: Vec::new(),
            lowest: u64::MAX / 2,
            stretch: 0,
            recent: VecDeque::with_capacity(RECENT_COUNT),
            failure: None,
        };
        if let Policy::Priorities { falls, among } = settings.policy {
            schedule.falls = (0..falls).map(|_| schedule.below(among)).collect();
            schedule.falls.sort_unstable_by(|a, b| b.cmp(a));
        }
        schedule
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.choices += 1;
        checksum64(self.settings.seed, &self.choices.to_le_bytes()) % bound
    }

    pub(crate) fn add(&mut self, name: &str) -> usize {
        let priority = u64::MAX / 2 + 1 + self.below(1 << 40);
        self.members.push(Member {
            name: name.to_owned(),
            status: Status::Runnable,
            priority,
            has_timed_out: false,
            thread: None,
        });
        self.members.len() - 1
    }

    pub(crate) fn set_thread(&mut self, id: usize, thread: Thread) {
        self.members[id].thread = Some(thread);
    }

    pub(crate) fn thread(&self, id: usize) -> Option<Thread> {
        self.members[id].thread.clone()
    }

    pub(crate) const fn now(&self) -> Duration {
        self.now
    }

    pub(crate) const fn idle(&self) -> Duration {
        self.idle
    }

    pub(crate) const fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn has_ended(&self, id: usize) -> bool {
        self.members[id].status == Status::Ended
    }

    pub(crate) fn has_timed_out(&self, id: usize) -> bool {
        self.members[id].has_timed_out
    }

    pub(crate) fn wakes_for_nothing(&mut self) -> bool {
        self.below(FOR_NOTHING_ONE_IN) == 0
    }

    /// What became of the run; `None` while it goes on.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        let all_ended = (0..self.members.len()).all(|id| self.has_ended(id));
        (all_ended || self.failure.is_some()).then(|| Outcome {
            steps: self.steps,
            switches: self.switches,
            hash: self.hash,
            time: self.now,
            failure: self.failure.clone(),
        })
    }

    /// The thread `id` is at a step; who goes on? Nobody, if the run has failed.
    pub(crate) fn pause(
        &mut self,
        id: usize,
        what: &'static str,
        at: &'static Location<'static>,
    ) -> Option<usize> {
        self.note(id, what, at);
        if self.settings.steps_max < self.steps {
            return self.fail("too many steps");
        }
        // One number for both choices: this is what a run does most.
        let number = self.below(u64::MAX);
        if number.is_multiple_of(JUMP_ONE_IN) {
            self.jump();
        }
        let falls = self.falls_now() || STRETCH_MAX < self.stretch;
        if falls {
            self.lowest -= 1;
            self.members[id].priority = self.lowest;
        }
        let stays = match self.settings.policy {
            Policy::Uniform { one_in } => !falls && !(number >> 32).is_multiple_of(one_in),
            Policy::Priorities { .. } => false,
        };
        if stays {
            self.stretch += 1;
            return Some(id);
        }
        self.pick(Some(id))
    }

    /// Whether the thread that runs falls behind at this step.
    fn falls_now(&mut self) -> bool {
        let mut falls = false;
        while self.falls.last().is_some_and(|step| *step <= self.steps) {
            self.falls.pop();
            falls = true;
        }
        falls
    }

    /// The thread `id` waits; who goes on?
    pub(crate) fn block(
        &mut self,
        id: usize,
        wait: Wait,
        until: Option<Duration>,
        at: &'static Location<'static>,
    ) -> Option<usize> {
        self.note(id, "wait", at);
        self.members[id].status = Status::Waiting(wait, until, at);
        self.members[id].has_timed_out = false;
        self.pick(Some(id))
    }

    /// The thread `id` has ended; who goes on? Nobody, if it was the last.
    pub(crate) fn end(&mut self, id: usize, panic: Option<String>) -> Option<usize> {
        self.members[id].status = Status::Ended;
        if let Some(panic) = panic {
            let name = self.members[id].name.clone();
            return self.fail(&format!("thread {id} ({name}) panicked: {panic}"));
        }
        self.wake_where(|wait| wait == Wait::End(id));
        let goes_on = self.members.iter().any(|member| member.status != Status::Ended);
        if goes_on { self.pick(None) } else { None }
    }

    /// Wakes those who wait at `place`: all, or one of them.
    pub(crate) fn wake(&mut self, place: usize, only_one: bool) {
        let is_there = |member: &Member| matches!(member.status, Status::Waiting(Wait::Place(at), ..) if at == place);
        if !only_one {
            return self.wake_where(|wait| wait == Wait::Place(place));
        }
        let waiting: Vec<usize> =
            (0..self.members.len()).filter(|id| is_there(&self.members[*id])).collect();
        if !waiting.is_empty() {
            let chosen = self.below(waiting.len() as u64) as usize;
            self.members[waiting[chosen]].status = Status::Runnable;
        }
    }

    fn wake_where(&mut self, is_over: impl Fn(Wait) -> bool) {
        for member in &mut self.members {
            if matches!(member.status, Status::Waiting(wait, ..) if is_over(wait)) {
                member.status = Status::Runnable;
            }
        }
    }

    fn note(&mut self, id: usize, what: &'static str, at: &'static Location<'static>) {
        self.steps += 1;
        let number = (u64::from(at.line()) << 16) | id as u64;
        self.hash = checksum64(self.hash ^ number, what.as_bytes());
        // What a panic does on its way out is not what led to it.
        if !std::thread::panicking() {
            if self.recent.len() == RECENT_COUNT {
                self.recent.pop_front();
            }
            self.recent.push_back(Taken { id, what, at });
        }
    }

    /// Picks who goes on, and lets time pass if nobody can.
    fn pick(&mut self, before: Option<usize>) -> Option<usize> {
        let mut ready = self.ready();
        let before_jump = self.now;
        if ready.is_empty() && self.jump() {
            self.idle += self.now - before_jump;
            ready = self.ready();
        }
        if ready.is_empty() {
            return self.fail("nobody can go on: somebody was not woken");
        }
        if self.settings.time_max < self.now {
            return self.fail("too much time: threads look again in vain");
        }
        let next = match self.settings.policy {
            Policy::Uniform { .. } => ready[self.below(ready.len() as u64) as usize],
            Policy::Priorities { .. } => {
                let first = ready.iter().max_by_key(|id| self.members[**id].priority);
                *first.expect("it was just looked at")
            }
        };
        if before == Some(next) {
            self.stretch += 1;
        } else {
            self.stretch = 0;
            self.switches += 1;
        }
        Some(next)
    }

    fn ready(&self) -> Vec<usize> {
        let is_ready = |id: &usize| self.members[*id].status == Status::Runnable;
        (0..self.members.len()).filter(is_ready).collect()
    }

    /// Lets time pass until the next time-out; false if there is none.
    fn jump(&mut self) -> bool {
        let until = |member: &Member| match member.status {
            Status::Waiting(_, until, _) => until,
            _ => None,
        };
        let Some(next) = self.members.iter().filter_map(until).min() else { return false };
        self.now = self.now.max(next);
        for member in &mut self.members {
            if until(member).is_some_and(|until| until <= next) {
                member.status = Status::Runnable;
                member.has_timed_out = true;
            }
        }
        true
    }

    fn fail(&mut self, what: &str) -> Option<usize> {
        if self.failure.is_none() {
            self.failure = Some(self.report(what));
        }
        None
    }

    fn report(&self, what: &str) -> String {
        let mut text = format!("{what}, at step {} and {:?}\n", self.steps, self.now);
        for (id, member) in self.members.iter().enumerate() {
            let status = match member.status {
                Status::Runnable => "can run".to_owned(),
                Status::Ended => continue,
                Status::Waiting(wait, until, at) => {
                    let limit = until.map_or(String::new(), |until| format!(" until {until:?}"));
                    let what = match wait {
                        Wait::Place(_) => String::new(),
                        Wait::End(other) => format!(" for thread {other}"),
                        Wait::Time => " for time".to_owned(),
                    };
                    format!("waits{what}{limit} at {at}")
                }
            };
            // Writing to a string cannot fail.
            writeln!(text, "  thread {id} ({}): {status}", member.name).unwrap_or_default();
        }
        text.push_str("the last steps:\n");
        for Taken { id, what, at } in &self.recent {
            writeln!(text, "  {id} {what} at {at}").unwrap_or_default();
        }
        text
    }
}
