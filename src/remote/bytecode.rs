//! The bytecode of an environment as an object: one zstd frame of what [`travel`] makes of it.
//!
//! It only saves time, so a failure to get it is never more than a line in the log. Its digest is in the head, so it is as authentic as
//! the sources.

use std::io;

use super::error::RemoteError;
use super::fetch::{Manner, Source};
use super::head::MAX_BYTECODE;
use super::object::{Object, ObjectId, ObjectKind};
use crate::rcc::catalog::CatalogId;
use crate::space::bytecode::travel;
use crate::sys::fs::place::Place;

/// Level 19 of zstd is 9 % smaller, and takes eight times as long (measured on the standard library).
const LEVEL: i32 = 12;

/// It shares the network with what the program reads, which it needs as soon.
const MANNER: Manner = Manner { connections: 4, first: 512 << 10, piece: 512 << 10 };

/// The object with this bytecode; `None` if it would be too large.
pub fn packed(bytecode: &[u8]) -> io::Result<Option<(Object, Vec<u8>)>> {
    let bytes = zstd::bulk::compress(bytecode, LEVEL)?;
    let object = Object { kind: ObjectKind::Pack, id: ObjectId::of(&bytes), size: bytes.len() as u64 };
    Ok((object.size <= MAX_BYTECODE).then_some((object, bytes)))
}

/// Fetches the bytecode of `catalog` to `place`, unless it is there, or the environment has none.
pub fn fetch(source: &Source, catalog: CatalogId, place: &Place) -> Result<(), RemoteError> {
    let Some(object) = source.head.bytecode else { return Ok(()) };
    let storing = || RemoteError::io("Storing", place.path());
    if place.is_there().map_err(storing())? {
        return Ok(());
    }
    let bytes = source.whole(&object, MANNER)?;
    let decoder = zstd::stream::read::Decoder::with_buffer(&bytes[..]).map_err(storing())?;
    travel::incoming(place, catalog, decoder.single_frame()).map_err(storing())
}
