//! The fetcher: the process that accesses a remote on behalf of a daemon, for as long as the line to it is open. See [`super::line`].

use std::io::{self, BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::address::Address;
use super::bytecode;
use super::error::RemoteError;
use super::fetch::{Manner, Source};
use super::head::chunks;
use super::lazy;
use super::line::{Message, MessageKind, Order, Request};
use super::transport::{self, Access, Patience};
use crate::error::chain;
use crate::rcc::catalog::CatalogId;
use crate::rcc::digest::{Digest, Regime};
use crate::sys::fs::place::Place;
use crate::sys::process::daemon;

/// For what a read is waiting for.
const DEMAND: Manner = Manner { connections: 4, first: 1 << 20, piece: 1 << 20 };
/// For prefetching. The program waits for what it reads first, so that must not share the network with what comes much later.
const AHEAD: Manner = Manner { connections: 8, first: 128 << 10, piece: 1 << 20 };

/// How long the parts that are fetched first may take before the bytecode is fetched, too.
const HEAD_START: Duration = Duration::from_millis(250);

/// Serves the line until it is closed. `access` opens the remote with the timeouts of the order.
pub fn serve(stream: UnixStream, access: impl FnOnce(Patience) -> Access) -> Result<(), RemoteError> {
    daemon::keep_heap_small();
    let failed = || RemoteError::io("Reading from", "the line to the daemon");
    let mut from = BufReader::new(stream.try_clone().map_err(failed())?);
    let mut line = String::new();
    from.read_line(&mut line).map_err(failed())?;
    let order: Order = serde_json::from_str(&line).map_err(|error| failed()(io::Error::other(error)))?;
    let to = Mutex::new(stream);
    let seconds = Duration::from_secs(order.fetch_timeout.max(1));
    let patience = Patience { piece: seconds, ..Patience::default() };
    let opened = open(&order, &access(patience));
    std::thread::scope(|scope| {
        let (to, opened) = (&to, &opened);
        scope.spawn(|| fetch_bytecode(opened, &order));
        while let Some(request) = Request::read(&mut from) {
            scope.spawn(move || {
                let outcome = opened.as_ref().map_err(|error| chain(error).to_string());
                let outcome = outcome.and_then(|Opened { source, .. }| {
                    answer(source, &request, to).map_err(|error| chain(&error).to_string())
                });
                if let Ok(Opened { source, .. }) = opened {
                    let counts = source.new_counts().map(u64::to_le_bytes).concat();
                    send(to, request.id, &Message::new(MessageKind::Traffic, counts));
                }
                let last = match outcome {
                    Ok(()) => Message::new(MessageKind::Done, Vec::new()),
                    Err(why) => {
                        let end = why.len().min(1000);
                        Message::new(MessageKind::Failed, why.as_bytes()[..end].to_vec())
                    }
                };
                send(to, request.id, &last);
            });
        }
        // The daemon is gone: transfers in progress are not needed.
        daemon::end()
    })
}

/// Fetches the bytecode of the environment, after what a program reads while it starts.
fn fetch_bytecode(opened: &Result<Opened, RemoteError>, order: &Order) {
    let Ok(Opened { source, catalog }) = opened else { return };
    let started = Instant::now();
    while source.traffic.parts() < AHEAD.connections && started.elapsed() < HEAD_START {
        std::thread::sleep(Duration::from_millis(2));
    }
    let place = lazy::bytecode_in(&Place::top(&*order.state));
    if let Err(error) = bytecode::fetch(source, *catalog, &place) {
        log::warn!("Runs compile what they import: {}", chain(&error));
    }
}

struct Opened {
    source: Source,
    catalog: CatalogId,
}

fn open(order: &Order, access: &Access) -> Result<Opened, RemoteError> {
    let address: Address = order.address.parse()?;
    let remote = transport::open(&address, access)?;
    let mut head = lazy::head(&Place::top(&*order.state), &order.head)?;
    let catalog = Digest::of(Regime::Sha256, &head.stored_catalog);
    // Only the places of content are needed.
    head.stored_catalog = Vec::new();
    daemon::release_memory();
    let source = Source::new(remote, Arc::new(head), access.patience);
    Ok(Opened { source, catalog })
}

fn answer(source: &Source, request: &Request, to: &Mutex<UnixStream>) -> Result<(), RemoteError> {
    let mut wanted = Vec::with_capacity(request.items.len());
    for item in &request.items {
        let at = u64::from(item.piece);
        let blob = source.head.blob(&item.digest).filter(|blob| at < chunks(blob.size));
        let unknown = || {
            let (what, remote) =
                (format!("piece {at} of blob {}", item.digest), source.remote.address().to_owned());
            RemoteError::NotFound { what, remote }
        };
        wanted.push((blob.ok_or_else(unknown)?, at));
    }
    let manner = if request.is_urgent { DEMAND } else { AHEAD };
    source.pieces(&wanted, manner, &|blob, at, bytes| {
        let (Digest::Sha256(digest), Ok(piece)) = (blob.digest, u32::try_from(at)) else { return };
        send(to, request.id, &Message { kind: MessageKind::Piece, digest, piece, bytes });
    })
}

/// Writes a message. If the daemon is gone, the reading thread notices.
fn send(to: &Mutex<UnixStream>, id: u32, message: &Message) {
    let to = to.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = message.write(id, &mut &*to) {
        log::debug!("Cannot write to the daemon: {error}");
    }
}
