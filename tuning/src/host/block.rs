//! File systems and the disks under them.

use std::path::PathBuf;

use super::tree::Tree;

/// One row of the mount table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    pub point: PathBuf,
    pub kind: String,
    /// What is mounted: a device, mostly.
    pub source: String,
    /// Of the mount and of the file system.
    pub options: Vec<String>,
    /// `write back` or `write through`; None where no disk is seen.
    pub write_cache: Option<String>,
}

pub(super) fn mounts(tree: &Tree<'_>) -> Vec<Mount> {
    let text = tree.text("proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(|line| mount(tree, line)).collect()
}

/// As proc_pid_mountinfo(5) has it; a dash parts what belongs to the mount from the rest.
fn mount(tree: &Tree<'_>, line: &str) -> Option<Mount> {
    let (mount, system) = line.split_once(" - ")?;
    let mut words = mount.split_whitespace().skip(2);
    let (device, _root, point) = (words.next()?, words.next()?, words.next()?);
    let mut options: Vec<String> = words.next()?.split(',').map(str::to_owned).collect();
    let mut words = system.split_whitespace();
    let (kind, source) = (words.next()?, words.next()?);
    options.extend(
        words
            .next()
            .unwrap_or_default()
            .split(',')
            .map(str::to_owned),
    );
    Some(Mount {
        point: unescaped(point).into(),
        kind: kind.to_owned(),
        source: unescaped(source),
        options,
        write_cache: write_cache(tree, device, source),
    })
}

/// A partition has no queue of its own: its disk has. File systems of many devices have a number
/// that is nobody's, and name one of them.
fn write_cache(tree: &Tree<'_>, device: &str, source: &str) -> Option<String> {
    let name = source.rsplit('/').next().unwrap_or_default();
    let mut places = vec![format!("sys/dev/block/{device}")];
    if source.starts_with("/dev/") {
        places.push(format!("sys/class/block/{name}"));
    }
    places.iter().find_map(|place| {
        tree.line(&format!("{place}/queue/write_cache"))
            .or_else(|| tree.line(&format!("{place}/../queue/write_cache")))
    })
}

/// Spaces and their like stand as three octal digits.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once('\\') {
        plain.push_str(head);
        let code = tail.get(..3).and_then(|d| u8::from_str_radix(d, 8).ok());
        match code {
            Some(code) if code.is_ascii() => {
                plain.push(char::from(code));
                rest = &tail[3..];
            }
            _ => {
                plain.push('\\');
                rest = tail;
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn a_path_with_a_space_is_read_as_it_is() {
        assert_eq!(unescaped("/mnt/a\\040b"), "/mnt/a b");
        assert_eq!(unescaped("/mnt/a\\"), "/mnt/a\\");
    }
}
