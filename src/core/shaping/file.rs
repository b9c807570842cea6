//! Whole files: which blocks they have, in their order.

use std::sync::Arc;

use super::block::{Block, BlockKind, normal};
use super::fault::{Fault, Wrong};
use super::labels::{LabelRule, RawDefaults};
use super::read::{self, Entry, Node, Source, Tree};
use super::reader::{Note, Reader, form};
use super::value::Layer;

/// The largest file that is read.
const FILE_OCTETS_MAX: usize = 64 << 20;

/// A file to read: core opens none itself.
#[derive(Clone, Copy, Debug)]
pub struct File<'t> {
    /// As faults and `explain` name it. One that ends in `.json` is JSON, all others are TOML.
    pub name: &'t str,
    pub text: &'t str,
    pub layer: Layer,
}

/// Limits of queues by any of tenant, campaign and domain.
#[derive(Clone, Debug)]
pub(super) struct QueueBlock {
    pub(super) tenant: Option<Box<str>>,
    pub(super) campaign: Option<Box<str>>,
    pub(super) domain: Option<Box<str>>,
    pub(super) block: Block,
}

/// All blocks of all files, not yet laid over each other.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) defaults: Vec<Block>,
    pub(super) domains: Vec<Block>,
    pub(super) providers: Vec<Block>,
    pub(super) sources: Vec<Block>,
    pub(super) tenants: Vec<Block>,
    pub(super) campaigns: Vec<Block>,
    pub(super) queues: Vec<QueueBlock>,
    pub(super) labels: Vec<LabelRule>,
    pub(super) label_defaults: RawDefaults,
    pub(super) notes: Vec<Note>,
    pub(super) shipped_notes: Vec<Note>,
    blocks: usize,
}

impl Draft {
    /// Reads `file` behind those already read. What is wrong goes to `faults`; the rest is read.
    pub(super) fn read(&mut self, file: File<'_>, faults: &mut Vec<Fault>) {
        let name: Arc<str> = file.name.into();
        let source = Source::new(name, file.text);
        let mut notes = core::mem::take(&mut self.notes);
        let mut shipped_notes = core::mem::take(&mut self.shipped_notes);
        let mut reader = Reader {
            source: &source,
            layer: file.layer,
            faults,
            notes: &mut notes,
            shipped_notes: &mut shipped_notes,
        };
        if file.text.len() > FILE_OCTETS_MAX {
            reader.fault(0, "", Wrong::TooLarge(FILE_OCTETS_MAX));
        } else {
            let mut broken = Vec::new();
            let entries = read::tree(&source, &mut |offset, wrong| broken.push((offset, wrong)));
            for (offset, wrong) in broken {
                reader.fault(offset, "", wrong);
            }
            for entry in &entries {
                self.entry(&mut reader, entry);
            }
        }
        self.notes = notes;
        self.shipped_notes = shipped_notes;
    }

    fn entry(&mut self, reader: &mut Reader<'_, '_>, entry: &Entry<'_>) {
        match &*entry.key {
            "default" => {
                let block = self.block(reader, BlockKind::Default, "default", entry);
                self.defaults.extend(block);
            }
            "provider" => {
                let blocks = self.blocks(reader, BlockKind::Provider, entry);
                self.providers.extend(blocks);
            }
            "source" => {
                let blocks = self.blocks(reader, BlockKind::Source, entry);
                self.sources.extend(blocks);
            }
            "tenant" => {
                let blocks = self.blocks(reader, BlockKind::Tenant, entry);
                self.tenants.extend(blocks);
            }
            "campaign" => {
                let blocks = self.blocks(reader, BlockKind::Campaign, entry);
                self.campaigns.extend(blocks);
            }
            "queue" => self.queues(reader, entry),
            "label" => {
                for (path, node) in list(reader, entry) {
                    self.labels.extend(reader.label(&path, node));
                }
            }
            "label_defaults" => reader.label_defaults(&entry.node, &mut self.label_defaults),
            _ => {
                let block = self.block(reader, BlockKind::Domain, &entry.key, entry);
                self.domains.extend(block.map(|block| Block {
                    name: normal(&block.name),
                    ..block
                }));
            }
        }
    }

    fn block(
        &mut self,
        reader: &mut Reader<'_, '_>,
        kind: BlockKind,
        path: &str,
        entry: &Entry<'_>,
    ) -> Option<Block> {
        self.blocks += 1;
        reader.block(
            kind,
            path,
            &entry.key,
            (entry.offset, &entry.node),
            self.blocks,
        )
    }

    /// `[kind."name"]`: a table of blocks.
    fn blocks(
        &mut self,
        reader: &mut Reader<'_, '_>,
        kind: BlockKind,
        entry: &Entry<'_>,
    ) -> Vec<Block> {
        let Some(entries) = reader.table(&entry.key, &entry.node) else {
            return Vec::new();
        };
        let entries = entries.iter();
        entries
            .filter_map(|named| {
                let path = format!("{}.{}", entry.key, named.key);
                self.block(reader, kind, &path, named)
            })
            .collect()
    }

    fn queues(&mut self, reader: &mut Reader<'_, '_>, entry: &Entry<'_>) {
        for (path, node) in list(reader, entry) {
            self.blocks += 1;
            let at = (node.offset, node);
            let block = reader.block(BlockKind::Queue, &path, "", at, self.blocks);
            let (Some(block), Tree::Table(entries)) = (block, &node.tree) else {
                continue;
            };
            let mut field = |name: &str| {
                let entry = entries.iter().find(|entry| entry.key == name)?;
                reader.text(&format!("{path}.{name}"), &entry.node)
            };
            let (tenant, campaign) = (field("tenant"), field("campaign"));
            let domain = field("domain").map(|domain| normal(&domain));
            self.queues.push(QueueBlock {
                tenant,
                campaign,
                domain,
                block,
            });
        }
    }
}

/// The elements of `[[key]]`, each with its path.
fn list<'n, 't>(reader: &mut Reader<'_, '_>, entry: &'n Entry<'t>) -> Vec<(String, &'n Node<'t>)> {
    let Tree::List(items) = &entry.node.tree else {
        let wrong = form("an array of tables ([[…]])", &entry.node);
        reader.fault(entry.node.offset, entry.key.as_ref(), wrong);
        return Vec::new();
    };
    let items = items.iter().enumerate();
    items
        .map(|(index, node)| (format!("{}[{index}]", entry.key), node))
        .collect()
}
