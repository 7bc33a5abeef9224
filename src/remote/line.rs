//! The daemon's end of the line to its fetcher: requests content by digest, and trusts nothing it receives.
//!
//! The fetcher is a separate process: it has the network, the logins and the parsers of server responses; the daemon has none of
//! these. Content that arrives over the line is untrusted: the store verifies all of it. If the fetcher dies, all requests fail and
//! none hangs.
//!
//! ```text
//! to the fetcher    the order, a line of JSON; then requests: number · how many digests · the digests
//! from it           number · kind (1 byte) · digest · length · bytes                    all numbers 32 bits, little endian
//! ```
//! Content that is already being transferred is not requested again: other readers wait until it is complete.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::object::ObjectId;
use crate::rcc::digest::Digest;
use crate::store::observe::{Counter, Observer};
use crate::store::{Store, Supplier, Supply, Wanted};

/// The maximum number of bytes in one message.
pub const MAX_MESSAGE: usize = 256 << 10;
/// The number of messages buffered per reader.
const WAITING: usize = 16;
/// Files above this size are not prefetched but streamed while they are read: they would fill the memory.
const LARGE: u64 = 8 << 20;
/// The fetcher reports its own timeouts; this is for one that does not respond at all.
const SLACK: Duration = Duration::from_secs(10);

/// The task of a fetcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The address of the remote.
    pub address: String,
    /// The directory with the head's file.
    pub state: std::path::PathBuf,
    /// The head.
    pub head: ObjectId,
    /// The timeout for content, in seconds.
    pub fetch_timeout: u64,
}

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// The next bytes of a blob.
    Data,
    /// A blob is complete.
    End,
    /// The request failed; the bytes are the reason.
    Failed,
    /// The request is complete.
    Done,
    /// What the fetcher did since the last of these: requests, bytes and retries, 64 bits each.
    Traffic,
}

/// The length of a message before its bytes.
const HEADER: usize = 4 + 1 + 32 + 4;

/// A message from the fetcher.
#[derive(Debug)]
pub struct Message {
    /// Its kind.
    pub kind: MessageKind,
    /// Its blob.
    pub digest: [u8; 32],
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Message {
    /// Writes the message as part of the answer to request `id`.
    pub fn write(
        id: u32,
        kind: MessageKind,
        digest: &[u8; 32],
        bytes: &[u8],
        out: &mut impl io::Write,
    ) -> io::Result<()> {
        let mut head = Vec::with_capacity(HEADER);
        head.extend_from_slice(&id.to_le_bytes());
        head.push(kind as u8);
        head.extend_from_slice(digest);
        head.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.write_all(&head)?;
        out.write_all(bytes)
    }

    /// Reads a message; returns it with the number of its request.
    pub fn read(from: &mut impl Read) -> io::Result<(u32, Message)> {
        let invalid =
            || io::Error::new(io::ErrorKind::InvalidData, "the fetcher does not keep to the protocol");
        let mut head = [0; HEADER];
        from.read_exact(&mut head)?;
        let mut input = super::wire::Input(&head);
        let id = input.array().map(u32::from_le_bytes).ok_or_else(invalid)?;
        let kind = match input.array() {
            Some([0]) => MessageKind::Data,
            Some([1]) => MessageKind::End,
            Some([2]) => MessageKind::Failed,
            Some([3]) => MessageKind::Done,
            Some([4]) => MessageKind::Traffic,
            _ => return Err(invalid()),
        };
        let digest = input.array().ok_or_else(invalid)?;
        let len = input.array().map(u32::from_le_bytes).and_then(|len| usize::try_from(len).ok());
        let len = len.filter(|&len| len <= MAX_MESSAGE).ok_or_else(invalid)?;
        let mut bytes = vec![0; len];
        from.read_exact(&mut bytes)?;
        Ok((id, Message { kind, digest, bytes }))
    }
}

/// The line to one fetcher.
pub struct Line {
    shared: Arc<Shared>,
    child: Mutex<Child>,
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
    coming: Mutex<HashSet<Digest>>,
    arrived: Condvar,
    /// Why nothing arrives any more.
    ended: Mutex<Option<String>>,
    observer: Arc<dyn Observer>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    /// Starts the fetcher: `command` is this program with its arguments. The fetcher ends when the line is closed.
    pub fn start(mut command: Command, order: &Order, observer: Arc<dyn Observer>) -> io::Result<Line> {
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
            ended: Mutex::default(),
            observer,
        };
        let patience = Duration::from_secs(order.fetch_timeout) + SLACK;
        Ok(Line { shared: Arc::new(shared), child: Mutex::new(child), listening: Once::new(), patience })
    }

    fn ask(&self, digests: &[Digest]) -> io::Result<Receiver<Message>> {
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
        let mut request = Vec::with_capacity(8 + 32 * digests.len());
        request.extend_from_slice(&id.to_le_bytes());
        request.extend_from_slice(&(digests.len() as u32).to_le_bytes());
        digests.iter().for_each(|digest| request.extend_from_slice(digest.as_bytes()));
        let guard = lock(&self.shared.writing);
        let sent = (&self.shared.stream).write_all(&request);
        drop(guard);
        // The line ended before this request: nothing else would remove it again.
        if let Some(why) =
            sent.err().map(|error| error.to_string()).or_else(|| lock(&self.shared.ended).clone())
        {
            lock(&self.shared.pending).remove(&id);
            return Err(io::Error::other(format!("the fetcher is gone: {why}")));
        }
        Ok(receive)
    }

    /// Fetches `wanted` into `store`, many at a time, in the order of the packs; files too large for memory are left out. Failures are
    /// ignored: missing content is requested again when it is needed. Returns the number fetched.
    pub fn prefetch(&self, wanted: &[Wanted], store: &Store) -> u64 {
        let new: HashMap<Digest, Wanted> = {
            let mut coming = lock(&self.shared.coming);
            let lacks = |wanted: &&Wanted| wanted.size <= LARGE && store.ready(wanted).is_none();
            let lacking: Vec<Wanted> = wanted.iter().filter(lacks).copied().collect();
            lacking
                .into_iter()
                .filter(|wanted| coming.insert(wanted.digest))
                .map(|wanted| (wanted.digest, wanted))
                .collect()
        };
        if new.is_empty() {
            return 0;
        }
        // In the given order.
        let mut seen = HashSet::new();
        let order: Vec<Digest> = wanted
            .iter()
            .map(|wanted| wanted.digest)
            .filter(|digest| new.contains_key(digest) && seen.insert(*digest))
            .collect();
        let mut came = 0;
        match self.ask(&order) {
            Ok(receive) => self.take_in(&receive, &new, store, &mut came),
            Err(error) => log::warn!("Nothing is fetched ahead: {error}"),
        }
        let mut coming = lock(&self.shared.coming);
        coming.retain(|digest| !new.contains_key(digest));
        self.shared.arrived.notify_all();
        came
    }

    fn take_in(
        &self,
        receive: &Receiver<Message>,
        new: &HashMap<Digest, Wanted>,
        store: &Store,
        came: &mut u64,
    ) {
        let mut open: HashMap<Digest, Vec<u8>> = HashMap::new();
        while let Ok(message) = receive.recv_timeout(self.patience) {
            let digest = Digest::Sha256(message.digest);
            match message.kind {
                MessageKind::Data => {
                    let Some(wanted) = new.get(&digest) else { continue };
                    let content = open.entry(digest).or_default();
                    if (content.len() + message.bytes.len()) as u64 <= wanted.size {
                        content.extend_from_slice(&message.bytes);
                    }
                }
                MessageKind::End => {
                    let content = open.remove(&digest).unwrap_or_default();
                    let Some(wanted) = new.get(&digest) else { continue };
                    match store.admit(wanted, &mut &content[..]) {
                        Ok(_) => *came += 1,
                        Err(error) => log::warn!("{error}"),
                    }
                    lock(&self.shared.coming).remove(&digest);
                    self.shared.arrived.notify_all();
                }
                MessageKind::Failed => {
                    log::warn!("Fetching ahead ended: {}", String::from_utf8_lossy(&message.bytes));
                    return;
                }
                MessageKind::Done => return,
                MessageKind::Traffic => {}
            }
        }
    }
}

impl Shared {
    fn listen(&self) {
        let mut from = io::BufReader::with_capacity(MAX_MESSAGE, &self.stream);
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
}

impl Shared {
    fn count(&self, bytes: &[u8]) {
        let mut input = super::wire::Input(bytes);
        for counter in [Counter::RemoteRequests, Counter::RemoteBytes, Counter::RemoteRetries] {
            self.observer.count(counter, input.array().map_or(0, u64::from_le_bytes));
        }
    }

    fn waited(&self, since: Instant) {
        self.observer.count(Counter::RemoteWaited, since.elapsed().as_millis() as u64);
    }
}

impl Supplier for Line {
    fn supply(&self, wanted: &Wanted) -> io::Result<Supply> {
        let started = Instant::now();
        let mut coming = lock(&self.shared.coming);
        let was_coming = coming.contains(&wanted.digest);
        while coming.contains(&wanted.digest) && started.elapsed() < self.patience {
            let waited = self.shared.arrived.wait_timeout(coming, Duration::from_millis(500));
            coming = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(coming);
        self.shared.waited(started);
        if was_coming {
            return Ok(Supply::Look);
        }
        let receive = self.ask(&[wanted.digest])?;
        Ok(Supply::Content(Box::new(Content {
            shared: Arc::clone(&self.shared),
            receive,
            ready: io::Cursor::default(),
            patience: self.patience,
            ended: false,
        })))
    }
}

/// Content while it arrives.
struct Content {
    shared: Arc<Shared>,
    receive: Receiver<Message>,
    ready: io::Cursor<Vec<u8>>,
    patience: Duration,
    ended: bool,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended && self.ready.position() == self.ready.get_ref().len() as u64 {
            let started = Instant::now();
            let message = self.receive.recv_timeout(self.patience);
            self.shared.waited(started);
            let message = message.map_err(|_| io::Error::other("the fetcher does not answer"))?;
            match message.kind {
                MessageKind::Data => self.ready = io::Cursor::new(message.bytes),
                MessageKind::End | MessageKind::Done => self.ended = true,
                MessageKind::Traffic => {}
                MessageKind::Failed => {
                    return Err(io::Error::other(String::from_utf8_lossy(&message.bytes).into_owned()));
                }
            }
        }
        self.ready.read(buffer)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_others_are_refused() {
        let mut bytes = Vec::new();
        Message::write(7, MessageKind::Data, &[3; 32], b"content", &mut bytes).unwrap();
        let (id, message) = Message::read(&mut &bytes[..]).unwrap();
        assert_eq!(
            (id, message.kind, message.digest, &message.bytes[..]),
            (7, MessageKind::Data, [3; 32], &b"content"[..])
        );
        let mut other = bytes.clone();
        other[4] = 9;
        assert!(Message::read(&mut &other[..]).is_err());
        let mut long = bytes.clone();
        long[37..41].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Message::read(&mut &long[..]).is_err());
        assert!(Message::read(&mut &bytes[..bytes.len() - 1]).is_err());
    }
}
