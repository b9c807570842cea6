//! Overrides over a restart: a small file beside the spool, written anew as a whole when one changes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use posthaste_core::shaping::Overrides;
use posthaste_core::words::Moment;
use serde_json::{Value, json};

use super::cluster::{note_key, note_text, target_of, wish_of};
use crate::control::Target;

/// Of a file that is read; each override is a line of some hundred octets.
const OCTETS_MAX: u64 = 64 << 20;

/// Where they are kept. One per node.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
}

impl Kept {
    pub(super) fn beside(spool: &Path) -> Self {
        Self {
            path: spool.join("overrides.json"),
        }
    }

    /// Those that have not expired. With it, how many lines make no sense: of another release, or
    /// damaged.
    ///
    /// # Errors
    /// When there is a file and it cannot be read.
    pub(super) fn read(&self, now: Moment) -> io::Result<(Overrides, usize)> {
        let mut overrides = Overrides::default();
        let mut lost = 0;
        let text = match fs::metadata(&self.path) {
            Ok(found) if found.len() > OCTETS_MAX => return Err(io::ErrorKind::FileTooLarge.into()),
            Ok(_) => fs::read_to_string(&self.path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        for line in text.lines() {
            let is_sound = match wish(line) {
                Some(wish) => wish.expires <= now || overrides.set(wish, now).is_ok(),
                None => false,
            };
            lost += usize::from(!is_sound);
        }
        Ok((overrides, lost))
    }

    /// All of them, in place of those of before: a power cut leaves the one or the other.
    ///
    /// # Errors
    /// When the disk refuses; the file is as it was then.
    pub(super) fn write(&self, overrides: &Overrides) -> io::Result<()> {
        let mut text = String::new();
        for set in overrides.iter() {
            let wish = &set.wish;
            let line = json!({
                "key": note_key(&Target::of(wish)), "text": note_text(wish),
                "until": wish.expires.as_micros(),
            });
            text.push_str(&line.to_string());
            text.push('\n');
        }
        let draft = self.path.with_extension("json.new");
        let mut file = File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        File::open(folder)?.sync_all()
    }
}

fn wish(line: &str) -> Option<posthaste_core::shaping::Wish> {
    let said: Value = serde_json::from_str(line).ok()?;
    let target = target_of(said["key"].as_str()?)?;
    let until = Moment::from_micros(said["until"].as_u64()?);
    wish_of(&target, said["text"].as_str()?, until)
}

#[cfg(test)]
mod tests {
    use posthaste_core::shaping::{Key, TargetKind, Wish};

    use super::*;

    const NOW: Moment = Moment::from_secs(1_800_000_000);

    fn wish_for(name: &str, secs: u64) -> Wish {
        let (key, value) = Key::read("suspended", "true").unwrap();
        Wish {
            kind: TargetKind::Tenant,
            name: name.into(),
            source: None,
            key,
            value,
            expires: Moment::from_secs(1_800_000_000 + secs),
            reason: "complaints\nand more".into(),
            by: "op".into(),
        }
    }

    #[test]
    fn overrides_come_back_until_they_expire() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::beside(folder.path());
        assert_eq!(kept.read(NOW).unwrap().0.iter().count(), 0);
        let mut overrides = Overrides::default();
        for (name, secs) in [("a", 10), ("b", 20)] {
            overrides.set(wish_for(name, secs), NOW).unwrap();
        }
        kept.write(&overrides).unwrap();
        let later = Moment::from_secs(1_800_000_015);
        let (read, lost) = kept.read(later).unwrap();
        let wishes: Vec<&Wish> = read.iter().map(|set| &set.wish).collect();
        assert_eq!((wishes, lost), (vec![&wish_for("b", 20)], 0));
    }

    #[test]
    fn a_line_that_makes_no_sense_costs_itself_alone() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::beside(folder.path());
        let mut overrides = Overrides::default();
        overrides.set(wish_for("a", 10), NOW).unwrap();
        kept.write(&overrides).unwrap();
        let path = folder.path().join("overrides.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{{\"key\":1}}\nrubbish\n{text}")).unwrap();
        let (read, lost) = kept.read(NOW).unwrap();
        assert_eq!((read.iter().count(), lost), (1, 2));
    }
}
