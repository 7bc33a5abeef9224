//! Fetches content from packs: few requests, in parallel, with every chunk verified before use.
//!
//! Blobs that are close together in a pack are fetched with one request; a large one is fetched alone, piece by piece, so that memory
//! stays bounded. Invalid content is fetched again, twice, possibly over a new connection; after that it counts as damage.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::breaker::Breaker;
use super::error::RemoteError;
use super::frame;
use super::head::{Blob, Frame, Head, chunk_len};
use super::object::{Object, ObjectId};
use super::transport::{Patience, Remote};
use crate::rcc::digest::{Digest, Regime};

/// Gaps up to this size between two frames are fetched too, rather than split the request.
const GAP: u64 = 64 << 10;
/// How often invalid content is fetched.
const TRIES: u32 = 3;

/// The content of one environment.
pub struct Source {
    /// The remote.
    pub remote: Arc<dyn Remote>,
    /// The environment's head.
    pub head: Arc<Head>,
    /// The requests so far.
    pub traffic: Traffic,
    /// The timeout for a part.
    patience: Duration,
    breaker: Breaker,
}

/// Statistics of the requests to a remote.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: AtomicU64,
    bytes: AtomicU64,
    again: AtomicU64,
    parts: AtomicUsize,
}

impl Traffic {
    /// The same as [`Traffic::counts`] since the last call, with retries of requests instead of invalid content alone.
    pub fn new_counts(&self) -> [u64; 3] {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let retries = take(&self.again) + super::transport::new_retries();
        [take(&self.requests), take(&self.bytes), retries]
    }

    /// The parts of packs that have arrived.
    pub fn parts(&self) -> usize {
        self.parts.load(Ordering::Relaxed)
    }

    /// Requests for parts of packs, bytes received, and how often content was invalid.
    pub fn counts(&self) -> (u64, u64, u64) {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (get(&self.requests), get(&self.bytes), get(&self.again))
    }
}

/// The blobs of one request, or one blob that needs several.
#[derive(Debug, PartialEq, Eq)]
enum Job<'h> {
    /// Blobs that are adjacent in a pack.
    Together(Adjacent<&'h Blob>),
    /// A blob that is too large, or in several packs.
    Alone(&'h Blob),
}

/// A piece of a blob, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece<'h> {
    blob: &'h Blob,
    at: u64,
    frame: &'h Frame,
}

/// What one request fetches: blobs or pieces in one range of a pack.
#[derive(Debug, PartialEq, Eq)]
struct Adjacent<T> {
    pack: u32,
    range: Range<u64>,
    items: Vec<T>,
}

/// Receives the content of a piece of a blob.
pub type PieceSink<'s> = dyn Fn(&Blob, u64, Vec<u8>) + Sync + 's;
/// Receives the content of a blob, which is opened again if it must be read again.
pub type Sink<'s> = dyn Fn(&Blob, &mut Open<'_>) -> Result<(), RemoteError> + Sync + 's;
/// Opens the content of a blob at its start.
pub type Open<'o> = dyn FnMut() -> io::Result<Box<dyn Read + 'o>> + 'o;

/// The number and size of parallel requests.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Parallel requests.
    pub connections: usize,
    /// The maximum size of the first request on each connection in bytes; that of each further one is twice as large.
    pub first: u64,
    /// The maximum size of one request in bytes.
    pub piece: u64,
}

/// For bulk transfers, where throughput matters and not latency.
pub const BULK: Manner = Manner { connections: 12, first: 4 << 20, piece: 4 << 20 };

impl Manner {
    /// The maximum size in bytes of the request with this number.
    fn most(self, number: usize) -> u64 {
        let doubled = u32::try_from(number / self.connections.max(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(2_u64.saturating_pow(doubled)).min(self.piece)
    }
}

impl Source {
    /// The content of `head` at `remote`; a part may take as long as `patience` says.
    pub fn new(remote: Arc<dyn Remote>, head: Arc<Head>, patience: Patience) -> Source {
        let (traffic, breaker) = (Traffic::default(), Breaker::default());
        Source { remote, head, traffic, patience: patience.piece, breaker }
    }

    /// Since the last call: requests, bytes, retries, how often the remote began to count as down, requests that failed at once.
    pub fn new_counts(&self) -> [u64; 5] {
        let [requests, bytes, again] = self.traffic.new_counts();
        let [down, refused] = self.breaker.new_counts();
        [requests, bytes, again, down, refused]
    }

    /// Fetches `wanted` and passes each blob to `sink`, from several threads. Stops at the first failure.
    pub fn fetch(&self, wanted: &[&Blob], manner: Manner, sink: &Sink<'_>) -> Result<(), RemoteError> {
        let jobs = plan(&self.head, wanted, manner.piece);
        in_parallel(&jobs, manner.connections, &|job| self.run(job, manner, sink))
    }

    /// Fetches pieces of blobs and passes on each that is right, from several threads. Stops at the first failure.
    pub fn pieces(
        &self,
        wanted: &[(&Blob, u64)],
        manner: Manner,
        sink: &PieceSink<'_>,
    ) -> Result<(), RemoteError> {
        let jobs = pieces_together(&self.head, wanted, manner);
        in_parallel(&jobs, manner.connections, &|job| self.pass_on(job, sink))
    }

    fn pass_on(&self, job: &Adjacent<Piece<'_>>, sink: &PieceSink<'_>) -> Result<(), RemoteError> {
        let mut left = job.items.clone();
        self.until_right(|| {
            let bytes = self.part(job.pack, &job.range)?;
            let mut damaged = None;
            left.retain(|piece| {
                match self.chunk(piece.blob, piece.at, piece.frame, &bytes, job.range.start) {
                    Ok(content) => {
                        sink(piece.blob, piece.at, content);
                        false
                    }
                    Err(error) => {
                        damaged.get_or_insert(error);
                        true
                    }
                }
            });
            damaged.map_or(Ok(()), Err)
        })
    }

    fn run(&self, job: &Job<'_>, manner: Manner, sink: &Sink<'_>) -> Result<(), RemoteError> {
        match job {
            Job::Alone(blob) => sink(blob, &mut || {
                Ok(Box::new(Chunks { source: self, blob, manner, at: 0, ready: io::Cursor::default() }))
            }),
            Job::Together(request) => {
                for (blob, content) in self.together(request)? {
                    sink(blob, &mut || Ok(Box::new(&content[..])))?;
                }
                Ok(())
            }
        }
    }

    /// The verified content of blobs in one range of a pack.
    fn together<'h>(&self, request: &Adjacent<&'h Blob>) -> Result<Vec<(&'h Blob, Vec<u8>)>, RemoteError> {
        self.until_right(|| {
            let bytes = self.part(request.pack, &request.range)?;
            let content = |blob: &&'h Blob| {
                let mut content = Vec::with_capacity(usize::try_from(blob.size).unwrap_or_default());
                for (at, frame) in self.head.frames(blob).iter().enumerate() {
                    content.extend(self.chunk(blob, at as u64, frame, &bytes, request.range.start)?);
                }
                Ok((*blob, content))
            };
            request.items.iter().map(content).collect()
        })
    }

    /// Content of a blob from chunk `first` on: as many adjacent chunks as fit in a piece.
    pub fn chunks(&self, blob: &Blob, first: u64, piece: u64) -> Result<Vec<u8>, RemoteError> {
        let frames = self.head.frames(blob);
        let rest = usize::try_from(first).ok().and_then(|first| frames.get(first..)).unwrap_or_default();
        let Some(start) = rest.first() else { return Ok(Vec::new()) };
        let mut range = start.range();
        let mut count = 0;
        for frame in rest {
            let next = frame.range();
            let near = next.start >= range.end && next.start - range.end <= GAP || count == 0;
            if frame.pack != start.pack || !near || (count > 0 && next.end - range.start > piece) {
                break;
            }
            range.end = next.end;
            count += 1;
        }
        self.until_right(|| {
            let bytes = self.part(start.pack, &range)?;
            let mut content = Vec::new();
            for (at, frame) in rest.iter().take(count).enumerate() {
                content.extend(self.chunk(blob, first + at as u64, frame, &bytes, range.start)?);
            }
            Ok(content)
        })
    }

    /// A whole pack, verified; an error if this environment has no such pack.
    pub fn whole(&self, pack: &Object, manner: Manner) -> Result<Vec<u8>, RemoteError> {
        let at = self.head.packs.iter().position(|one| one == pack).and_then(|at| u32::try_from(at).ok());
        let missing =
            || RemoteError::NotFound { what: pack.to_string(), remote: self.remote.address().to_owned() };
        let at = at.ok_or_else(missing)?;
        let starts = (0..pack.size).step_by(usize::try_from(manner.piece).unwrap_or(usize::MAX));
        let ranges: Vec<Range<u64>> =
            starts.map(|start| start..pack.size.min(start + manner.piece)).collect();
        self.until_right(|| {
            let parts: Vec<OnceLock<Vec<u8>>> = ranges.iter().map(|_| OnceLock::new()).collect();
            let jobs: Vec<(&Range<u64>, &OnceLock<Vec<u8>>)> = ranges.iter().zip(&parts).collect();
            in_parallel(&jobs, manner.connections, &|(range, part)| {
                let bytes = self.part(at, range)?;
                part.get_or_init(|| bytes);
                Ok(())
            })?;
            let bytes = parts.into_iter().filter_map(OnceLock::into_inner).collect::<Vec<_>>().concat();
            match ObjectId::of(&bytes) {
                found if found == pack.id => Ok(bytes),
                found => Err(self.damaged("it", at, format!("its SHA-256 is {found}"))),
            }
        })
    }

    fn until_right<T>(&self, mut work: impl FnMut() -> Result<T, RemoteError>) -> Result<T, RemoteError> {
        let mut tried = 1;
        loop {
            match work() {
                Err(error @ RemoteError::Damaged { .. }) if tried < TRIES => {
                    log::warn!("{error}; fetching it again");
                    self.traffic.again.fetch_add(1, Ordering::Relaxed);
                    tried += 1;
                }
                outcome => return outcome,
            }
        }
    }

    fn part(&self, pack: u32, range: &Range<u64>) -> Result<Vec<u8>, RemoteError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let Some(object) = self.head.packs.get(pack as usize) else {
            return Err(self.damaged("a frame", pack, "there is no such pack".to_owned()));
        };
        let bytes = self.breaker.run(self.remote.address(), self.patience, |limit| {
            self.traffic.requests.fetch_add(1, Ordering::Relaxed);
            self.remote.range(object, range.clone(), limit)
        })?;
        self.traffic.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.traffic.parts.fetch_add(1, Ordering::Relaxed);
        Ok(bytes)
    }

    /// The verified chunk of a frame, from the bytes of the pack that begin at `start`.
    fn chunk(
        &self,
        blob: &Blob,
        at: u64,
        frame: &Frame,
        bytes: &[u8],
        start: u64,
    ) -> Result<Vec<u8>, RemoteError> {
        let range = frame.range();
        let place = |at: u64| usize::try_from(at.checked_sub(start)?).ok();
        let what = || format!("Chunk {at} of blob {}", blob.digest);
        let stored = place(range.start).zip(place(range.end)).and_then(|(from, to)| bytes.get(from..to));
        let stored = stored.ok_or_else(|| self.damaged(&what(), frame.pack, "it is cut off".to_owned()))?;
        let len = usize::try_from(chunk_len(blob.size, at)).unwrap_or_default();
        let chunk = frame::decode(frame.kind, stored, len)
            .map_err(|error| self.damaged(&what(), frame.pack, error.to_string()))?;
        let is_right = match frame.check {
            Some(check) => ObjectId::of(&chunk).0 == check,
            None => Digest::of(Regime::Sha256, &chunk) == blob.digest,
        };
        match is_right {
            true => Ok(chunk),
            false => Err(self.damaged(&what(), frame.pack, "its content has another digest".to_owned())),
        }
    }

    /// The error for damage of a pack, of which nothing cached is used again.
    fn damaged(&self, what: &str, pack: u32, why: String) -> RemoteError {
        let object = self.head.packs.get(pack as usize);
        if let Some(object) = object {
            self.remote.forget(object);
        }
        let pack = object.map(|object| object.id.to_string()).unwrap_or_default();
        let what = format!("{what} in pack {pack}");
        RemoteError::Damaged { what, remote: self.remote.address().to_owned(), why }
    }
}

/// Runs `work` for each job, from several threads. Stops at the first failure.
fn in_parallel<J: Sync>(
    jobs: &[J],
    threads: usize,
    work: &(dyn Fn(&J) -> Result<(), RemoteError> + Sync),
) -> Result<(), RemoteError> {
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
    let failed = || failure.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if failed().is_some() {
                return;
            }
            if let Err(error) = work(job) {
                failed().get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(jobs.len()) {
            scope.spawn(work);
        }
        work();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// The requests that fetch pieces, in the order of the packs.
fn pieces_together<'h>(
    head: &'h Head,
    wanted: &[(&'h Blob, u64)],
    manner: Manner,
) -> Vec<Adjacent<Piece<'h>>> {
    let place = |&(blob, at): &(&'h Blob, u64)| {
        let frame = head.frames(blob).get(usize::try_from(at).ok()?)?;
        Some((frame.pack, frame.range(), Piece { blob, at, frame }))
    };
    adjacent(wanted.iter().filter_map(place).collect(), |number| manner.most(number))
}

/// Items with their pack and range, in the order of the packs; those that are close together form one request, of at most `most` bytes
/// for each number of a request.
fn adjacent<T>(mut placed: Vec<(u32, Range<u64>, T)>, most: impl Fn(usize) -> u64) -> Vec<Adjacent<T>> {
    placed.sort_by_key(|(pack, range, _)| (*pack, range.start));
    let mut requests: Vec<Adjacent<T>> = Vec::new();
    for (pack, range, item) in placed {
        let most = most(requests.len().saturating_sub(1));
        match requests.last_mut() {
            Some(last)
                if last.pack == pack
                    && range.start <= last.range.end.saturating_add(GAP)
                    && range.end.max(last.range.end) - last.range.start <= most =>
            {
                last.range.end = last.range.end.max(range.end);
                last.items.push(item);
            }
            _ => requests.push(Adjacent { pack, range, items: vec![item] }),
        }
    }
    requests
}

/// The content of a large blob, fetched on demand while it is read.
struct Chunks<'s> {
    source: &'s Source,
    blob: &'s Blob,
    manner: Manner,
    /// Bytes already returned or buffered.
    at: u64,
    ready: io::Cursor<Vec<u8>>,
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ready.position() == self.ready.get_ref().len() as u64 && self.at < self.blob.size {
            let first = self.at / frame::CHUNK;
            let content =
                self.source.chunks(self.blob, first, self.manner.piece).map_err(io::Error::other)?;
            self.at += content.len() as u64;
            self.ready = io::Cursor::new(content);
        }
        self.ready.read(buffer)
    }
}

/// The requests that fetch `wanted`, in the order of the packs.
fn plan<'h>(head: &Head, wanted: &[&'h Blob], piece: u64) -> Vec<Job<'h>> {
    let mut placed: Vec<(u32, Range<u64>, &'h Blob)> = Vec::new();
    let mut jobs = Vec::new();
    for &blob in wanted {
        match extent(head.frames(blob), piece) {
            Some((pack, range)) => placed.push((pack, range, blob)),
            None => jobs.push(Job::Alone(blob)),
        }
    }
    jobs.extend(adjacent(placed, |_| piece).into_iter().map(Job::Together));
    jobs
}

/// The location of a blob, if one request can fetch it.
fn extent(frames: &[Frame], piece: u64) -> Option<(u32, Range<u64>)> {
    let Some(first) = frames.first() else { return Some((0, 0..0)) };
    let start = frames.iter().map(|frame| frame.offset).min()?;
    let end = frames.iter().map(|frame| frame.range().end).max()?;
    let stored: u64 = frames.iter().map(|frame| u64::from(frame.stored)).sum();
    let is_one = frames.iter().all(|frame| frame.pack == first.pack);
    (is_one && end - start <= piece && end - start <= stored + GAP).then_some((first.pack, start..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_grow_until_they_have_their_usual_size() {
        let placed: Vec<_> = (0..60).map(|at| (7, at * 50..(at + 1) * 50, at)).collect();
        let manner = Manner { connections: 2, first: 100, piece: 400 };
        let requests = adjacent(placed, |number| manner.most(number));
        let sizes: Vec<u64> =
            requests.iter().map(|request| request.range.end - request.range.start).collect();
        assert_eq!(sizes, [100, 100, 200, 200, 400, 400, 400, 400, 400, 400]);
        let items: Vec<u64> = requests.into_iter().flat_map(|request| request.items).collect();
        assert_eq!(items, (0..60).collect::<Vec<u64>>());
        assert_eq!((manner.most(usize::MAX), BULK.most(0), BULK.most(100)), (400, 4 << 20, 4 << 20));
    }
}
