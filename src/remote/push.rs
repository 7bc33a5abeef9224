//! Sends an environment: packs first, then the head, then the names that refer to it.
//!
//! Existing content is not sent: frames in packs of earlier environments are referred to, and since equal content always gives the
//! same packs in the same order, a push after an interrupted one finds the packs already sent. A name is published only when
//! everything it refers to is there; so a push may be interrupted at any point, and a partial one is never visible.

mod packing;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Instant;

use super::address::Address;
use super::bytecode;
use super::error::RemoteError;
use super::head::{Blob, Frame, Head, MAX_HEAD, add_bytecode, distinct, encode};
use super::object::{Object, ObjectId, ObjectKind};
use super::profile::Profile;
use super::reference::{Reference, Small};
use super::resolve::{fetch_head, now};
use super::signature::SecretKey;
use super::transport::{OWN_NAME, Remote};
use crate::rcc::catalog::{Catalog, MAX_STORED};
use crate::rcc::digest::Digest;
use crate::store::Library;
use crate::store::observe::Observer;
use crate::sys::fs::stat::read_regular;
use packing::{Pack, Packer};

/// How many earlier environments are searched for frames.
const EARLIER: usize = 16;
/// How many packs are sent in parallel.
const SENDERS: usize = 4;

/// What to send, and how.
pub struct Push<'p> {
    /// The target.
    pub remote: &'p dyn Remote,
    /// Its address, for messages.
    pub address: &'p Address,
    /// The source of the blobs.
    pub library: &'p Library,
    /// What runs read first: it goes into the first packs, and the profile is sent too.
    pub profile: Option<Profile>,
    /// What runs imported, compiled ([`travel::outgoing`](crate::space::bytecode::travel::outgoing)).
    pub bytecode: Option<Vec<u8>>,
    /// The signing key, and its name.
    pub key: Option<(&'p SecretKey, &'p str)>,
    /// Receives progress in bytes of content.
    pub observer: &'p dyn Observer,
}

/// The result of a push.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Pushed {
    /// The address of the environment.
    pub remote: String,
    /// Its identity, as used in a pin.
    pub head: ObjectId,
    /// RCC's name of the catalog.
    pub catalog: String,
    /// Distinct blobs.
    pub blobs: u64,
    /// Bytes of content.
    pub raw_bytes: u64,
    /// Blobs that earlier environments of the remote contain.
    pub blobs_referred: u64,
    /// Bytes of their frames: not sent.
    pub bytes_referred: u64,
    /// Packs sent by this push.
    pub packs_sent: u64,
    /// Packs that an earlier push had sent.
    pub packs_present: u64,
    /// The size of the bytecode, compressed; 0 if there is none.
    pub bytecode_bytes: u64,
    /// Bytes sent, including head and profile.
    pub bytes_sent: u64,
    /// The environment is signed.
    pub signed: bool,
    /// The duration.
    pub seconds: f64,
}

/// Where blobs are or will be: packs as objects, and frames with the index of their pack.
#[derive(Default)]
struct Placed {
    packs: Vec<Object>,
    frames: BTreeMap<Digest, Vec<Frame>>,
}

impl Push<'_> {
    /// Sends the catalog at `path` with all its blobs.
    pub fn run(&self, path: &Path) -> Result<Pushed, RemoteError> {
        let started = Instant::now();
        let (catalog, stored) = read(path)?;
        let name = catalog.header.file_name();
        let blobs = distinct(&catalog).map_err(|source| RemoteError::Unfit { name: name.clone(), source })?;
        let raw_bytes: u64 = blobs.values().sum();
        self.observer.expect(raw_bytes);
        let mut pushed = Pushed {
            remote: self.address.to_string(),
            head: ObjectId([0; 32]),
            catalog: name.clone(),
            blobs: blobs.len() as u64,
            raw_bytes,
            blobs_referred: 0,
            bytes_referred: 0,
            packs_sent: 0,
            packs_present: 0,
            bytecode_bytes: 0,
            bytes_sent: 0,
            signed: self.key.is_some(),
            seconds: 0.0,
        };
        let mut placed = self.referred(&stored, &blobs, &mut pushed)?;
        let referred = placed.packs.clone();
        self.send_packs(&catalog, &blobs, &mut placed, &mut pushed)?;
        let bytecode = self.send_bytecode(&mut pushed)?;
        placed.packs.extend(bytecode);
        let bytes = encode(&stored, &placed.packs, &placed.frames);
        let mut bytes = bytes.map_err(|source| RemoteError::Unfit { name: name.clone(), source })?;
        if bytecode.is_some() {
            add_bytecode(&mut bytes, placed.packs.len() - 1);
        }
        self.finish(&bytes, &placed.packs, &referred, &mut pushed)?;
        pushed.seconds = started.elapsed().as_secs_f64();
        Ok(pushed)
    }

    /// Frames in packs of the remote that store the same content. A head of the catalog `stored` gives its packs in their order, and
    /// all of its frames, so that the new head is the same.
    fn referred(
        &self,
        stored: &[u8],
        blobs: &BTreeMap<Digest, u64>,
        pushed: &mut Pushed,
    ) -> Result<Placed, RemoteError> {
        let mut placed = Placed::default();
        let mut places: HashMap<ObjectId, Option<u32>> = HashMap::new();
        let mut earlier = self.earlier()?;
        earlier.sort_by_key(|head| head.stored_catalog != stored);
        for head in earlier {
            let is_wanted = |blob: &&Blob| {
                blobs.get(&blob.digest) == Some(&blob.size) && !placed.frames.contains_key(&blob.digest)
            };
            let wanted: Vec<&Blob> = head.blobs().iter().filter(is_wanted).collect();
            self.place(&head, &wanted, &mut places, &mut placed)?;
            for blob in wanted {
                let frames = head.frames(blob);
                let place = |frame: &Frame| {
                    let pack = head.packs.get(frame.pack as usize)?;
                    let place = places.get(&pack.id).copied().flatten()?;
                    Some(Frame { pack: place, ..*frame })
                };
                let Some(own) = frames.iter().map(place).collect::<Option<Vec<Frame>>>() else { continue };
                if self.has_chunks(&blob.digest, blob.size, &own)? {
                    pushed.blobs_referred += 1;
                    pushed.bytes_referred += own.iter().map(|frame| u64::from(frame.stored)).sum::<u64>();
                    self.observer.advance(blob.size);
                    placed.frames.insert(blob.digest, own);
                }
            }
        }
        Ok(placed)
    }

    /// Adds the packs that the wanted blobs of a head need, in the order of that head, if they exist.
    fn place(
        &self,
        head: &Head,
        wanted: &[&Blob],
        places: &mut HashMap<ObjectId, Option<u32>>,
        placed: &mut Placed,
    ) -> Result<(), RemoteError> {
        let frames = wanted.iter().flat_map(|blob| head.frames(blob));
        let needed: BTreeSet<usize> = frames.map(|frame| frame.pack as usize).collect();
        for pack in needed.into_iter().filter_map(|at| head.packs.get(at)) {
            if places.contains_key(&pack.id) {
                continue;
            }
            let is_there = self.remote.size(pack)? == Some(pack.size);
            places.insert(pack.id, is_there.then_some(placed.packs.len() as u32));
            placed.packs.extend(is_there.then_some(*pack));
        }
        Ok(())
    }

    /// True if the frames have the chunks of our blob: another's head is not trusted.
    fn has_chunks(&self, digest: &Digest, size: u64, frames: &[Frame]) -> Result<bool, RemoteError> {
        if frames.len() < 2 {
            return Ok(true);
        }
        let mut checks = packing::Checks::default();
        self.library.stream(digest, size, &mut checks)?;
        Ok(checks.finish().iter().zip(frames).all(|(check, frame)| frame.check == Some(*check)))
    }

    /// The heads of existing environments: that of the same name first.
    fn earlier(&self) -> Result<Vec<Head>, RemoteError> {
        let mut names = match self.remote.names() {
            Ok(names) => names,
            Err(RemoteError::Unsupported { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        names.retain(|name| *name != self.address.name);
        // Names given by people are more informative than the environments' own.
        names.sort_by_key(|name| name.starts_with(OWN_NAME));
        names.insert(0, self.address.name.clone());
        let (mut heads, mut seen) = (Vec::new(), HashSet::new());
        for name in names {
            if heads.len() == EARLIER {
                break;
            }
            match self.remote.reference(&name).and_then(|found| match found {
                Some(found) if seen.insert(found.head) => {
                    fetch_head(self.remote, &found.head_object()).map(Some)
                }
                _ => Ok(None),
            }) {
                Ok(found) => heads.extend(found.map(|(_, head)| head)),
                Err(error @ (RemoteError::Denied { .. } | RemoteError::Network { .. })) => return Err(error),
                Err(error) => log::info!("Content of {name} cannot be reused: {error}"),
            }
        }
        Ok(heads)
    }

    /// Packs missing content and sends it, both at the same time.
    fn send_packs(
        &self,
        catalog: &Catalog,
        blobs: &BTreeMap<Digest, u64>,
        placed: &mut Placed,
        pushed: &mut Pushed,
    ) -> Result<(), RemoteError> {
        let order = order(catalog, self.profile.as_ref(), &placed.frames);
        let wanted: Vec<(Digest, u64)> =
            order.into_iter().filter_map(|digest| Some((digest, *blobs.get(&digest)?))).collect();
        let (send, receive) = mpsc::sync_channel::<Pack>(1);
        let receive = Mutex::new(receive);
        let outcome: Mutex<Result<(u64, u64, u64), RemoteError>> = Mutex::new(Ok((0, 0, 0)));
        let hot = self.profile.as_ref().map(Profile::items).unwrap_or_default();
        let packer = Packer::new(self.library, self.observer, placed.packs.len() as u32, hot);
        let packed = std::thread::scope(|scope| {
            for _ in 0..SENDERS {
                scope.spawn(|| self.send_all(&receive, &outcome));
            }
            let packed = packer.run(&wanted, |pack| send.send(pack).is_ok());
            drop(send);
            packed
        });
        let (sent, present, bytes) = outcome.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        let (packs, frames) = packed?;
        (pushed.packs_sent, pushed.packs_present, pushed.bytes_sent) = (sent, present, bytes);
        placed.packs.extend(packs);
        placed.frames.extend(frames);
        Ok(())
    }

    /// Sends the bytecode, if there is any.
    fn send_bytecode(&self, pushed: &mut Pushed) -> Result<Option<Object>, RemoteError> {
        let Some(bytecode) = &self.bytecode else { return Ok(None) };
        let packed = bytecode::packed(bytecode).map_err(RemoteError::io("Packing", "the bytecode"))?;
        let Some((object, bytes)) = packed else { return Ok(None) };
        match self.send(&object, &bytes)? {
            0 => pushed.packs_present += 1,
            sent => {
                (pushed.packs_sent, pushed.bytes_sent) = (pushed.packs_sent + 1, pushed.bytes_sent + sent)
            }
        }
        pushed.bytecode_bytes = object.size;
        Ok(Some(object))
    }

    /// Sends packs until there are no more; after a failure it only drains them.
    fn send_all(
        &self,
        receive: &Mutex<mpsc::Receiver<Pack>>,
        outcome: &Mutex<Result<(u64, u64, u64), RemoteError>>,
    ) {
        loop {
            let next = receive.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(pack) = next else { return };
            if outcome.lock().unwrap_or_else(PoisonError::into_inner).is_err() {
                continue;
            }
            let sent = self.send(&pack.object, &pack.bytes);
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match (sent, &mut *outcome) {
                (Ok(0), Ok((_, present, _))) => *present += 1,
                (Ok(len), Ok((count, _, bytes))) => (*count, *bytes) = (*count + 1, *bytes + len),
                (Err(error), Ok(_)) => *outcome = Err(error),
                (_, Err(_)) => {}
            }
        }
    }

    /// Sends an object unless it exists; returns the number of bytes sent.
    fn send(&self, object: &Object, bytes: &[u8]) -> Result<u64, RemoteError> {
        if self.remote.size(object)? == Some(object.size) {
            return Ok(0);
        }
        self.remote.put(object, bytes).map(|()| object.size)
    }

    /// Sends head, profile and names.
    fn finish(
        &self,
        bytes: &[u8],
        packs: &[Object],
        referred: &[Object],
        pushed: &mut Pushed,
    ) -> Result<(), RemoteError> {
        let head = Object { kind: ObjectKind::Head, id: ObjectId::of(bytes), size: bytes.len() as u64 };
        debug_assert!(head.size <= MAX_HEAD);
        pushed.head = head.id;
        pushed.bytes_sent += self.send(&head, bytes)?;
        let mut reference = Reference::new(head.id, head.size, pushed.catalog.clone(), now());
        let mut objects = vec![head];
        objects.extend_from_slice(packs);
        if let Some(profile) = self.profile.as_ref().filter(|profile| !profile.items().is_empty()) {
            let text = profile.to_text().into_bytes();
            let object =
                Object { kind: ObjectKind::Profile, id: ObjectId::of(&text), size: text.len() as u64 };
            pushed.bytes_sent += self.send(&object, &text)?;
            reference.profile = Some(Small { id: object.id, size: object.size });
            objects.push(object);
        }
        reference.signature = self.key.map(|(key, shown)| key.sign(&head.id, shown)).transpose()?;
        self.remote.publish(&format!("{OWN_NAME}{}", head.id), &reference, &objects)?;
        // From here on a collection keeps the packs; one that ran before may have removed them.
        for pack in referred {
            if self.remote.size(pack)? != Some(pack.size) {
                let (what, remote) = (pack.to_string(), self.remote.address().to_owned());
                let why = "it was removed while this push referred to it: push again".to_owned();
                return Err(RemoteError::Damaged { what, remote, why });
            }
        }
        self.remote.publish(&self.address.name, &reference, &objects)
    }
}

/// The catalog at `path`, and its bytes in the format that RCC reads.
fn read(path: &Path) -> Result<(Catalog, Vec<u8>), RemoteError> {
    let (catalog, _) = Catalog::read(path)?;
    let stored = read_regular(path, MAX_STORED).map_err(RemoteError::io("Reading", path))?;
    let is_gzip =
        stored.starts_with(&[0x1f, 0x8b]) && Catalog::parse(&stored).is_ok_and(|read| read == catalog);
    if is_gzip {
        return Ok((catalog, stored));
    }
    let mut stored = Vec::new();
    catalog.write_to(&mut stored).map_err(RemoteError::io("Packing", path))?;
    Ok((catalog, stored))
}

/// The blobs to pack, without `known` ones: what runs read first, then directory by directory.
fn order(catalog: &Catalog, profile: Option<&Profile>, known: &BTreeMap<Digest, Vec<Frame>>) -> Vec<Digest> {
    let hot = profile.map(Profile::blobs).unwrap_or_default();
    let all = catalog.digests().map(|(digest, _)| *digest);
    let mut seen = HashSet::new();
    hot.into_iter().chain(all).filter(|digest| !known.contains_key(digest) && seen.insert(*digest)).collect()
}
