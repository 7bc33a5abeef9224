//! The socket: who asks, one request each, one line in the log each.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
};

use holofs_mount_helper::packet::{self, Peer};
use holofs_mount_helper::protocol::{self, Request};

use crate::mount::{Thread, Wanted, id_of, mount};
use crate::policy::{self, Rule};

/// How long a peer may take to send its request, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests of one user at a time: more are dropped, so that one user cannot keep out the others.
const MOST_PER_USER: usize = 4;

/// The first descriptor that systemd passes.
const FIRST_PASSED: i32 = 3;

/// The socket that systemd passed, or a new one at `path`, for everybody: the policy decides.
pub fn listener(path: &Path) -> Result<OwnedFd, String> {
    let own = std::process::id().to_string();
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("LISTEN_PID", &own) && is("LISTEN_FDS", "1") {
        // SAFETY: by systemd's protocol this descriptor is open and nobody's but ours.
        #[allow(unsafe_code)]
        return Ok(unsafe { OwnedFd::from_raw_fd(FIRST_PASSED) });
    }
    let failed = |error: &dyn std::fmt::Display| format!("Cannot listen at {}: {error}", path.display());
    let address = SocketAddrUnix::new(path).map_err(|error| failed(&error))?;
    let socket = || socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let listener = socket().map_err(|error| failed(&error))?;
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        // One that nobody listens to was left by a helper that ended.
        match connect(socket().map_err(|error| failed(&error))?, &address) {
            Err(rustix::io::Errno::CONNREFUSED) => {
                std::fs::remove_file(path).map_err(|error| failed(&error))?
            }
            _ => return Err(failed(&"somebody listens there already")),
        }
    }
    bind(&listener, &address).map_err(|error| failed(&error))?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o666)).map_err(|error| failed(&error))?;
    listen(&listener, 64).map_err(|error| failed(&error))?;
    Ok(listener)
}

/// How many requests of each user are being served.
type Busy = Arc<Mutex<HashMap<u32, usize>>>;

/// Serves until the socket breaks.
pub fn forever(listener: &OwnedFd, policy: &Path) -> Result<(), String> {
    let busy = Busy::default();
    loop {
        let peer = match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(peer) => peer,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
            Err(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE | rustix::io::Errno::NOMEM) => {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            Err(error) => return Err(format!("Cannot accept: {error}")),
        };
        let Ok(who) = Peer::of(&peer) else { continue };
        let Some(slot) = Slot::take(&busy, who.uid) else {
            eprintln!("holofs-mount-helper: {}: refused: too many requests at once", name(&who));
            continue;
        };
        let policy = policy.to_owned();
        let work = move || {
            serve(&peer, &who, &policy);
            drop(slot);
        };
        if let Err(error) = std::thread::Builder::new().stack_size(256 << 10).spawn(work) {
            eprintln!("holofs-mount-helper: Cannot start a thread: {error}");
        }
    }
}

/// One of a user's places, given back when dropped.
struct Slot(Busy, u32);

impl Slot {
    fn take(busy: &Busy, uid: u32) -> Option<Slot> {
        let mut counts = busy.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(uid).or_default();
        (*count < MOST_PER_USER).then(|| {
            *count += 1;
            Slot(Arc::clone(busy), uid)
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = counts.get(&self.1).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => counts.remove(&self.1),
            left => counts.insert(self.1, left),
        };
    }
}

fn name(who: &Peer) -> String {
    format!("uid={} gid={} pid={}", who.uid, who.gid, who.pid)
}

/// What was done, for the log and the answer.
struct Done {
    told: String,
    id: u64,
    device: Option<OwnedFd>,
}

fn serve(peer: &OwnedFd, who: &Peer, policy: &Path) {
    let outcome = handle(peer, who, policy);
    let told = match &outcome {
        Ok(done) => done.told.clone(),
        Err(why) => format!("refused: {why}"),
    };
    eprintln!("holofs-mount-helper: {}: {told}", name(who));
    let packet = protocol::answer(outcome.as_ref().map(|done| done.id).map_err(String::as_str));
    let device = outcome.ok().and_then(|done| done.device);
    let descriptors: Vec<BorrowedFd<'_>> = device.iter().map(AsFd::as_fd).collect();
    if let Err(error) = packet::send(peer, &packet, &descriptors) {
        // A mount whose device nobody has ends by itself.
        eprintln!("holofs-mount-helper: {}: the answer was not taken: {error}", name(who));
    }
}

fn handle(peer: &OwnedFd, who: &Peer, policy: &Path) -> Result<Done, String> {
    for direction in [Timeout::Recv, Timeout::Send] {
        let set = set_socket_timeout(peer, direction, Some(PATIENCE));
        set.map_err(|error| format!("no timeout on the socket: {error}"))?;
    }
    let received = packet::receive(peer, protocol::LEN + 1);
    let received = received.map_err(|error| format!("nothing was asked: {error}"))?;
    if received.too_many {
        return Err("too many descriptors".to_owned());
    }
    let mut descriptors = received.descriptors;
    let request = protocol::parse(&received.bytes, descriptors.len()).map_err(|why| why.to_string())?;
    let thread = Thread::current()?;
    let namespace = if descriptors.len() == 2 { descriptors.pop() } else { None };
    let elsewhere = match &namespace {
        Some(namespace) if thread.is_elsewhere(namespace)? => Some(namespace),
        _ => None,
    };
    let target = descriptors.pop().ok_or("no descriptor")?;
    match request {
        Request::Mount { read_only, allow_other } => {
            let (uid, gid) = (who.uid, who.gid);
            mount_for(&thread, target, elsewhere, policy, &Wanted { uid, gid, read_only, allow_other })
        }
        Request::Unmount { mount_id } => unmount_for(&thread, &target, elsewhere, mount_id, who.uid),
    }
}

fn mount_for(
    thread: &Thread,
    target: OwnedFd,
    elsewhere: Option<&OwnedFd>,
    policy: &Path,
    wanted: &Wanted,
) -> Result<Done, String> {
    let dir = thread.directory(target)?;
    let policy = policy::read(policy)?;
    let refused = |why: &str| format!("mount on {:?}: {why}", dir.path);
    let rule =
        policy.find(wanted.uid, &dir.path).ok_or_else(|| refused("no rule of the policy allows it"))?;
    permitted(rule, wanted, elsewhere.is_some()).map_err(refused)?;
    if dir.owner != wanted.uid {
        return Err(refused("the directory belongs to another user"));
    }
    if let Some(namespace) = elsewhere {
        thread.enter(namespace.as_fd())?;
    }
    let mounted = thread.mounts()?.iter().filter(|mount| mount.uid == wanted.uid).count();
    if mounted >= rule.most {
        return Err(refused(&format!("{mounted} mounts are as many as the policy allows")));
    }
    let (device, id) = mount(&dir, wanted).map_err(|why| refused(&why))?;
    let read_only = if wanted.read_only { ", read-only" } else { "" };
    let allow_other = if wanted.allow_other { ", for other users too" } else { "" };
    let told = format!("mounted {id} on {:?}{read_only}{allow_other}", dir.path);
    Ok(Done { told, id, device: Some(device) })
}

fn permitted(rule: &Rule, wanted: &Wanted, elsewhere: bool) -> Result<(), &'static str> {
    match () {
        () if wanted.allow_other && !rule.allow_other => Err("the policy does not let other users in"),
        () if elsewhere && !rule.namespaces => Err("the policy does not reach other mount namespaces"),
        () => Ok(()),
    }
}

/// Only a mount of HoloFS's for the same user, by the kernel's own table, and only through its own root.
fn unmount_for(
    thread: &Thread,
    root: &OwnedFd,
    elsewhere: Option<&OwnedFd>,
    mount_id: u64,
    uid: u32,
) -> Result<Done, String> {
    let refused = |why: &str| format!("unmount {mount_id}: {why}");
    if id_of(root)? != mount_id {
        return Err(refused("the descriptor is of another mount"));
    }
    if let Some(namespace) = elsewhere {
        thread.enter(namespace.as_fd()).map_err(|why| refused(&why))?;
    }
    let mounts = thread.mounts()?;
    let found = mounts.iter().find(|mount| mount.id == mount_id);
    let found = found.ok_or_else(|| refused("it is not a mount of HoloFS's here"))?;
    if found.uid != uid {
        return Err(refused("it belongs to another user"));
    }
    thread.detach(root).map_err(|why| refused(&why))?;
    Ok(Done {
        told: format!("unmounted {mount_id} from {:?}", PathBuf::from(&found.path)),
        id: mount_id,
        device: None,
    })
}
