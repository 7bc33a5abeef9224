//! The fetcher: the process that accesses a remote on behalf of a daemon, for as long as the line to it is open. See [`super::line`].

use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use super::address::Address;
use super::error::RemoteError;
use super::fetch::{Manner, Source, Traffic};
use super::head::{Blob, Head, MAX_HEAD};
use super::lazy;
use super::line::{MAX_MESSAGE, Message, MessageKind, Order};
use super::transport::{self, Access, Patience};
use super::wire::Input;
use crate::error::chain;
use crate::rcc::digest::Digest;

/// For a single file that a read is waiting for.
const DEMAND: Manner = Manner { connections: 1, piece: 1 << 20 };
/// For prefetching.
const AHEAD: Manner = Manner { connections: 8, piece: 1 << 20 };
/// The maximum number of digests in a request.
const MAX_DIGESTS: u32 = 1 << 22;

/// Serves the line until it is closed. `access` opens the remote with the timeouts of the order.
pub fn serve(stream: UnixStream, access: impl FnOnce(Patience) -> Access) -> Result<(), RemoteError> {
    let failed = || RemoteError::io("Reading from", "the line to the daemon");
    let mut from = BufReader::new(stream.try_clone().map_err(failed())?);
    let mut line = String::new();
    from.read_line(&mut line).map_err(failed())?;
    let order: Order = serde_json::from_str(&line).map_err(|error| failed()(io::Error::other(error)))?;
    let to = Mutex::new(stream);
    let seconds = std::time::Duration::from_secs(order.fetch_timeout.max(1));
    let patience = Patience { piece: seconds, ..Patience::default() };
    let opened = open(&order, &access(patience));
    std::thread::scope(|scope| {
        let (to, opened) = (&to, &opened);
        while let Some((id, digests)) = request(&mut from) {
            scope.spawn(move || {
                let outcome = opened.as_ref().map_err(|error| chain(error).to_string());
                let outcome = outcome.and_then(|source| {
                    answer(source, id, &digests, to).map_err(|error| chain(&error).to_string())
                });
                if let Ok(source) = opened {
                    let counts = source.traffic.new_counts().map(u64::to_le_bytes).concat();
                    send(to, id, MessageKind::Traffic, &[0; 32], &counts);
                }
                let (kind, text) = match outcome {
                    Ok(()) => (MessageKind::Done, String::new()),
                    Err(why) => (MessageKind::Failed, why),
                };
                send(to, id, kind, &[0; 32], &text.as_bytes()[..text.len().min(1000)]);
            });
        }
        // The daemon is gone: transfers in progress are not needed.
        crate::sys::process::daemon::end()
    })
}

fn open(order: &Order, access: &Access) -> Result<Source, RemoteError> {
    let address: Address = order.address.parse()?;
    let remote = transport::open(&address, access)?;
    let path = order.state.join(lazy::HEAD);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(&path).map_err(RemoteError::io("Opening", &path))?;
    file.take(MAX_HEAD + 1).read_to_end(&mut bytes).map_err(RemoteError::io("Reading", &path))?;
    let invalid = |source| RemoteError::Head { id: order.head, remote: path.display().to_string(), source };
    let head = Head::parse(&bytes, &order.head).map_err(invalid)?;
    Ok(Source { remote, head: Arc::new(head), traffic: Traffic::default() })
}

/// The next request; `None` if the daemon is gone.
fn request(from: &mut impl Read) -> Option<(u32, Vec<Digest>)> {
    let mut head = [0; 8];
    from.read_exact(&mut head).ok()?;
    let mut input = Input(&head);
    let (id, count) = (u32::from_le_bytes(input.array()?), u32::from_le_bytes(input.array()?));
    if count > MAX_DIGESTS {
        return None;
    }
    let mut digests = Vec::new();
    for _ in 0..count {
        let mut digest = [0; 32];
        from.read_exact(&mut digest).ok()?;
        digests.push(Digest::Sha256(digest));
    }
    Some((id, digests))
}

fn answer(source: &Source, id: u32, digests: &[Digest], to: &Mutex<UnixStream>) -> Result<(), RemoteError> {
    let blobs: Vec<&Blob> = digests.iter().filter_map(|digest| source.head.blob(digest)).collect();
    if let (true, Some(unknown)) =
        (blobs.len() < digests.len(), digests.iter().find(|digest| source.head.blob(digest).is_none()))
    {
        let (what, remote) = (format!("blob {unknown}"), source.remote.address().to_owned());
        return Err(RemoteError::NotFound { what, remote });
    }
    let manner = if digests.len() == 1 { DEMAND } else { AHEAD };
    source.fetch(&blobs, manner, &|blob, open| {
        let Digest::Sha256(digest) = blob.digest else { return Ok(()) };
        let failed = || RemoteError::io("Fetching", format!("blob {}", blob.digest));
        let mut content = open().map_err(failed())?;
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            match content.read(&mut buffer).map_err(failed())? {
                0 => break,
                len => send(to, id, MessageKind::Data, &digest, &buffer[..len]),
            }
        }
        send(to, id, MessageKind::End, &digest, &[]);
        Ok(())
    })
}

/// Writes a message. If the daemon is gone, the reading thread notices.
fn send(to: &Mutex<UnixStream>, id: u32, kind: MessageKind, digest: &[u8; 32], bytes: &[u8]) {
    let to = to.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = Message::write(id, kind, digest, bytes, &mut &*to) {
        log::debug!("The daemon takes nothing any more: {error}");
    }
}
