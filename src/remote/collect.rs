//! Garbage collection in a remote.
//!
//! Every name marks its head, profile and packs. Unmarked objects written before the grace period are removed; so is an environment's
//! own name, if no other name has the same head and it is older than that. If anything cannot be read, nothing is removed, because the
//! marks would be incomplete. A registry removes blobs itself, so there only names are removed.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use super::error::RemoteError;
use super::object::{Object, ObjectId};
use super::reference::Reference;
use super::resolve::{fetch_head, now};
use super::transport::{OWN_NAME, Remote};

/// What was removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Collected {
    /// The remote.
    pub remote: String,
    /// Nothing was removed: dry run.
    pub dry_run: bool,
    /// The names removed.
    pub names: Vec<String>,
    /// The number of objects removed.
    pub objects: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Objects that were kept.
    pub objects_kept: u64,
    /// Unmarked objects that are too new to be removed.
    pub objects_young: u64,
    /// The remote removes blobs itself.
    pub by_the_remote: bool,
}

/// Runs the collection; with `dry_run` only reports what would be removed.
pub fn collect(remote: &dyn Remote, grace: Duration, dry_run: bool) -> Result<Collected, RemoteError> {
    let mut named = Vec::new();
    for name in remote.names()? {
        // A name removed meanwhile marks nothing.
        if let Some(reference) = remote.reference(&name)? {
            named.push((name, reference));
        }
    }
    let old = expired(&named, grace);
    let mut report = Collected { remote: remote.address().to_owned(), dry_run, ..Collected::default() };
    let kept = named.iter().filter(|(name, _)| !old.contains(name)).map(|(_, reference)| reference);
    let marked = mark(remote, kept)?;
    let objects = remote.objects()?;
    report.by_the_remote = objects.is_none();
    for name in old {
        if !dry_run {
            remote.remove_name(&name)?;
        }
        report.names.push(name);
    }
    let before = SystemTime::now().checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut going: Vec<Object> = Vec::new();
    for (object, written) in objects.unwrap_or_default() {
        match marked.contains(&object.id) {
            true => report.objects_kept += 1,
            false if written > before => report.objects_young += 1,
            false => going.push(object),
        }
    }
    // Heads before packs: an existing head has all its packs.
    going.sort_by_key(|object| object.kind);
    for object in going {
        if !dry_run {
            remote.remove(&object)?;
        }
        report.objects += 1;
        report.bytes += object.size;
    }
    Ok(report)
}

/// Environments' own names, if no other name has the same head.
fn expired(named: &[(String, Reference)], grace: Duration) -> HashSet<String> {
    let given = named.iter().filter(|(name, _)| !name.starts_with(OWN_NAME));
    let shared: HashSet<ObjectId> = given.map(|(_, reference)| reference.head).collect();
    let before = now().saturating_sub(grace.as_secs());
    let own = named.iter().filter(|(name, reference)| {
        name.starts_with(OWN_NAME) && !shared.contains(&reference.head) && reference.created <= before
    });
    own.map(|(name, _)| name.clone()).collect()
}

fn mark<'r>(
    remote: &dyn Remote,
    references: impl Iterator<Item = &'r Reference>,
) -> Result<HashSet<ObjectId>, RemoteError> {
    let mut marked = HashSet::new();
    for reference in references {
        marked.extend(reference.profile.map(|profile| profile.id));
        if marked.insert(reference.head) {
            let (_, head) = fetch_head(remote, &reference.head_object())?;
            marked.extend(head.packs.iter().map(|pack| pack.id));
        }
    }
    Ok(marked)
}
