//! What goes over the line between a daemon and its fetcher. Parsing is bounded: the other side
//! cannot make this one allocate more than the longest message.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use crate::rcc::digest::Digest;
use crate::remote::object::ObjectId;
use crate::remote::wire::Input;
use crate::store::pieces::PIECE;

/// The maximum number of bytes in one message.
pub const MAX_MESSAGE: usize = PIECE as usize;
/// The maximum number of pieces in a request.
const MAX_PIECES: u32 = 1 << 22;

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
    /// A piece of a blob.
    Piece,
    /// The request failed; the bytes are the reason.
    Failed,
    /// The request is complete.
    Done,
    /// What the fetcher did since the last of these, 64 bits each: requests, bytes, retries, how often the remote began to count as
    /// down, and requests that failed at once because of that.
    Traffic,
}

/// The length of a message before its bytes.
const HEADER: usize = 4 + 1 + 32 + 4 + 4;

/// A message from the fetcher.
#[derive(Debug)]
pub struct Message {
    /// Its kind.
    pub kind: MessageKind,
    /// Its blob.
    pub digest: [u8; 32],
    /// Its piece of the blob.
    pub piece: u32,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Message {
    /// A message that is about no piece.
    pub fn new(kind: MessageKind, bytes: Vec<u8>) -> Message {
        Message { kind, digest: [0; 32], piece: 0, bytes }
    }

    /// Writes the message as part of the answer to request `id`.
    pub fn write(&self, id: u32, out: &mut impl io::Write) -> io::Result<()> {
        let mut head = Vec::with_capacity(HEADER);
        head.extend_from_slice(&id.to_le_bytes());
        head.push(self.kind as u8);
        head.extend_from_slice(&self.digest);
        head.extend_from_slice(&self.piece.to_le_bytes());
        head.extend_from_slice(&(self.bytes.len() as u32).to_le_bytes());
        out.write_all(&head)?;
        out.write_all(&self.bytes)
    }

    /// Reads a message; returns it with the number of its request.
    pub fn read(from: &mut impl Read) -> io::Result<(u32, Message)> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "the fetcher violates the protocol");
        let mut head = [0; HEADER];
        from.read_exact(&mut head)?;
        let mut input = Input(&head);
        let id = input.array().map(u32::from_le_bytes).ok_or_else(invalid)?;
        let kind = match input.array() {
            Some([0]) => MessageKind::Piece,
            Some([1]) => MessageKind::Failed,
            Some([2]) => MessageKind::Done,
            Some([3]) => MessageKind::Traffic,
            _ => return Err(invalid()),
        };
        let digest = input.array().ok_or_else(invalid)?;
        let piece = input.array().map(u32::from_le_bytes).ok_or_else(invalid)?;
        let len = input.array().map(u32::from_le_bytes).and_then(|len| usize::try_from(len).ok());
        let len = len.filter(|&len| len <= MAX_MESSAGE).ok_or_else(invalid)?;
        let mut bytes = vec![0; len];
        from.read_exact(&mut bytes)?;
        Ok((id, Message { kind, digest, piece, bytes }))
    }
}

/// Content to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Item {
    /// The blob.
    pub digest: Digest,
    /// Its piece.
    pub piece: u32,
}

/// A request for pieces.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Its number.
    pub id: u32,
    /// A reader waits for it.
    pub is_urgent: bool,
    /// The pieces, in order.
    pub items: Vec<Item>,
}

impl Request {
    /// The request as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(9 + 36 * self.items.len());
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.push(self.is_urgent.into());
        bytes.extend_from_slice(&(self.items.len() as u32).to_le_bytes());
        for item in &self.items {
            bytes.extend_from_slice(item.digest.as_bytes());
            bytes.extend_from_slice(&item.piece.to_le_bytes());
        }
        bytes
    }

    /// The next request; `None` if the daemon is gone.
    pub fn read(from: &mut impl Read) -> Option<Request> {
        let mut head = [0; 9];
        from.read_exact(&mut head).ok()?;
        let mut input = Input(&head);
        let id = u32::from_le_bytes(input.array()?);
        let [urgent] = input.array()?;
        let count = u32::from_le_bytes(input.array()?);
        if count > MAX_PIECES {
            return None;
        }
        let mut items = Vec::new();
        for _ in 0..count {
            let mut item = [0; 36];
            from.read_exact(&mut item).ok()?;
            let mut input = Input(&item);
            let digest = Digest::Sha256(input.array()?);
            items.push(Item { digest, piece: u32::from_le_bytes(input.array()?) });
        }
        Some(Request { id, is_urgent: urgent != 0, items })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_others_are_refused() {
        let mut bytes = Vec::new();
        let message =
            Message { kind: MessageKind::Piece, digest: [3; 32], piece: 5, bytes: b"content".to_vec() };
        message.write(7, &mut bytes).unwrap();
        let (id, message) = Message::read(&mut &bytes[..]).unwrap();
        assert_eq!(
            (id, message.kind, message.digest, message.piece, &message.bytes[..]),
            (7, MessageKind::Piece, [3; 32], 5, &b"content"[..])
        );
        let mut other = bytes.clone();
        other[4] = 9;
        assert!(Message::read(&mut &other[..]).is_err());
        let mut long = bytes.clone();
        long[41..45].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Message::read(&mut &long[..]).is_err());
        assert!(Message::read(&mut &bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn requests_come_back_and_cut_ones_are_none() {
        let item = |byte: u8, piece| Item { digest: Digest::Sha256([byte; 32]), piece };
        let request = Request { id: 9, is_urgent: true, items: vec![item(1, 0), item(1, 7), item(2, 3)] };
        let bytes = request.to_bytes();
        assert_eq!(Request::read(&mut &bytes[..]), Some(request));
        assert_eq!(Request::read(&mut &bytes[..bytes.len() - 1]), None);
    }
}
