//! Looks for a delivery in the files of the delivery log, the youngest first.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Deserialize;

use super::file::{NAME, rotated};

/// Lines between two looks at the clock.
const LINES_PER_LOOK: u32 = 1024;

/// What is to be known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// `None` where there are no sources.
    pub source: Option<String>,
    pub recipient: String,
}

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    /// Further files were not read.
    #[error("the log is too long to be searched in time")]
    TooLong,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    recipient: String,
    egress_source: Option<String>,
}

/// The delivery of message `id` to `recipient`, in the case of letters that does not matter. Blocks.
///
/// # Errors
/// See [`SearchError`].
pub fn find_delivery(
    dir: &Path,
    id: &str,
    recipient: &str,
    until: Instant,
) -> Result<Option<Delivered>, SearchError> {
    for number in 0.. {
        let path = match number {
            0 => dir.join(NAME),
            _ => rotated(dir, number),
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            // The log may be without its youngest file for a moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(SearchError::Io { path, error }),
        };
        let mut lines = BufReader::with_capacity(64 * 1024, file);
        let found = search(&mut lines, id, recipient, until);
        match found.map_err(|error| SearchError::Io { path, error })? {
            Search::Found(delivered) => return Ok(Some(delivered)),
            Search::Nothing => {}
            Search::TooLong => return Err(SearchError::TooLong),
        }
    }
    Ok(None)
}

enum Search {
    Found(Delivered),
    Nothing,
    TooLong,
}

fn search(
    lines: &mut impl BufRead,
    id: &str,
    recipient: &str,
    until: Instant,
) -> io::Result<Search> {
    let (mut line, mut count) = (Vec::new(), 0_u32);
    while lines.read_until(b'\n', &mut line)? > 0 {
        if let Some(delivered) = delivered(&line, id, recipient) {
            return Ok(Search::Found(delivered));
        }
        line.clear();
        count += 1;
        if count.is_multiple_of(LINES_PER_LOOK) && Instant::now() >= until {
            return Ok(Search::TooLong);
        }
    }
    Ok(Search::Nothing)
}

fn delivered(line: &[u8], id: &str, recipient: &str) -> Option<Delivered> {
    // Most lines are of other messages: they are not worth parsing.
    line.windows(id.len()).position(|at| at == id.as_bytes())?;
    let line: Line = serde_json::from_slice(line).ok()?;
    let is_it =
        line.kind == "Delivery" && line.id == id && line.recipient.eq_ignore_ascii_case(recipient);
    is_it.then_some(Delivered {
        source: line.egress_source,
        recipient: line.recipient,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    fn line(kind: &str, id: &str, recipient: &str, source: &str) -> String {
        format!(
            r#"{{"type":"{kind}","id":"{id}","recipient":"{recipient}","egress_source":{source}}}"#
        ) + "\n"
    }

    #[test]
    fn a_delivery_is_found_in_old_files_and_a_deferral_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let old = line("Delivery", "M1", "b@r.example", "\"out1\"");
        let young = line("TransientFailure", "M2", "b@r.example", "\"out1\"")
            + "no object\n"
            + &line("Delivery", "M2", "c@r.example", "null");
        fs::write(dir.path().join("delivery.log.2"), old).unwrap();
        fs::write(dir.path().join("delivery.log.1"), "").unwrap();
        let later = Instant::now() + Duration::from_secs(60);
        let find = |id, recipient| find_delivery(dir.path(), id, recipient, later).unwrap();
        assert_eq!(
            find("M1", "B@R.example").unwrap().source.as_deref(),
            Some("out1")
        );
        fs::write(dir.path().join("delivery.log"), young).unwrap();
        assert_eq!(find("M1", "b@r.example").unwrap().recipient, "b@r.example");
        assert_eq!(find("M2", "b@r.example"), None);
        assert_eq!(find("M2", "c@r.example").unwrap().source, None);
        assert_eq!(find("M3", "c@r.example"), None);
    }

    #[test]
    fn a_long_log_is_given_up_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let lines = line("Delivery", "M1", "b@r.example", "null").repeat(5000);
        fs::write(dir.path().join("delivery.log"), lines).unwrap();
        let found = find_delivery(dir.path(), "M2", "b@r.example", Instant::now());
        assert!(matches!(found, Err(SearchError::TooLong)), "{found:?}");
    }
}
