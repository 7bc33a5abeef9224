//! The daemon's end of the line to its fetcher: requests pieces of content, and trusts nothing it receives.
//!
//! The fetcher is a separate process: it has the network, the logins and the parsers of server responses; the daemon has none of
//! these. Content that arrives over the line is untrusted: the store verifies all of it. If the fetcher dies, all requests fail and
//! none hangs.
//!
//! ```text
//! to the fetcher    the order, a line of JSON; then requests: number · is it urgent · how many pieces · for each its digest and number
//! from it           number · kind (1 byte) · digest · piece · length · bytes            all numbers 32 bits, little endian
//! ```
//! A piece that is already being transferred is not requested again: other readers wait until it is complete.

mod message;

use std::collections::{HashMap, HashSet};
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use super::checks::CheckTable;
use crate::error::chain;
use crate::rcc::digest::Digest;
use crate::store::observe::{Counter, Observer};
use crate::store::pieces::Checks;
use crate::store::{Store, Supplier, Wanted};
pub use message::{Item, Message, MessageKind, Order, Request};

/// The number of messages buffered per reader: what the memory of a daemon has to hold.
const WAITING: usize = 2;
/// The fetcher reports its own timeouts; this is for one that does not respond at all.
const SLACK: Duration = Duration::from_secs(10);

/// The line to one fetcher.
pub struct Line {
    shared: Arc<Shared>,
    child: Mutex<Child>,
    checks: CheckTable,
    /// Started by the first request: a daemon's threads inherit their creator's sandbox.
    listening: Once,
    patience: Duration,
}

struct Shared {
    stream: UnixStream,
    /// Held while a request is written.
    writing: Mutex<()>,
    pending: Mutex<HashMap<u32, SyncSender<Message>>>,
    next: AtomicU32,
    coming: Mutex<HashSet<Item>>,
    arrived: Condvar,
    /// When a reader last waited for content.
    waited: Mutex<Instant>,
    /// Why nothing arrives any more.
    ended: Mutex<Option<String>>,
    observer: Arc<dyn Observer>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    /// Starts the fetcher: `command` is this program with its arguments. The fetcher ends when the line is closed.
    pub fn start(
        mut command: Command,
        order: &Order,
        checks: CheckTable,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Line> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = Stdio::from(std::os::fd::OwnedFd::from(theirs));
        let child = command.stdin(theirs).stdout(Stdio::null()).spawn()?;
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        (&ours).write_all(&line)?;
        let shared = Shared {
            stream: ours,
            writing: Mutex::default(),
            pending: Mutex::default(),
            next: AtomicU32::new(0),
            coming: Mutex::default(),
            arrived: Condvar::new(),
            waited: Mutex::new(Instant::now()),
            ended: Mutex::default(),
            observer,
        };
        let patience = Duration::from_secs(order.fetch_timeout) + SLACK;
        let (shared, child) = (Arc::new(shared), Mutex::new(child));
        Ok(Line { shared, child, checks, listening: Once::new(), patience })
    }

    /// How long ago a reader last waited for content.
    pub fn idle_for(&self) -> Duration {
        lock(&self.shared.waited).elapsed()
    }

    fn ask(&self, items: Vec<Item>, is_urgent: bool) -> io::Result<Receiver<Message>> {
        self.listening.call_once(|| {
            let shared = Arc::clone(&self.shared);
            let listen = move || shared.listen();
            if let Err(error) = std::thread::Builder::new().name("line".into()).spawn(listen) {
                *lock(&self.shared.ended) = Some(format!("no thread can be started: {error}"));
            }
        });
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (send, receive) = sync_channel(WAITING);
        lock(&self.shared.pending).insert(id, send);
        let request = Request { id, is_urgent, items }.to_bytes();
        let guard = lock(&self.shared.writing);
        let sent = (&self.shared.stream).write_all(&request);
        drop(guard);
        // The line ended before this request: nothing else would remove it again.
        if let Some(why) = lock(&self.shared.ended).clone().or(sent.err().map(|error| error.to_string())) {
            lock(&self.shared.pending).remove(&id);
            return Err(io::Error::other(format!("the fetcher is gone: {why}")));
        }
        Ok(receive)
    }

    /// Requests what was claimed, and passes each piece on as it arrives.
    fn fetch(
        &self,
        mut claim: Claim<'_>,
        is_urgent: bool,
        take: &mut dyn FnMut(&Item, &[u8]),
    ) -> io::Result<()> {
        if claim.left.is_empty() {
            return Ok(());
        }
        let receive = self.ask(std::mem::take(&mut claim.items), is_urgent)?;
        loop {
            let message = receive.recv_timeout(self.patience);
            let message = message.map_err(|_| io::Error::other("the fetcher does not answer"))?;
            match message.kind {
                MessageKind::Piece => {
                    let item = Item { digest: Digest::Sha256(message.digest), piece: message.piece };
                    if claim.left.contains(&item) {
                        take(&item, &message.bytes);
                        claim.release(&item);
                    }
                }
                MessageKind::Done => return Ok(()),
                MessageKind::Failed => {
                    return Err(io::Error::other(String::from_utf8_lossy(&message.bytes).into_owned()));
                }
                MessageKind::Traffic => {}
            }
        }
    }

    /// Fetches pieces into `store`, many at a time. Failures are ignored: missing content is requested again when it is needed.
    /// Returns the number of pieces that came.
    pub fn prefetch(&self, wanted: &[(Wanted, u64)], store: &Store) -> u64 {
        let mut files: HashMap<Digest, Wanted> = HashMap::new();
        let mut items = Vec::new();
        for (wanted, at) in wanted {
            if let Ok(piece) = u32::try_from(*at)
                && !store.lacking(wanted, *at..at + 1).is_empty()
            {
                files.insert(wanted.digest, *wanted);
                items.push(Item { digest: wanted.digest, piece });
            }
        }
        let mut came = 0;
        let fetched = self.fetch(Claim::of(&self.shared, items), false, &mut |item, bytes| {
            let Some(wanted) = files.get(&item.digest) else { return };
            match store.arrived(wanted, item.piece.into(), bytes) {
                Ok(()) => came += 1,
                Err(error) => log::warn!("{}", chain(&error)),
            }
        });
        if let Err(error) = fetched {
            log::warn!("Fetching ahead ended: {error}");
        }
        came
    }
}

/// Pieces that one request fetches, so that no other does.
struct Claim<'s> {
    shared: &'s Shared,
    items: Vec<Item>,
    left: HashSet<Item>,
}

impl<'s> Claim<'s> {
    /// Claims those of `wanted` that no other request fetches.
    fn of(shared: &'s Shared, mut wanted: Vec<Item>) -> Claim<'s> {
        let mut coming = lock(&shared.coming);
        wanted.retain(|item| coming.insert(*item));
        let left = wanted.iter().copied().collect();
        Claim { shared, items: wanted, left }
    }

    fn release(&mut self, item: &Item) {
        self.left.remove(item);
        lock(&self.shared.coming).remove(item);
        self.shared.arrived.notify_all();
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.left.is_empty() {
            lock(&self.shared.coming).retain(|item| !self.left.contains(item));
            self.shared.arrived.notify_all();
        }
    }
}

impl Shared {
    fn listen(&self) {
        let mut from = &self.stream;
        let why = loop {
            match Message::read(&mut from) {
                Ok((id, message)) => self.hand_out(id, message),
                Err(error) => break error.to_string(),
            }
        };
        *lock(&self.ended) = Some(why);
        // The end of the channel notifies those who wait.
        lock(&self.pending).clear();
    }

    fn hand_out(&self, id: u32, message: Message) {
        if message.kind == MessageKind::Traffic {
            return self.count(&message.bytes);
        }
        let is_last = matches!(message.kind, MessageKind::Done | MessageKind::Failed);
        let mut pending = lock(&self.pending);
        let taker = if is_last { pending.remove(&id) } else { pending.get(&id).cloned() };
        drop(pending);
        if let Some(taker) = taker
            && taker.send(message).is_err()
        {
            // The rest is not needed.
            lock(&self.pending).remove(&id);
        }
    }

    fn count(&self, bytes: &[u8]) {
        let mut input = super::wire::Input(bytes);
        for counter in [
            Counter::RemoteRequests,
            Counter::RemoteBytes,
            Counter::RemoteRetries,
            Counter::RemoteDown,
            Counter::RemoteRefused,
        ] {
            self.observer.count(counter, input.array().map_or(0, u64::from_le_bytes));
        }
    }

    fn waited(&self, since: Instant) {
        *lock(&self.waited) = Instant::now();
        self.observer.count(Counter::RemoteWaited, since.elapsed().as_millis() as u64);
    }

    /// Waits until no other request fetches any of `items`.
    fn wait_for(&self, items: &[Item], patience: Duration) {
        let started = Instant::now();
        let mut coming = lock(&self.coming);
        while items.iter().any(|item| coming.contains(item)) && started.elapsed() < patience {
            let waited = self.arrived.wait_timeout(coming, Duration::from_millis(500));
            coming = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Supplier for Line {
    fn checks(&self, digest: &Digest) -> Option<Checks> {
        self.checks.get(digest)
    }

    fn supply(&self, wanted: &Wanted, pieces: &[u64], take: &mut dyn FnMut(u64, &[u8])) -> io::Result<()> {
        let started = Instant::now();
        *lock(&self.shared.waited) = started;
        let item = |piece: &u64| Some(Item { digest: wanted.digest, piece: u32::try_from(*piece).ok()? });
        let items: Vec<Item> = pieces.iter().filter_map(item).collect();
        let claim = Claim::of(&self.shared, items.clone());
        let fetched = self.fetch(claim, true, &mut |item, bytes| take(item.piece.into(), bytes));
        if fetched.is_ok() {
            self.shared.wait_for(&items, self.patience);
        }
        self.shared.waited(started);
        fetched
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Err(error) = self.shared.stream.shutdown(std::net::Shutdown::Both) {
            log::debug!("The line was closed before: {error}");
        }
        let mut child = lock(&self.child);
        // It exits by itself when the line is closed, unless it hangs in the network.
        if let Err(error) = child.kill().and_then(|()| child.wait()) {
            log::debug!("The fetcher ended before: {error}");
        }
    }
}
