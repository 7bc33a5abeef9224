//! Requests to the privileged mount helper: a parsed request is exactly what was sent.

use std::path::Path;

use holofs_mount_helper::protocol::{LEN, MOST_DESCRIPTORS, Request, parse};

/// The first byte is the number of descriptors, the rest the packet.
pub fn run(data: &[u8]) {
    let Some((&descriptors, packet)) = data.split_first() else { return };
    match parse(packet, descriptors.into()) {
        Ok(request) => {
            assert!(packet.len() == LEN && (1..=MOST_DESCRIPTORS).contains(&descriptors.into()));
            let id = u64::from_le_bytes(packet[12..20].try_into().unwrap());
            let expected = match request {
                Request::Mount { read_only, allow_other } => {
                    assert_eq!(
                        packet[8..12],
                        (u32::from(read_only) | u32::from(allow_other) << 1).to_le_bytes()
                    );
                    0
                }
                Request::Unmount { mount_id } => mount_id,
            };
            assert_eq!(id, expected);
        }
        Err(malformed) => assert!(malformed.to_string().len() < 200),
    }
}

/// Both operations.
pub fn seeds(_golden: &Path) -> Vec<Vec<u8>> {
    let packet = |operation: u8, flags: u8, id: u8| {
        let mut packet = vec![1];
        packet.extend(b"HFMH\x01\0");
        packet.extend([operation, 0, flags, 0, 0, 0, id, 0, 0, 0, 0, 0, 0, 0]);
        packet
    };
    vec![packet(1, 0, 0), packet(1, 3, 0), packet(2, 0, 7), vec![2]]
}
