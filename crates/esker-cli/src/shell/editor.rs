//! The interactive shell: a prompt, history across sessions, completion of commands and keys.

use std::io::{self, Write};
use std::path::PathBuf;

use esker::Keyspace;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::command::NAMES;
use super::run_line;
use super::session::Session;
use crate::failure::{Failure, Result};
use crate::text::shown;

const PROMPT: &str = "esker> ";
/// How many keys are offered as completions.
const KEYS_MAX: usize = 50;

/// Reads and runs lines until the person leaves.
pub(super) fn converse(session: &mut Session, out: &mut dyn Write) -> Result<()> {
    let config = Config::builder().completion_type(CompletionType::List).auto_add_history(true);
    let mut editor = Editor::with_config(config.build()).map_err(cannot_read)?;
    editor.set_helper(Some(Completion { keyspace: session.keyspace().clone() }));
    let history = history_path();
    if let Some(path) = &history {
        // A first session has no history, and a shell works without it.
        drop(editor.load_history(path));
    }
    writeln!(out, "Type help for a list of commands.")?;
    out.flush()?;
    let ended = read_lines(&mut editor, session, out);
    if let Some(path) = &history {
        save_history(&mut editor, path);
    }
    ended
}

fn read_lines(
    editor: &mut Editor<Completion, FileHistory>,
    session: &mut Session,
    out: &mut dyn Write,
) -> Result<()> {
    loop {
        match editor.readline(PROMPT) {
            Ok(line) => {
                if !run_line(session, line.as_bytes(), out, &mut io::stderr())? {
                    return Ok(());
                }
            }
            // Control-C discards the line being typed.
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(cannot_read(error)),
        }
    }
}

fn cannot_read(error: ReadlineError) -> Failure {
    Failure::other(format!("cannot read from the terminal: {error}"))
}

/// The file of the history; none if the user has no home.
fn history_path() -> Option<PathBuf> {
    let set =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
    Some(state.join("esker").join("history"))
}

fn save_history(editor: &mut Editor<Completion, FileHistory>, path: &std::path::Path) {
    let saved = path
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .map_err(ReadlineError::from)
        .and_then(|()| editor.save_history(path));
    if let Err(error) = saved {
        // The session itself went well.
        drop(writeln!(io::stderr(), "note: history is not saved: {error}"));
    }
}

/// Completes the first word from commands, the others from keys.
struct Completion {
    keyspace: Keyspace,
}

impl Completion {
    fn keys(&self, prefix: &str) -> Vec<String> {
        let keys = self.keyspace.prefix(prefix).keys().take(KEYS_MAX);
        keys.filter_map(|key| String::from_utf8(key.ok()?.to_vec()).ok())
            .filter(|key| !key.contains(|c: char| c.is_whitespace() || "'\"\\#".contains(c)))
            .filter(|key| shown(key.as_bytes()) == *key)
            .collect()
    }
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = &line[..position];
        let start = typed.rfind(char::is_whitespace).map_or(0, |index| index + 1);
        let word = &typed[start..];
        if typed[..start].trim().is_empty() {
            let lower = word.to_lowercase();
            let names = NAMES.iter().filter(|name| name.starts_with(&lower));
            return Ok((start, names.map(|name| format!("{name} ")).collect()));
        }
        // A quoted or escaped word is not the text of a key.
        let is_plain = !word.contains(['\'', '"', '\\']);
        Ok((start, if is_plain { self.keys(word) } else { Vec::new() }))
    }
}

impl Hinter for Completion {
    type Hint = String;
}
impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}
