//! Parts: files that a killed command was writing, before they got their name.
//!
//! Our own names contain the writer's process id. A process in another container has an id that is unknown here, so a part must
//! also have been unchanged for a while.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{CollectError, Sweep, entries};
use crate::sys::process;

/// The prefixes of parts in our own directories.
const OURS: [&str; 2] = [".part-", ".patch-"];
/// The infix of parts of blobs: `<blob>.part#<process>.<count>` is ours, `<blob>.part#<count>` is RCC's.
const OF_BLOB: &str = ".part#";
/// The age from which one of our own parts counts as left over, if its process has ended: no file takes that long to write.
const UNCHANGED: Duration = Duration::from_secs(60);
/// The same for a part of a blob, which may be large, and on a volume that another machine writes to.
const UNCHANGED_BLOB: Duration = Duration::from_secs(3600);
/// The age from which any part counts as left over.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

impl Sweep<'_> {
    /// Parts in the state of spaces and of remote environments, and in the directories of derived files.
    pub fn parts(&mut self) -> Result<(), CollectError> {
        let home = self.home;
        let derived = [home.index_dir(), home.pristine_dir(), home.pyc_dir(), home.profiles_dir()];
        let states = [entries(&home.spaces_dir())?, entries(&home.remote_dir())?].concat();
        for dir in states.into_iter().chain(derived) {
            // One without a readable state does not stop the others.
            for part in entries(&dir).unwrap_or_default() {
                if !is_left(&part, our_writer(&part), UNCHANGED) {
                    continue;
                }
                match if self.options.dry_run { Ok(true) } else { part.remove() } {
                    Ok(true) => self.report.trash.push(part.into()),
                    Ok(false) => {}
                    Err(error) => self.report.kept.push(format!("{} is kept: {error}", part.display())),
                }
            }
        }
        Ok(())
    }
}

/// True for a part of a blob that no process writes any more.
pub(super) fn is_left_of_blob(path: &Path) -> bool {
    let tail = name_of(path).and_then(|name| Some(name.rsplit_once(OF_BLOB)?.1));
    let writer = tail.map(|tail| tail.split_once('.').and_then(|(process, _)| process.parse().ok()));
    is_left(path, writer, UNCHANGED_BLOB)
}

/// The process in the name of a part of ours, if there is one; `None` if it is not a part.
fn our_writer(path: &Path) -> Option<Option<u32>> {
    let name = name_of(path)?;
    let rest = OURS.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    Some(rest.split_once('-').and_then(|(process, _)| process.parse().ok()))
}

/// True if the part at `path`, written by `writer`, is left over; false if it is not a part (`writer` is `None`).
fn is_left(path: &Path, writer: Option<Option<u32>>, unchanged: Duration) -> bool {
    let Some(writer) = writer else { return false };
    let changed = path.symlink_metadata().and_then(|found| found.modified()).ok();
    let age = changed.and_then(|time| SystemTime::now().duration_since(time).ok()).unwrap_or_default();
    age > ABANDONED || (age > unchanged && writer.is_some_and(|writer| !process::exists(writer)))
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs::File;

    /// A number above every process id.
    const NOBODY: u32 = 1 << 30;

    #[test]
    fn a_part_is_left_when_its_process_has_ended_and_it_is_not_fresh() {
        let temp = tempfile::tempdir().unwrap();
        let made = |name: String, age: u64| {
            let path = temp.path().join(name);
            let changed = SystemTime::now() - Duration::from_secs(age);
            File::create(&path).unwrap().set_modified(changed).unwrap();
            path
        };
        let ours = |name: String, age| {
            let path = made(name, age);
            is_left(&path, our_writer(&path), UNCHANGED)
        };
        let own = std::process::id();
        assert!(ours(format!(".part-{NOBODY}-0-ab"), 100));
        assert!(ours(format!(".patch-{NOBODY}-0-ab"), 100));
        assert!(!ours(format!(".part-{NOBODY}-0-ab"), 10));
        assert!(!ours(format!(".part-{own}-0-ab"), 100));
        assert!(ours(format!(".part-{own}-0-ab"), 100_000), "the number is another process's by now");
        assert!(!ours(".part-x8sK2".to_owned(), 100));
        assert!(ours(".part-x8sK2".to_owned(), 100_000));
        assert!(!ours("mount.json".to_owned(), 100_000));
        let blob = |name: String, age| is_left_of_blob(&made(name, age));
        assert!(blob(format!("ab.part#{NOBODY}.0"), 4000));
        assert!(!blob(format!("ab.part#{NOBODY}.0"), 100));
        assert!(!blob(format!("ab.part#{own}.0"), 4000));
        assert!(!blob("ab.part#1".to_owned(), 4000));
        assert!(blob("ab.part#1".to_owned(), 100_000));
        assert!(!blob("ab".to_owned(), 100_000));
    }
}
