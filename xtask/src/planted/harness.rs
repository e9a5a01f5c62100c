//! A harness: some tests of one program, run with one defect enabled or with none.

use std::fmt;
use std::process::{Command, Stdio};

use super::binaries::Binaries;

/// A run that takes more seconds than this hangs: the slowest takes five minutes of one processor.
const SECONDS_MAX: u32 = 1200;

/// The exit status of `timeout` for a program that it ended.
const TIMED_OUT: i32 = 124;

/// Tests of the whole engine by module: the name of the group, and what the names of its tests
/// start with.
const GROUPS: [(&str, &[&str]); 6] = [
    ("simulator", &["baton::"]),
    ("model", &["model::"]),
    ("faults", &["faults::"]),
    ("kinds", &["kinds::", "ttl::", "orders::", "ingest::", "bulk_load::", "deletes::"]),
    ("damage", &["damage::"]),
    ("crash", &["crash::", "kill::"]),
];

/// Some tests of one program.
#[derive(Clone)]
pub(super) struct Harness {
    name: String,
    package: String,
    target: String,
    /// Runs tests whose names contain one of these; all, if there are none.
    filters: Vec<&'static str>,
    /// But not tests whose names contain one of these.
    skips: Vec<&'static str>,
    /// The only one of these tests that is run, if given.
    test: Option<String>,
}

/// The result of a run.
#[derive(PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    /// The first test that failed, or what else happened.
    Failed(String),
}

impl Harness {
    /// The harnesses for a defect in the file `site`, in order: the one test `known` to find it,
    /// then all tests of its own package, then those of the whole engine.
    pub(super) fn in_order(site: &str, known: Option<&str>) -> Vec<Self> {
        let package = site.split('/').nth(1).unwrap_or_default();
        let own = |target: String| Self {
            name: format!("tests of {package}"),
            package: package.to_owned(),
            target,
            filters: Vec::new(),
            skips: Vec::new(),
            test: None,
        };
        let mut all = vec![own(package.replace('-', "_"))];
        if package != "esker" {
            all.push(own("it".to_owned()));
        }
        if package == "esker-cli" {
            all.push(own("esker (program)".to_owned()));
        }
        all.extend(GROUPS.map(|(name, filters)| Self::whole(name, filters, Vec::new())));
        let others = GROUPS.iter().flat_map(|(_, filters)| filters.iter().copied()).collect();
        all.push(Self::whole("other tests of the whole", &[], others));
        let programs = [
            ("concurrency", "esker", "threads"),
            ("differential", "esker-torture", "differential"),
        ];
        all.extend(programs.map(|(name, package, target)| Self {
            name: name.to_owned(),
            package: package.to_owned(),
            target: target.to_owned(),
            filters: Vec::new(),
            skips: Vec::new(),
            test: None,
        }));
        let known = known.and_then(|known| known.split_once(": "));
        let test = |text: &str| Some(text.split_once('`')?.1.strip_suffix('`')?.to_owned());
        if let Some((name, Some(test))) = known.map(|(name, how)| (name, test(how))) {
            let alone = all.iter().filter(|harness| harness.name == name);
            let alone = alone.map(|harness| Self { test: Some(test.clone()), ..harness.clone() });
            all.splice(..0, alone.collect::<Vec<_>>());
        }
        all
    }

    /// Tests of the whole engine whose names contain one of `filters` and none of `skips`.
    fn whole(name: &str, filters: &[&'static str], skips: Vec<&'static str>) -> Self {
        Self {
            name: name.to_owned(),
            package: "esker".to_owned(),
            target: "it".to_owned(),
            filters: filters.to_vec(),
            skips,
            test: None,
        }
    }

    /// The harness over the whole engine with this name.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn of_the_whole(name: &str) -> Result<Self, String> {
        let group = GROUPS.iter().find(|(other, _)| *other == name);
        let (name, filters) = group.ok_or_else(|| {
            let names: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
            format!("no harness is named {name}, but {}", names.join(", "))
        })?;
        Ok(Self::whole(name, filters, Vec::new()))
    }

    /// Distinguishes it from all others.
    pub(super) fn key(&self) -> String {
        format!("{} {} {}", self.target, self.name, self.test.as_deref().unwrap_or_default())
    }

    /// Runs the tests with `defect` enabled; also passed if there is no such program.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub(super) fn run(&self, binaries: &Binaries, defect: Option<&str>) -> Result<Verdict, String> {
        let Some((program, dir)) = binaries.find(&self.package, &self.target) else {
            return Ok(Verdict::Passed);
        };
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &SECONDS_MAX.to_string()]).arg(program);
        if let Some(test) = &self.test {
            command.args(["--exact", test]);
        } else {
            command.args(&self.filters);
            self.skips.iter().for_each(|skip| {
                command.args(["--skip", skip]);
            });
        }
        // Failures need not be shrunk here.
        command.env("ESKER_SHRINK", "0").env_remove("ESKER_PLANTED");
        if let Some(defect) = defect {
            command.env("ESKER_PLANTED", defect);
        }
        command.env("CARGO_MANIFEST_DIR", &dir).current_dir(dir).stdin(Stdio::null());
        let output = command.output().map_err(|error| format!("cannot start timeout: {error}"))?;
        if output.status.success() {
            return Ok(Verdict::Passed);
        }
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        Ok(Verdict::Failed(failure(&text, output.status.code() == Some(TIMED_OUT))))
    }
}

/// The reason why a run failed, from its output.
fn failure(text: &str, has_timed_out: bool) -> String {
    let failed = |line: &str| {
        let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        let name = name.trim_end_matches(" - should panic");
        Some(format!("`{name}`"))
    };
    // A line may start with output of a test.
    let hung = |line: &str| {
        let (name, _) = line.split_once(" hangs: no step for ")?;
        Some(format!("the watchdog over `{}`", name.split_whitespace().last()?))
    };
    let named = text.lines().find_map(failed).or_else(|| text.lines().find_map(hung));
    named.unwrap_or_else(|| {
        let how = if has_timed_out { "the limit of time" } else { "the end of the program" };
        how.to_owned()
    })
}

impl fmt::Display for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[test]
fn first_failure_of_a_run_is_named() {
    let text = "test a::b ... ok\ntest c::d ... FAILED\ntest e ... FAILED\n";
    assert_eq!(failure(text, true), "`c::d`");
    assert_eq!(
        failure("noise\nmodel::x hangs: no step for 30 s", false),
        "the watchdog over `model::x`"
    );
    assert_eq!(failure("test a ... ok\n", true), "the limit of time");
    assert_eq!(failure("", false), "the end of the program");
}

#[test]
fn a_harness_that_is_asked_for_by_name_is_one_of_the_whole() {
    assert_eq!(Harness::of_the_whole("faults").unwrap().filters, ["faults::"]);
    let error = Harness::of_the_whole("nobody").err().unwrap();
    assert!(error.starts_with("no harness is named nobody, but simulator, model, "), "{error}");
}

#[test]
fn harnesses_start_with_those_of_the_package() {
    let names = |site: &str| -> Vec<String> {
        Harness::in_order(site, None).iter().map(Harness::to_string).collect()
    };
    let of_log = names("crates/esker-log/src/sync.rs");
    assert_eq!(of_log[..3], ["tests of esker-log", "tests of esker-log", "simulator"]);
    assert_eq!(names("crates/esker/src/jobs.rs")[..3], ["tests of esker", "simulator", "model"]);
}

#[test]
fn the_test_that_is_known_to_find_a_defect_comes_first_and_alone() {
    let tests = |known: &str| -> Vec<Option<String>> {
        let all = Harness::in_order("crates/esker-log/src/sync.rs", Some(known));
        all.into_iter().take_while(|one| one.test.is_some()).map(|one| one.test).collect()
    };
    assert_eq!(tests("simulator: `baton::a`"), [Some("baton::a".to_owned())]);
    // Its library's, or those beside it.
    assert_eq!(tests("tests of esker-log: `crash::b`").len(), 2);
    for not_one_test in ["crash: the limit of time", "nobody: `a`", "**nothing**", ""] {
        assert_eq!(tests(not_one_test), []);
    }
}
