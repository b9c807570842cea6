//! The node's sources and what is kept of them from one run to the next.

use std::path::PathBuf;
use std::sync::Arc;

use posthaste_core::dispatch::Fleet;

use super::boot::tell;
use super::settings;
use crate::config::Config;
use crate::delivery::{AsideMeters, Keeper, Memory, Roster, Sources};
use crate::observe::Meters;
use crate::rt::now;

/// In the spool's directory: it is of that queue's sources.
const FILE: &str = "egress.json";

/// One per node.
pub(super) struct Egress {
    pub(super) sources: Arc<Sources>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) keeper: Arc<Keeper>,
    /// What was known before the start.
    pub(super) memory: Arc<Memory>,
    path: PathBuf,
}

impl Egress {
    pub(super) fn open(config: &Config, meters: &Meters) -> Self {
        let path = config.spool.path.join(FILE);
        let mut memory = Memory::read(&path).unwrap_or_else(|error| {
            tell(&format!(
                "posthaste: {}: {error}; pauses and warm-up of sources begin anew\n",
                path.display()
            ));
            Memory::lost()
        });
        let before = std::mem::take(&mut memory.warmups);
        let cut = memory.was_cut.then(now);
        let fleet = Arc::new(settings::fleet(config, before, cut));
        let named = config.sources_enabled().zip(meters.sources_aside.iter());
        let of_source = named.map(|(source, (sites, steps))| AsideMeters {
            source: Arc::clone(&source.name),
            sites: sites.clone(),
            steps: steps.clone(),
        });
        let of_source = of_source.collect();
        let keeper = Keeper::new(path.clone(), Arc::clone(&fleet), of_source, &memory, now());
        if let Err(error) = keeper.begin() {
            let path = path.display();
            tell(&format!(
                "posthaste: {path}: {error}; should this run be cut off, what young sources sent is not known\n"
            ));
        }
        Self {
            sources: Arc::new(settings::sources(config, &meters.sources_suspended)),
            fleet,
            keeper: Arc::new(keeper),
            memory: Arc::new(memory),
            path,
        }
    }

    pub(super) fn roster(&self, config: &Config) -> Roster {
        let disabled = config.sources.iter().filter(|source| !source.enabled);
        Roster {
            sources: Arc::clone(&self.sources),
            disabled: disabled.cloned().collect(),
            fleet: Arc::clone(&self.fleet),
            keeper: Arc::clone(&self.keeper),
        }
    }

    /// Tells what became of sources, and writes down what is to be kept. To be called often.
    pub(super) fn look(&self) {
        for news in self.sources.news().into_iter().chain(self.keeper.lines()) {
            tell(&format!("posthaste: {news}\n"));
        }
        if let Err(error) = self.keeper.look(now()) {
            let path = self.path.display();
            tell(&format!("posthaste: {path}: {error}; it is tried again\n"));
        }
    }

    /// Once nothing is sent any more.
    pub(super) fn close(&self) {
        if let Err(error) = self.keeper.close() {
            tell(&format!("posthaste: {}: {error}\n", self.path.display()));
        }
    }
}
