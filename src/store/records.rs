//! Records: bytes under a kind and an id, for what the admin API made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One record as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRow {
    /// What it is about.
    pub kind: Arc<str>,
    /// Which one of its kind.
    pub id: Arc<str>,
    /// What it says; `None` if it was removed.
    pub bytes: Option<Arc<[u8]>>,
}

/// Kind and id.
type Name = (Arc<str>, Arc<str>);

/// All records, and which of them are not written yet.
#[derive(Debug, Default)]
pub(super) struct Records {
    rows: BTreeMap<Name, Arc<[u8]>>,
    dirty: BTreeSet<Name>,
    sequence: u64,
}

impl Records {
    pub(super) fn new(rows: Vec<RecordRow>) -> Self {
        let present = |row: RecordRow| row.bytes.map(|bytes| ((row.kind, row.id), bytes));
        Self { rows: rows.into_iter().filter_map(present).collect(), ..Self::default() }
    }

    pub(super) fn put(&mut self, kind: &str, id: &str, bytes: &[u8]) {
        let name: Name = (kind.into(), id.into());
        self.rows.insert(name.clone(), bytes.into());
        self.changed(name);
    }

    pub(super) fn remove(&mut self, kind: &str, id: &str) -> bool {
        let name: Name = (kind.into(), id.into());
        let was_there = self.rows.remove(&name).is_some();
        if was_there {
            self.changed(name);
        }
        was_there
    }

    pub(super) fn of(&self, kind: &str) -> Vec<(Arc<str>, Arc<[u8]>)> {
        let from: Name = (kind.into(), "".into());
        let same = self.rows.range(from..).take_while(|((of, _), _)| **of == *kind);
        same.map(|((_, id), bytes)| (Arc::clone(id), Arc::clone(bytes))).collect()
    }

    pub(super) fn changes(&mut self) -> Vec<RecordRow> {
        let row = |(kind, id): Name| {
            let bytes = self.rows.get(&(Arc::clone(&kind), Arc::clone(&id))).cloned();
            RecordRow { kind, id, bytes }
        };
        std::mem::take(&mut self.dirty).into_iter().map(row).collect()
    }

    pub(super) fn put_back(&mut self, rows: Vec<RecordRow>) {
        self.dirty.extend(rows.into_iter().map(|row| (row.kind, row.id)));
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    fn changed(&mut self, name: Name) {
        self.dirty.insert(name);
        self.sequence += 1;
    }
}
