//! The protocol, version 1: one request in one packet, one answer in one packet, then the connection ends.
//!
//! ```text
//! request  magic "HFMH" · version u16 · operation u16 · flags u32 · mount id u64          (20 bytes, little endian)
//! answer   magic "HFMH" · version u16 · status u16 (0 done, 1 refused) · mount id u64 · text for people
//! mount    operation 1, flags 1 read-only | 2 allow-other, id 0; descriptors: the directory, and if it is in another mount
//!          namespace than the helper, that namespace. The answer carries the /dev/fuse descriptor.
//! unmount  operation 2, flags 0, id of the mount; descriptors: the root of the mount, and maybe the namespace
//! ```
//! Both sides use this module, so that they cannot diverge. Parsing is pure and total: any input gives a request or an error, an
//! answer or an error.

use std::fmt;

/// The first bytes of every packet.
pub const MAGIC: [u8; 4] = *b"HFMH";
/// The only version.
pub const VERSION: u16 = 1;
/// The length of a request.
pub const LEN: usize = 20;
/// More descriptors than this are never accepted.
pub const MOST_DESCRIPTORS: usize = 2;
/// The maximum length of an answer.
pub const MOST_ANSWER: usize = HEAD + MOST_TEXT;

/// Magic, version, status, mount id; text follows.
const HEAD: usize = 16;
/// The maximum length of the text for people.
const MOST_TEXT: usize = 1000;

const MOUNT: u16 = 1;
const UNMOUNT: u16 = 2;
const READ_ONLY: u32 = 1;
const ALLOW_OTHER: u32 = 2;
const DONE: u16 = 0;
const REFUSED: u16 = 1;

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Mount on the directory.
    Mount {
        /// Read-only.
        read_only: bool,
        /// Other users may access it.
        allow_other: bool,
    },
    /// Unmount.
    Unmount {
        /// Its id.
        mount_id: u64,
    },
}

/// Why a packet is not a valid request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Not 20 bytes.
    Length(usize),
    /// Another protocol.
    Magic,
    /// An unknown version.
    Version(u16),
    /// Neither mount nor unmount.
    Operation(u16),
    /// Invalid flags for the operation.
    Flags(u32),
    /// A mount with an id, or an unmount without one.
    MountId(u64),
    /// None, or too many.
    Descriptors(usize),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Length(length) => write!(f, "a request has {LEN} bytes, not {length}"),
            Malformed::Magic => f.write_str("this is not the helper's protocol"),
            Malformed::Version(version) => write!(f, "version {version} is not supported, only {VERSION}"),
            Malformed::Operation(operation) => write!(f, "unknown operation {operation}"),
            Malformed::Flags(flags) => write!(f, "unknown flags {flags:#x}"),
            Malformed::MountId(id) => write!(f, "mount id {id} does not belong here"),
            Malformed::Descriptors(count) => write!(f, "1 or 2 descriptors come with a request, not {count}"),
        }
    }
}

impl Request {
    /// The packet of the request.
    pub fn packet(self) -> Vec<u8> {
        let (operation, flags, id) = match self {
            Request::Mount { read_only, allow_other } => {
                (MOUNT, (u32::from(read_only) * READ_ONLY) | (u32::from(allow_other) * ALLOW_OTHER), 0)
            }
            Request::Unmount { mount_id } => (UNMOUNT, 0, mount_id),
        };
        let mut packet = head(operation);
        packet.extend(flags.to_le_bytes());
        packet.extend(id.to_le_bytes());
        packet
    }
}

/// The beginning of every packet.
fn head(word: u16) -> Vec<u8> {
    let mut packet = Vec::from(MAGIC);
    packet.extend(VERSION.to_le_bytes());
    packet.extend(word.to_le_bytes());
    packet
}

/// Parses a packet that came with `descriptors` descriptors.
pub fn parse(packet: &[u8], descriptors: usize) -> Result<Request, Malformed> {
    let packet: &[u8; LEN] = packet.try_into().map_err(|_| Malformed::Length(packet.len()))?;
    let [m0, m1, m2, m3, v0, v1, o0, o1, f0, f1, f2, f3, id @ ..] = *packet;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(Malformed::Magic);
    }
    let (version, operation) = (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([o0, o1]));
    let (flags, mount_id) = (u32::from_le_bytes([f0, f1, f2, f3]), u64::from_le_bytes(id));
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let known = match operation {
        MOUNT => READ_ONLY | ALLOW_OTHER,
        UNMOUNT => 0,
        other => return Err(Malformed::Operation(other)),
    };
    if flags & !known != 0 {
        return Err(Malformed::Flags(flags));
    }
    if (operation == MOUNT) != (mount_id == 0) {
        return Err(Malformed::MountId(mount_id));
    }
    if !(1..=MOST_DESCRIPTORS).contains(&descriptors) {
        return Err(Malformed::Descriptors(descriptors));
    }
    Ok(match operation {
        MOUNT => Request::Mount { read_only: flags & READ_ONLY != 0, allow_other: flags & ALLOW_OTHER != 0 },
        _ => Request::Unmount { mount_id },
    })
}

/// The answer: the mount's id, or the reason of a failure.
pub fn answer(outcome: Result<u64, &str>) -> Vec<u8> {
    let (status, id, text) = match outcome {
        Ok(id) => (DONE, id, ""),
        Err(why) => (REFUSED, 0, why),
    };
    let mut packet = head(status);
    packet.extend(id.to_le_bytes());
    packet.extend(text.bytes().take(MOST_TEXT));
    packet
}

/// Why there is no mount, for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// The helper's reason.
    Refused(String),
    /// The packet is too short.
    Short(usize),
    /// Another protocol, or another version of it.
    Foreign,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoAnswer::Refused(why) => f.write_str(why),
            NoAnswer::Short(length) => write!(f, "the helper's answer has {length} bytes, fewer than {HEAD}"),
            NoAnswer::Foreign => f.write_str("the helper uses another version of the protocol"),
        }
    }
}

impl std::error::Error for NoAnswer {}

/// Parses an answer: the mount's id, or the reason of a failure.
pub fn parse_answer(answer: &[u8]) -> Result<u64, NoAnswer> {
    let (head, text) = answer.split_first_chunk::<HEAD>().ok_or(NoAnswer::Short(answer.len()))?;
    let [m0, m1, m2, m3, v0, v1, s0, s1, id @ ..] = *head;
    if [m0, m1, m2, m3] != MAGIC || u16::from_le_bytes([v0, v1]) != VERSION {
        return Err(NoAnswer::Foreign);
    }
    match u16::from_le_bytes([s0, s1]) {
        DONE => Ok(u64::from_le_bytes(id)),
        _ => Err(NoAnswer::Refused(String::from_utf8_lossy(text).into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(version: u16, operation: u16, flags: u32, id: u64) -> Vec<u8> {
        let mut packet = Vec::from(MAGIC);
        packet.extend(version.to_le_bytes());
        packet.extend(operation.to_le_bytes());
        packet.extend(flags.to_le_bytes());
        packet.extend(id.to_le_bytes());
        packet
    }

    #[test]
    fn the_four_ways_to_mount_and_the_one_to_unmount_are_understood() {
        for (flags, read_only, allow_other) in
            [(0, false, false), (1, true, false), (2, false, true), (3, true, true)]
        {
            assert_eq!(parse(&packet(1, 1, flags, 0), 1), Ok(Request::Mount { read_only, allow_other }));
        }
        assert_eq!(parse(&packet(1, 2, 0, 77), 2), Ok(Request::Unmount { mount_id: 77 }));
    }

    #[test]
    fn hostile_requests_are_refused_each_for_its_own_reason() {
        let good = packet(1, 1, 0, 0);
        let with = |at: usize, byte: u8| {
            let mut packet = good.clone();
            packet[at] = byte;
            packet
        };
        let cases = [
            (vec![], 1, Malformed::Length(0)),
            (good[..19].to_vec(), 1, Malformed::Length(19)),
            ([good.clone(), vec![0]].concat(), 1, Malformed::Length(21)),
            (vec![0xff; 64 << 10], 1, Malformed::Length(64 << 10)),
            (with(0, b'h'), 1, Malformed::Magic),
            (vec![0; LEN], 1, Malformed::Magic),
            (packet(0, 1, 0, 0), 1, Malformed::Version(0)),
            (packet(2, 1, 0, 0), 1, Malformed::Version(2)),
            (packet(0x0100, 1, 0, 0), 1, Malformed::Version(0x0100)),
            (packet(1, 0, 0, 0), 1, Malformed::Operation(0)),
            (packet(1, 3, 0, 0), 1, Malformed::Operation(3)),
            (packet(1, 0x0101, 0, 0), 1, Malformed::Operation(0x0101)),
            (packet(1, 1, 4, 0), 1, Malformed::Flags(4)),
            (packet(1, 1, u32::MAX, 0), 1, Malformed::Flags(u32::MAX)),
            (packet(1, 2, 1, 5), 1, Malformed::Flags(1)),
            (packet(1, 1, 0, 9), 1, Malformed::MountId(9)),
            (packet(1, 2, 0, 0), 1, Malformed::MountId(0)),
            (good.clone(), 0, Malformed::Descriptors(0)),
            (good.clone(), 3, Malformed::Descriptors(3)),
            (good.clone(), usize::MAX, Malformed::Descriptors(usize::MAX)),
        ];
        for (packet, descriptors, why) in cases {
            assert_eq!(parse(&packet, descriptors), Err(why), "{why}");
        }
    }

    #[test]
    fn what_is_no_answer_is_a_reason() {
        let refused = answer(Err("no rule"));
        assert_eq!(parse_answer(&answer(Ok(97))), Ok(97));
        assert_eq!(parse_answer(&refused), Err(NoAnswer::Refused("no rule".into())));
        assert_eq!(parse_answer(b""), Err(NoAnswer::Short(0)));
        assert_eq!(parse_answer(&refused[..15]), Err(NoAnswer::Short(15)));
        assert_eq!(parse_answer(&[0; 16]), Err(NoAnswer::Foreign));
        let mut newer = answer(Ok(1));
        newer[4] = 2;
        assert_eq!(parse_answer(&newer), Err(NoAnswer::Foreign));
    }

    proptest! {
        #[test]
        fn what_one_side_says_the_other_understands(
            read_only: bool, allow_other: bool, mount_id in 1_u64.., why in ".{0,200}",
        ) {
            for request in [Request::Mount { read_only, allow_other }, Request::Unmount { mount_id }] {
                prop_assert_eq!(parse(&request.packet(), 1), Ok(request));
            }
            prop_assert_eq!(parse_answer(&answer(Ok(mount_id))), Ok(mount_id));
            prop_assert_eq!(parse_answer(&answer(Err(&why))), Err(NoAnswer::Refused(why)));
        }

        #[test]
        fn any_bytes_are_a_request_or_a_reason(
            bytes in proptest::collection::vec(any::<u8>(), 0..64), count in 0_usize..5,
        ) {
            if parse(&bytes, count).is_ok() {
                prop_assert!(bytes.len() == LEN && bytes.starts_with(&MAGIC));
            }
        }

        #[test]
        fn every_well_formed_head_is_judged_by_its_fields(
            version in 0_u16..3, operation in 0_u16..4, flags in 0_u32..8, id in 0_u64..3, count in 0_usize..4,
        ) {
            let allowed = match operation { 1 => flags < 4 && id == 0, 2 => flags == 0 && id > 0, _ => false };
            let right = version == 1 && allowed && (1..=2).contains(&count);
            prop_assert_eq!(parse(&packet(version, operation, flags, id), count).is_ok(), right);
        }

        #[test]
        fn an_answer_is_bounded_whatever_it_says(why in ".*") {
            let packet = answer(Err(&why));
            prop_assert!(packet.starts_with(&MAGIC) && (HEAD..=MOST_ANSWER).contains(&packet.len()));
        }
    }
}
