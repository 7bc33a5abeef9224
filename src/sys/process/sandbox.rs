//! The sandbox of a daemon: once its mount answers, it can access what it serves and nothing else.
//!
//! ```text
//! process  RLIMIT_CORE 0 · not dumpable: no core file, and no tracer of the same user
//! thread   NO_NEW_PRIVS · only the needed capabilities · landlock: paths, TCP, signals
//! ```
//! The kernel confines threads, and a thread passes its sandbox on to those it starts. So the threads that serve are confined, and
//! those that unmount or copy the mount stay outside: landlock forbids changing mounts, and `fusermount3` needs its setuid bit. The
//! sandbox protects against a daemon that is made to open a wrong path; it does not stop foreign code from reaching the memory of
//! the other threads.
//!
//! Parts that the kernel does not support are left out, and reported in [`Closed`].

use std::path::{Path, PathBuf};

/// The allowed paths and how they may be accessed.
#[derive(Debug, Clone, Default)]
pub struct Sandbox {
    /// Read, below directories or at devices.
    pub read: Vec<PathBuf>,
    /// Read, created, written and removed.
    pub write: Vec<PathBuf>,
    /// Files below these may be handed over to the kernel, which opens them as its users do, also to execute them
    /// ([`super::backing`]); it requires CAP_SYS_ADMIN. If empty, neither is granted.
    pub handed_over: Vec<PathBuf>,
}

/// How much of the sandbox is in effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closed {
    /// Parts that are not in effect, and why; empty if all are.
    pub missing: Vec<String>,
}

impl Closed {
    /// True if the sandbox is complete.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    #[cfg(target_os = "linux")]
    fn note<E: std::fmt::Display>(&mut self, what: &str, outcome: Result<(), E>) {
        if let Err(error) = outcome {
            self.missing.push(format!("{what}: {error}"));
        }
    }
}

/// Disables core files of this process, and tracing by the same user: for a process that starts no other programs.
pub fn harden_process() -> Closed {
    let mut closed = Closed::default();
    imp::harden_process(&mut closed);
    closed
}

impl Sandbox {
    /// Confines this thread, and all it starts from now on. Never an error: failures are reported in the result.
    pub fn close(&self) -> Closed {
        let mut closed = Closed::default();
        imp::close(self, &mut closed);
        if closed.is_complete()
            && std::fs::File::open(FORBIDDEN).is_ok()
            && !self.allows(Path::new(FORBIDDEN))
        {
            closed.missing.push(format!("{FORBIDDEN} can still be opened"));
        }
        closed
    }

    fn allows(&self, path: &Path) -> bool {
        self.read.iter().chain(&self.write).any(|root| path.starts_with(root))
    }
}

/// A file that every system has and our daemon never needs: opening it is tried once the sandbox is closed.
const FORBIDDEN: &str = "/etc/passwd";

#[cfg(target_os = "linux")]
mod imp {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
        RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    };
    use rustix::process::{DumpableBehavior, Resource, Rlimit};
    use rustix::thread::{CapabilitySet, CapabilitySets};

    use super::{Closed, Path, Sandbox};

    /// The access rights known here; a kernel that knows fewer ignores the others.
    const RIGHTS: ABI = ABI::V6;
    /// The capabilities that root's daemon uses: the hololib may belong to others, and so may the directory of the space.
    const KEPT: CapabilitySet = CapabilitySet::DAC_READ_SEARCH.union(CapabilitySet::DAC_OVERRIDE);

    pub fn harden_process(closed: &mut Closed) {
        let no_core = Rlimit { current: Some(0), maximum: Some(0) };
        closed.note("RLIMIT_CORE", rustix::process::setrlimit(Resource::Core, no_core));
        let not_dumpable = DumpableBehavior::NotDumpable;
        closed.note("PR_SET_DUMPABLE", rustix::process::set_dumpable_behavior(not_dumpable));
    }

    pub fn close(sandbox: &Sandbox, closed: &mut Closed) {
        closed.note("NO_NEW_PRIVS", rustix::thread::set_no_new_privs(true));
        // Landlock first: it needs NO_NEW_PRIVS or a capability.
        match landlock(sandbox) {
            Ok(RulesetStatus::NotEnforced) => closed.missing.push("landlock: not in this kernel".to_owned()),
            Ok(_) => {}
            Err(error) => closed.missing.push(format!("landlock: {error}")),
        }
        let hands_over = !sandbox.handed_over.is_empty();
        let kept = if hands_over { KEPT.union(CapabilitySet::SYS_ADMIN) } else { KEPT };
        closed.note("capabilities", drop_capabilities(kept));
    }

    fn landlock(sandbox: &Sandbox) -> Result<RulesetStatus, RulesetError> {
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(RIGHTS))?
            .handle_access(AccessNet::from_all(RIGHTS))?
            .scope(Scope::from_all(RIGHTS))?
            .create()?;
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let write = AccessFs::from_all(RIGHTS) & !(made_of_nothing() | AccessFs::Execute);
        let rules = sandbox.read.iter().try_fold(rules, |rules, path| allow(rules, path, read))?;
        let rules = sandbox.write.iter().try_fold(rules, |rules, path| allow(rules, path, write))?;
        let run = AccessFs::ReadFile | AccessFs::Execute;
        let rules = sandbox.handed_over.iter().try_fold(rules, |rules, path| allow(rules, path, run))?;
        Ok(rules.restrict_self()?.ruleset)
    }

    /// Kinds of entries that our directories never contain.
    fn made_of_nothing() -> landlock::BitFlags<AccessFs> {
        AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSock | AccessFs::MakeFifo
    }

    /// A path that does not exist cannot be allowed, and will not be accessed.
    fn allow(
        rules: RulesetCreated,
        path: &Path,
        access: landlock::BitFlags<AccessFs>,
    ) -> Result<RulesetCreated, RulesetError> {
        let Ok(opened) = PathFd::new(path) else {
            log::debug!("{} does not exist: not in the sandbox", path.display());
            return Ok(rules);
        };
        let file_only = AccessFs::from_file(RIGHTS);
        let access = if path.is_dir() { access } else { access & file_only };
        rules.add_rule(PathBeneath::new(opened, access))
    }

    fn drop_capabilities(kept: CapabilitySet) -> rustix::io::Result<()> {
        let now = rustix::thread::capabilities(None)?;
        let dropped = CapabilitySet::all().difference(kept);
        let kept = now.permitted & kept;
        for capability in dropped {
            // Without CAP_SETPCAP, or for a capability unknown to this kernel; NO_NEW_PRIVS prevents gaining it in any case.
            if let Err(error) = rustix::thread::remove_capability_from_bounding_set(capability) {
                log::trace!("{capability:?} stays in the bounding set: {error}");
            }
        }
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
        rustix::thread::set_capabilities(None, sets)
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::{Closed, Sandbox};

    pub fn harden_process(_: &mut Closed) {}

    pub fn close(_: &Sandbox, closed: &mut Closed) {
        closed.missing.push("there is no sandbox on this platform".to_owned());
    }
}
