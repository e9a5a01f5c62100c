//! Runs the program, in a directory of its own that goes away with the test.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory for one test.
pub(crate) struct TestDir(PathBuf);

impl TestDir {
    /// An empty directory; `name` is unique among the tests.
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("esker-it-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// What a run of the program left.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) errors: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The program with a command, a directory, and further arguments.
pub(crate) fn program(command: &str, dir: &Path, arguments: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_esker"));
    program.arg(command).arg(dir).args(arguments).stdin(Stdio::null());
    program.stdout(Stdio::piped()).stderr(Stdio::piped());
    program
}

/// Runs the program to its end.
pub(crate) fn run(command: &str, dir: &Path, arguments: &[&str]) -> Run {
    program(command, dir, arguments).output().unwrap().into()
}

/// Runs the shell to its end, with this as its input.
pub(crate) fn shell(dir: &Path, arguments: &[&str], input: &str) -> Run {
    let mut child = program("shell", dir, arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // Both pipes may fill, so they are served at once.
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes()).unwrap());
        child.wait_with_output().unwrap().into()
    })
}
