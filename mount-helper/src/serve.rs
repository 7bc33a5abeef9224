//! One request: parsed, checked against the policy, executed, answered, logged.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use holofs_mount_helper::packet::{self, Peer};
use holofs_mount_helper::protocol::{self, Request};

use crate::Outcome;
use crate::accounts::Accounts;
use crate::log::{self, Log};
use crate::mount::{Directory, Wanted, detach, mount, open_device};
use crate::namespace::{Thread, mount_id_of};
use crate::policy::{self, Policy, Rule};

/// The result, for the log and the answer.
struct Done {
    summary: String,
    id: u64,
    device: Option<OwnedFd>,
}

/// Serves one peer whose request has arrived.
pub fn serve(peer: &OwnedFd, who: &Peer, policy: &Path, accounts: &Accounts, log: &Log) {
    let outcome = handle(peer, who, policy, accounts);
    match &outcome {
        Ok(done) => log.done(who, &done.summary),
        Err(why) => log.refused(who, why),
    }
    let packet = protocol::answer(outcome.as_ref().map(|done| done.id).map_err(String::as_str));
    let device = outcome.ok().and_then(|done| done.device);
    let descriptors: Vec<BorrowedFd<'_>> = device.iter().map(AsFd::as_fd).collect();
    if let Err(error) = packet::send(peer, &packet, &descriptors) {
        // The kernel ends a mount whose device is not open in any process.
        log::line(&format!("uid={}: the answer was not received: {error}", who.uid));
    }
}

fn handle(peer: &OwnedFd, who: &Peer, policy: &Path, accounts: &Accounts) -> Outcome<Done> {
    let received = packet::receive(peer, protocol::LEN + 1);
    let received = received.map_err(|error| format!("no request: {error}"))?;
    if received.too_many {
        return Err("too many descriptors".to_owned());
    }
    let mut descriptors = received.descriptors;
    let request = protocol::parse(&received.bytes, descriptors.len()).map_err(|why| why.to_string())?;
    let policy = policy::read(policy)?;
    let namespace = if descriptors.len() == 2 { descriptors.pop() } else { None };
    let target = descriptors.pop().ok_or("no descriptor")?;
    let asked = Asked { thread: Thread::current()?, target, namespace, policy, who: *who };
    match request {
        Request::Mount { read_only, allow_other } => {
            let wanted = Wanted { uid: who.uid, gid: who.gid, read_only, allow_other };
            asked.mount(&wanted, accounts)
        }
        Request::Unmount { mount_id } => asked.unmount(mount_id),
    }
}

/// A request with its descriptors.
struct Asked {
    thread: Thread,
    target: OwnedFd,
    namespace: Option<OwnedFd>,
    policy: Policy,
    who: Peer,
}

impl Asked {
    /// Enters the peer's namespace; false if that is the helper's own.
    fn go(&self) -> Outcome<bool> {
        let Some(namespace) = &self.namespace else { return Ok(false) };
        if !self.thread.is_elsewhere(namespace)? {
            return Ok(false);
        }
        if !self.policy.reaches(self.who.uid) {
            return Err("the policy does not allow other mount namespaces".to_owned());
        }
        self.thread.enter(namespace)?;
        Ok(true)
    }

    fn mount(self, wanted: &Wanted, accounts: &Accounts) -> Outcome<Done> {
        let device = open_device()?;
        let elsewhere = self.go()?;
        let Asked { thread, target, policy, .. } = self;
        let dir = Directory::of(&thread, target)?;
        let refused = |why: &str| format!("mount on {:?}: {why}", dir.path);
        let rule =
            policy.find(wanted.uid, &dir.path).ok_or_else(|| refused("no rule of the policy allows it"))?;
        permitted(rule, wanted, elsewhere).map_err(refused)?;
        if dir.owner != wanted.uid {
            return Err(refused("the directory belongs to another user"));
        }
        let turn = accounts.turn(wanted.uid);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let have = accounts.mounts(&thread, &thread.table()?, wanted.uid)?;
        if have >= rule.most {
            return Err(refused(&format!("the limit of mounts ({}) is reached", rule.most)));
        }
        let mounted = mount(&device, &dir, wanted).map_err(|why| refused(&why))?;
        let kept = thread.namespace().and_then(|here| accounts.add(&device, wanted.uid, here));
        let kept = kept.and_then(|()| still_there(&thread, &dir, rule)).and_then(|()| mounted.id());
        let id = kept.or_else(|why| mounted.undo(&thread).and(Err(why))).map_err(|why| refused(&why))?;
        let read_only = if wanted.read_only { ", read-only" } else { "" };
        let allow_other = if wanted.allow_other { ", for other users too" } else { "" };
        let summary = format!("mounted {id} on {:?}{read_only}{allow_other}", dir.path);
        Ok(Done { summary, id, device: Some(device) })
    }

    /// Unmounts only mounts of HoloFS by the same user, according to the kernel's table, and only through a descriptor of their root.
    fn unmount(self, mount_id: u64) -> Outcome<Done> {
        let refused = |why: &str| format!("unmount {mount_id}: {why}");
        if mount_id_of(&self.target)? != mount_id {
            return Err(refused("the descriptor is of another mount"));
        }
        self.go().map_err(|why| refused(&why))?;
        let found = self.thread.table()?.ours().find(|mount| mount.id == mount_id);
        let found = found.ok_or_else(|| refused("it is not a mount of HoloFS"))?;
        if found.uid != self.who.uid {
            return Err(refused("it belongs to another user"));
        }
        detach(&self.thread, &self.target).map_err(|why| refused(&why))?;
        let summary = format!("unmounted {mount_id} from {:?}", PathBuf::from(&found.path));
        Ok(Done { summary, id: mount_id, device: None })
    }
}

fn permitted(rule: &Rule, wanted: &Wanted, elsewhere: bool) -> Result<(), &'static str> {
    match () {
        () if wanted.allow_other && !rule.allow_other => {
            Err("the policy does not allow access by other users")
        }
        () if elsewhere && !rule.namespaces => Err("the policy does not allow other mount namespaces"),
        () => Ok(()),
    }
}

/// The directory may have been moved between the check and the mount. From now on it cannot be moved, because it is a mount point.
fn still_there(thread: &Thread, dir: &Directory, rule: &Rule) -> Outcome<()> {
    let now = dir.path_now(thread)?;
    match rule.covers(&now) {
        true => Ok(()),
        false => Err(format!("it was moved to {now:?} in the meantime, where the policy does not allow it")),
    }
}
