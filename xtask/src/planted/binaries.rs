//! The test programs of the engine, built once, containing the defects, disabled.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Their target directory: separate from the ordinary one, which has other flags.
const TARGET_DIR: &str = "target/planted";

/// The packages of the engine, whose tests are run.
const ENGINE: [&str; 8] = [
    "esker-base",
    "esker-env",
    "esker-cache",
    "esker-log",
    "esker-memtable",
    "esker-table",
    "esker-tree",
    "esker",
];

/// Those of the programs around it, which take as long to build.
const PROGRAMS: [&str; 2] = ["esker-cli", "esker-torture"];

/// One test program.
struct Binary {
    package: String,
    /// The name of the target: the library, or a directory of tests.
    name: String,
    program: PathBuf,
}

/// All test programs.
pub(super) struct Binaries {
    root: PathBuf,
    all: Vec<Binary>,
}

impl Binaries {
    /// Builds those of the engine and, if `all` are wanted, of the programs.
    ///
    /// # Errors
    /// If that fails.
    pub(super) fn build(root: &Path, all: bool) -> Result<Self, String> {
        let mut command = Command::new("cargo");
        command.args(["test", "--no-run", "--locked", "--quiet", "--message-format=json"]);
        // Without the examples, which would be built too, and have no tests.
        command.args(["--lib", "--bins", "--tests"]);
        command.args(["--target-dir", TARGET_DIR]);
        let programs = if all { &PROGRAMS[..] } else { &[] };
        ENGINE.iter().chain(programs).for_each(|package| {
            command.args(["-p", package]);
        });
        command.env("RUSTFLAGS", "--cfg esker_planted").env("CARGO_PROFILE_DEV_DEBUG", "0");
        command.current_dir(root).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output().map_err(|error| format!("cannot start cargo: {error}"))?;
        if !output.status.success() {
            return Err("the tests do not build with the defects in them".to_owned());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let all = text.lines().filter_map(binary).collect();
        Ok(Self { root: root.to_owned(), all })
    }

    /// The program of a target, and the directory to run it in.
    pub(super) fn find(&self, package: &str, name: &str) -> Option<(&Path, PathBuf)> {
        let is_it = |binary: &&Binary| binary.package == package && binary.name == name;
        let binary = self.all.iter().find(is_it)?;
        Some((&binary.program, self.root.join("crates").join(package)))
    }
}

/// The test program in a line of cargo's messages, if there is one.
fn binary(line: &str) -> Option<Binary> {
    let program = PathBuf::from(field(line, "\"executable\":\"")?);
    let manifest = PathBuf::from(field(line, "\"manifest_path\":\"")?);
    let package = manifest.parent()?.file_name()?.to_str()?.to_owned();
    // A program that tests of its package run is also built, without its own tests.
    let profile = line.split_once("\"profile\":{")?.1.split('}').next()?;
    if !profile.contains("\"test\":true") {
        return None;
    }
    let target = line.split_once("\"target\":")?.1;
    let name = field(target, "\"name\":\"")?.to_owned();
    // A library and a program of one package have the same name; the program has few tests.
    let is_program = target.starts_with("{\"kind\":[\"bin\"]");
    let name = if is_program { format!("{name} (program)") } else { name };
    Some(Binary { package, name, program })
}

/// The text after `key`, up to a quotation mark.
fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_once(key)?.1.split('"').next()
}

#[test]
fn messages_of_cargo_name_the_test_programs() {
    let line = r#"{"reason":"compiler-artifact","manifest_path":"/r/crates/esker-log/Cargo.toml","target":{"kind":["test"],"name":"it","src_path":"x","test":true},"profile":{"opt_level":"0","test":true},"executable":"/t/it-1"}"#;
    let found = binary(line).unwrap();
    assert_eq!((&*found.package, &*found.name), ("esker-log", "it"));
    assert_eq!(found.program, Path::new("/t/it-1"));
    assert!(binary(&line.replace("\"/t/it-1\"", "null")).is_none());
    let program = line.replace("\"0\",\"test\":true", "\"0\",\"test\":false");
    assert!(binary(&program).is_none(), "a program and no test of it");
}
