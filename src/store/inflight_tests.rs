//! Tests of [`super::inflight`]; in a separate file, because a model compiles that one too.

use super::inflight::InFlight;
use super::layout::{RawKey, RawMode};
use crate::rcc::digest::{Digest, Regime};
use std::time::Duration;

#[test]
fn a_second_thread_waits_for_the_first_and_gets_no_ticket() {
    let key = RawKey { digest: Digest::of(Regime::SipHash128, b""), mode: RawMode::new(0o644) };
    let flight = InFlight::default();
    let ticket = flight.enter(key).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| flight.enter(key).is_none());
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiter.is_finished());
        drop(ticket);
        assert!(waiter.join().unwrap());
    });
    assert!(flight.enter(key).is_some());
}
