//! `report`: one self-contained HTML page from the JSON lines of one or more runs. Draws nothing itself: the page's script does.

use serde::Serialize;
use serde_json::Value;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("report.html");
/// Where the page holds its data.
const MARK: &str = "/*RUNS*/";
/// Runs on one page: more lines than that nobody tells apart.
const RUNS_MAX: usize = 8;

/// Make an HTML report from the JSON lines of one or more runs of `source`.
///
/// The page needs no network. It has throughput, latency percentiles and errors over time, the latency's distribution, and a table of
/// the runs with how they were configured. A run that was killed is shown as far as it got.
///
/// Example: posthaste-load report run1.jsonl run2.jsonl --html out.html
#[derive(clap::Args)]
pub struct Options {
    /// Files that `source --json` or `source --report` wrote
    #[arg(required = true, value_name = "FILE", num_args = 1..=RUNS_MAX)]
    runs: Vec<PathBuf>,
    /// The page to write
    #[arg(long, value_name = "FILE")]
    html: PathBuf,
}

/// One run as its page takes it.
#[derive(Serialize)]
pub(crate) struct Run {
    name: String,
    start: Option<Value>,
    intervals: Vec<Value>,
    end: Option<Value>,
}

impl Run {
    /// Sorts the lines by their kind; those of no known kind are left out.
    pub(crate) fn new(name: &str, lines: impl IntoIterator<Item = Value>) -> Self {
        let mut run = Self {
            name: name.to_owned(),
            start: None,
            intervals: Vec::new(),
            end: None,
        };
        for line in lines {
            match line.get("kind").and_then(Value::as_str) {
                Some("start") => run.start = Some(line),
                Some("interval") => run.intervals.push(line),
                Some("source") => run.end = Some(line),
                _ => {}
            }
        }
        run
    }

    fn read(path: &Path) -> io::Result<Self> {
        let wrap = |why: String| io::Error::other(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrap(error.to_string()))?;
        let mut lines = Vec::new();
        let count = text.lines().count();
        for (index, line) in text.lines().enumerate() {
            match serde_json::from_str(line) {
                Ok(line) => lines.push(line),
                // A run that was killed may leave half a line behind.
                Err(_) if line.is_empty() || index + 1 == count => {}
                Err(error) => return Err(wrap(format!("line {}: {error}", index + 1))),
            }
        }
        let name = path.file_stem().unwrap_or(path.as_os_str());
        let run = Self::new(&name.to_string_lossy(), lines);
        if run.start.is_none() && run.end.is_none() && run.intervals.is_empty() {
            return Err(wrap("no line of a source's run".to_owned()));
        }
        Ok(run)
    }
}

/// The page with these runs.
pub(crate) fn page(runs: &[Run]) -> io::Result<String> {
    // The data stand in a script element, which only this would end.
    let data = serde_json::to_string(runs)?.replace('<', "\\u003c");
    Ok(PAGE.replacen(MARK, &data, 1))
}

/// Writes the page; always true, for there is nothing to find wanting.
pub fn run(options: &Options) -> io::Result<bool> {
    let runs = options
        .runs
        .iter()
        .map(|path| Run::read(path))
        .collect::<io::Result<Vec<_>>>()?;
    let wrap = |error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", options.html.display()))
    };
    std::fs::write(&options.html, page(&runs)?).map_err(wrap)?;
    writeln!(io::stdout(), "{}", options.html.display())?;
    Ok(true)
}
