//! Looking through the store a part at a time, for people who read what is remembered.
//!
//! Here alone a list reads history, that of audit records, because a person asks for the newest of it. No function
//! does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use chrono::{DateTime, Utc};
use portcullis_domain::arm_id::VmId;

use super::{Store, StoreError, vm_of_key};
use crate::azure::blob::Listed;

/// A list of VMs that the store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmIndex {
    /// Every VM that was ever looked at.
    Remembered,
    /// The VMs of which something is open, granted, found or in alarm, or that cannot be read.
    Unresting,
}

/// The place of an audit record among all, by when it was written. The later is the greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditPlace {
    /// When it was written, to the second.
    pub at: DateTime<Utc>,
    /// Its id.
    pub id: String,
}

/// What was found of audit records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditsFound {
    /// These, the newest first.
    Newest {
        /// Their places.
        places: Vec<AuditPlace>,
        /// Whether there are older ones.
        more: bool,
    },
    /// There are more than can be looked through at once.
    TooMany,
}

/// Names in one page of a list: the most that Blob storage gives (documentation).
const PAGE: usize = 5000;

/// Audit records that are looked through at once: 40 pages, which take a few seconds.
const MOST_AUDITS: usize = 200_000;

impl Store {
    /// The VMs of an index, in the index' own order, which come after `after`: at most `most`, and only those of a
    /// subscription if one is given, as its GUID in lower case.
    pub async fn vms_after(
        &self,
        index: VmIndex,
        subscription: Option<&str>,
        after: Option<&VmId>,
        most: usize,
    ) -> Result<Vec<VmId>, StoreError> {
        let prefix = index.prefix(subscription);
        let mut vms: Vec<VmId> = Vec::new();
        let each = |listed: Vec<Listed>| {
            for Listed { name, .. } in listed {
                let is_fresh = after.is_none_or(|after| index.comes_after(&name, after));
                vms.extend(index.vm(&name).filter(|vm| is_fresh && vms.last() != Some(vm)));
                if vms.len() >= most {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        };
        self.blobs.list(&self.state, &prefix, PAGE, each).await?;
        Ok(vms)
    }

    /// The newest audit records whose id begins with `prefix` and that are older than `before`, at most `most`.
    ///
    /// Ids do not sort by time, so all of them are looked through, a page at a time; kept are only the newest.
    pub async fn newest_audits(&self, prefix: &str, before: Option<&AuditPlace>, most: usize) -> Result<AuditsFound, StoreError> {
        let mut newest = Newest::new(most);
        let mut seen = 0;
        let each = |listed: Vec<Listed>| {
            seen += listed.len();
            if seen > MOST_AUDITS {
                return ControlFlow::Break(());
            }
            for place in listed.into_iter().filter_map(AuditPlace::of) {
                if before.is_none_or(|before| place < *before) {
                    newest.take(place);
                }
            }
            ControlFlow::Continue(())
        };
        self.blobs.list(&self.audit, prefix, PAGE, each).await?;
        Ok(if seen > MOST_AUDITS { AuditsFound::TooMany } else { newest.found() })
    }
}

impl VmIndex {
    fn folder(self) -> &'static str {
        match self {
            VmIndex::Remembered => "vm/",
            VmIndex::Unresting => "open/",
        }
    }

    fn prefix(self, subscription: Option<&str>) -> String {
        let subscription = subscription.map(|subscription| format!("{subscription}/")).unwrap_or_default();
        format!("{}{subscription}", self.folder())
    }

    /// Whether an entry comes after all entries of a VM, in the order of names, which is not that of keys: `-` comes
    /// before `.` and `/`.
    fn comes_after(self, name: &str, vm: &VmId) -> bool {
        match self {
            VmIndex::Remembered => name > format!("vm/{}.json", vm.key()).as_str(),
            VmIndex::Unresting => {
                let entries = format!("open/{}/", vm.key());
                name > entries.as_str() && !name.starts_with(&entries)
            }
        }
    }

    /// The VM of a name in this index; nothing where it is none.
    pub fn vm(self, name: &str) -> Option<VmId> {
        let rest = name.strip_prefix(self.folder())?;
        let key = match self {
            VmIndex::Remembered => rest.strip_suffix(".json")?,
            VmIndex::Unresting => rest.rsplit_once('/')?.0,
        };
        vm_of_key(key)
    }
}

impl AuditPlace {
    fn of(listed: Listed) -> Option<Self> {
        Some(AuditPlace { at: listed.modified?, id: listed.name.strip_suffix(".json")?.to_owned() })
    }
}

/// The newest of many, in the memory of a few.
struct Newest {
    most: usize,
    kept: BinaryHeap<Reverse<AuditPlace>>,
    more: bool,
}

impl Newest {
    fn new(most: usize) -> Self {
        Newest { most, kept: BinaryHeap::new(), more: false }
    }

    fn take(&mut self, place: AuditPlace) {
        self.kept.push(Reverse(place));
        if self.kept.len() > self.most {
            self.kept.pop();
            self.more = true;
        }
    }

    fn found(self) -> AuditsFound {
        let places = self.kept.into_sorted_vec().into_iter().map(|Reverse(place)| place).collect();
        AuditsFound::Newest { places, more: self.more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(name: &str) -> VmId {
        VmId::from_key(&format!("s/rg/{name}")).unwrap()
    }

    #[test]
    fn an_entry_is_its_vms_in_either_index() {
        assert_eq!(VmIndex::Remembered.vm("vm/s/rg/a.json"), Some(vm("a")));
        assert_eq!(VmIndex::Unresting.vm("open/s/rg/a/0123456789abcdef"), Some(vm("a")));
        for name in ["vm/s/rg.json", "vm/s/rg/a", "open/s/rg/a", "due/s/rg/a.json"] {
            assert_eq!((VmIndex::Remembered.vm(name), VmIndex::Unresting.vm(name)), (None, None), "{name}");
        }
        assert_eq!(VmIndex::Unresting.prefix(Some("s")), "open/s/");
        assert_eq!(VmIndex::Remembered.prefix(None), "vm/");
    }

    #[test]
    fn going_on_after_a_vm_passes_its_own_entries_and_no_other() {
        let names = ["a", "a-1", "a.json", "a1", "b"];
        for (index, end) in [(VmIndex::Remembered, ".json"), (VmIndex::Unresting, "/0123456789abcdef")] {
            let mut entries: Vec<String> = names.iter().map(|name| format!("{}s/rg/{name}{end}", index.folder())).collect();
            entries.sort();
            for (at, entry) in entries.iter().enumerate() {
                let vm = index.vm(entry).unwrap();
                let fresh: Vec<&String> = entries.iter().filter(|entry| index.comes_after(entry, &vm)).collect();
                assert_eq!(fresh, entries[at + 1..].iter().collect::<Vec<_>>(), "{entry}");
            }
        }
    }

    #[test]
    fn the_newest_are_kept_and_sorted() {
        let place = |second: i64, id: &str| AuditPlace { at: DateTime::from_timestamp(second, 0).unwrap(), id: id.to_owned() };
        let mut newest = Newest::new(3);
        for (second, id) in [(3, "c"), (1, "a"), (5, "x"), (5, "y"), (2, "b")] {
            newest.take(place(second, id));
        }
        assert_eq!(newest.found(), AuditsFound::Newest { places: vec![place(5, "y"), place(5, "x"), place(3, "c")], more: true });
        let mut few = Newest::new(3);
        few.take(place(1, "a"));
        assert_eq!(few.found(), AuditsFound::Newest { places: vec![place(1, "a")], more: false });
    }
}
