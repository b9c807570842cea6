//! `posthaste check`: all that is wrong with configuration and shaping files, and what is hardly meant.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use clap::Args;
use posthaste_core::route::Policy;
use posthaste_core::shaping::{self, Known, Sites};
use posthaste_core::words::Domain;
use serde_json::json;

use super::args::{Exit, print, settings};
use crate::config::{self, Config, Fault, Place, Settings, print_defaults, print_reference};
use crate::dns::{Resolver, find_sites};
use crate::rt;
use crate::shaping::{LoadError, Loaded, Options, load, to_ask, without_effect};

#[derive(Args)]
#[command(
    after_help = "A folder, and a file that begins like one, is shaping; several are laid over each other in their order. A configuration is
checked with the shaping files it names. Without FILE the defaults and the environment are checked. Examples:
  posthaste check /etc/posthaste/posthaste.toml && systemctl reload posthaste
  posthaste check /etc/posthaste/shaping"
)]
pub(super) struct CheckArgs {
    /// Files and folders.
    files: Vec<PathBuf>,
    /// Take all FILES for shaping.
    #[arg(long)]
    shaping: bool,
    /// Do not ask DNS where the domains of shaping files are.
    #[arg(long)]
    offline: bool,
    /// Print a file with every knob at its default, commented.
    #[arg(long)]
    print_defaults: bool,
    /// Print the reference of all knobs, in Markdown.
    #[arg(long)]
    print_reference: bool,
    /// Print faults and warnings as JSON lines.
    #[arg(long)]
    json: bool,
}

pub(super) fn check(arguments: &CheckArgs) -> Exit {
    if arguments.print_defaults {
        print(&print_defaults());
        return Exit::Ok;
    }
    if arguments.print_reference {
        print(&print_reference());
        return Exit::Ok;
    }
    let is_shaping = |path: &&PathBuf| arguments.shaping || looks_like_shaping(path);
    let (rules, configs): (Vec<&PathBuf>, Vec<&PathBuf>) =
        arguments.files.iter().partition(is_shaping);
    let mut told = Told {
        json: arguments.json,
        offline: arguments.offline,
        is_bad: false,
    };
    if arguments.files.is_empty() {
        told.configuration(None);
    }
    for path in configs {
        told.configuration(Some(path));
    }
    if !rules.is_empty() {
        let config = config::check(&Settings::default()).ok();
        let options = Options {
            files: rules.into_iter().cloned().collect(),
            // Those of which configuration?
            pools: None,
            ..config
                .as_ref()
                .map(Config::shaping_options)
                .unwrap_or_default()
        };
        told.shaping(&options, config.as_ref());
    }
    if told.is_bad {
        return Exit::Config;
    }
    if !arguments.json {
        print(if arguments.files.is_empty() || arguments.files.len() > 1 {
            "all is good\n"
        } else {
            "it is good\n"
        });
    }
    Exit::Ok
}

/// Sections that only shaping files have, or a domain.
fn looks_like_shaping(path: &Path) -> bool {
    const BLOCKS: &[&str] = &[
        "default",
        "provider",
        "tenant",
        "campaign",
        "queue",
        "label",
        "label_defaults",
    ];
    if path.is_dir() || path.extension().is_some_and(|end| end == "json") {
        return true;
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (table, _) = toml::de::DeTable::parse_recoverable(&text);
    table.get_ref().iter().any(|(key, value)| {
        let key = &**key.get_ref();
        // A configuration has a list of sources, shaping a table of them.
        let is_table = matches!(value.get_ref(), toml::de::DeValue::Table(_));
        BLOCKS.contains(&key) || key.contains('.') || key == "source" && is_table
    })
}

struct Told {
    json: bool,
    offline: bool,
    is_bad: bool,
}

impl Told {
    fn configuration(&mut self, file: Option<&PathBuf>) {
        let checked = settings(file, Vec::new()).and_then(|settings| config::check(&settings));
        match checked {
            Ok(config) => self.shaping(&config.shaping_options(), Some(&config)),
            Err(faults) => {
                self.is_bad = true;
                for fault in &faults {
                    print(&fault_text(fault, self.json));
                }
            }
        }
    }

    fn shaping(&mut self, options: &Options, config: Option<&Config>) {
        match load(options) {
            // Those of which configuration?
            Ok(loaded) => self.warn(loaded, config, options.pools.is_some()),
            Err(LoadError::Faults(faults)) => {
                self.is_bad = true;
                for fault in &faults {
                    self.tell(
                        "fault",
                        &fault.place,
                        &fault.key,
                        &fault.wrong.to_string(),
                        fault,
                    );
                }
            }
            Err(error @ LoadError::Io { .. }) => {
                self.is_bad = true;
                let text = error.to_string();
                print(&if self.json {
                    format!("{}\n", json!({ "kind": "fault", "message": text }))
                } else {
                    format!("{text}\n")
                });
            }
        }
    }

    /// What is allowed and hardly meant, and what has no effect, in files of the operator's own.
    fn warn(&self, mut loaded: Loaded, config: Option<&Config>, knows_listeners: bool) {
        let (asked, mut sites) = to_ask(&loaded.shaping);
        if !self.offline && !asked.is_empty() {
            sites.extend(look_up(config, asked));
        }
        loaded.shaping.place_sites(&sites);
        let sources = config.map(|config| {
            let names = config.sources.iter().map(|source| Box::from(&*source.name));
            names.collect::<BTreeSet<Box<str>>>()
        });
        let sources = sources.filter(|names| !names.is_empty());
        let listeners = config.map(|config| {
            let addresses = config.listeners.iter();
            let names = addresses.map(|listener| listener.address.to_string().into());
            names.collect::<BTreeSet<Box<str>>>()
        });
        let known = Known {
            sources: sources.as_ref(),
            listeners: listeners.as_ref().filter(|_| knows_listeners),
        };
        for lint in loaded.shaping.lints(known, rt::now()) {
            let text = lint.to_string();
            let message = text.split_once(": ").map_or(&*text, |(_, rest)| rest);
            self.tell(
                "warning",
                lint.place(),
                "",
                message,
                &format!("warning: {lint}"),
            );
        }
        for note in loaded.shaping.notes() {
            if note.is_barring {
                let text = format!("warning: {}: `{}`: {}", note.place, note.key, note.why);
                self.tell("warning", &note.place, &note.key, note.why, &text);
                continue;
            }
            let text = format!(
                "note: {}: `{}` is without effect: {}",
                note.place, note.key, note.why
            );
            self.tell("note", &note.place, &note.key, note.why, &text);
        }
        if let Some(keys) = without_effect(&loaded.shaping) {
            print(&if self.json {
                format!("{}\n", json!({ "kind": "note", "message": keys }))
            } else {
                format!("note: {keys}\n")
            });
        }
    }

    fn tell(
        &self,
        kind: &str,
        place: &shaping::Place,
        key: &str,
        message: &str,
        text: &dyn core::fmt::Display,
    ) {
        print(&if self.json {
            let object = json!({
                "kind": kind, "place": place.to_string(), "file": &*place.file, "line": place.line,
                "column": place.column, "key": key, "message": message,
            });
            format!("{object}\n")
        } else {
            format!("{text}\n")
        });
    }
}

/// Empty, with a warning for each domain in place of its site, where DNS is out of reach.
pub(super) fn look_up(config: Option<&Config>, asked: Vec<Domain>) -> Sites {
    let options = config.map(Config::dns_options).unwrap_or_default();
    let policy = Policy {
        allow_private: true,
        ..Policy::default()
    };
    let looking = async move {
        let dns = Rc::new(Resolver::new(options, Arc::new(policy)));
        find_sites(&dns, &asked).await
    };
    // Without io_uring nothing is known of sites; `posthaste doctor` tells of that.
    rt::run(looking).unwrap_or_default()
}

fn fault_text(fault: &Fault, json: bool) -> String {
    if !json {
        return format!("{fault}\n");
    }
    let (file, line, column) = match &fault.place {
        Place::File { name, line, column } => (Some(name.as_ref()), Some(line), Some(column)),
        Place::Flag(_) | Place::Environment(_) | Place::Default => (None, None, None),
    };
    let object = json!({
        "kind": "fault", "place": fault.place.to_string(), "file": file, "line": line,
        "column": column, "key": fault.key, "message": fault.wrong.to_string(),
    });
    format!("{object}\n")
}
