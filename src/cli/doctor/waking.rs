//! The cost of waking a thread: most of the cost of a request, and on a virtual machine decided by its administrator.

use std::io::{Read, Write, pipe};
use std::time::{Duration, Instant};

use serde::Serialize;

#[cfg(unix)]
use crate::fs::fuse::awake::KeepAwake;
use crate::sys::host;

/// How many round trips are timed.
const ROUNDS: usize = 500;
/// Above this, a hint is shown: without halting, a round trip takes some 5 µs.
const DEAR: f64 = 15.0;
/// The kernel's default polling time before it halts, in nanoseconds.
const USUAL: u64 = 200_000;

/// The results.
#[derive(Debug, Serialize)]
pub struct Waking {
    /// The median time to send a byte to another thread and back; `None` if it could not be measured.
    round_trip_us: Option<f64>,
    /// How long an idle processor of this virtual machine polls before it is returned to the host; `None` if unknown, or not a
    /// virtual machine.
    halt_poll_ns: Option<u64>,
    /// Whether a mount by this user keeps processors awake during bursts of requests.
    kept_awake: bool,
    advice: Option<String>,
}

/// Measures.
pub fn examine() -> Waking {
    let round_trip_us = round_trip().ok().map(|time| (time.as_secs_f64() * 1e7).round() / 10.0);
    let halt_poll_ns = host::halt_poll_nanos();
    let kept_awake = kept_awake();
    let advice = if kept_awake { None } else { advice(round_trip_us, halt_poll_ns) };
    Waking { round_trip_us, halt_poll_ns, kept_awake, advice }
}

#[cfg(unix)]
fn kept_awake() -> bool {
    KeepAwake::Auto.claim().is_ok_and(|claim| claim.is_some())
}

#[cfg(not(unix))]
fn kept_awake() -> bool {
    false
}

fn advice(round_trip_us: Option<f64>, halt_poll_ns: Option<u64>) -> Option<String> {
    let dear = round_trip_us? > DEAR && halt_poll_ns? < USUAL;
    dear.then(|| {
        format!("as root, `echo {USUAL} >{}` makes every request to a mount cheaper", host::HALT_POLL_NANOS)
    })
}

/// The median of many round trips.
fn round_trip() -> std::io::Result<Duration> {
    let ((mut asked, mut ask), (mut answered, mut answer)) = (pipe()?, pipe()?);
    let other = std::thread::spawn(move || {
        let mut byte = [0];
        while asked.read(&mut byte)? == 1 {
            answer.write_all(&byte)?;
        }
        std::io::Result::Ok(())
    });
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        ask.write_all(&[0])?;
        answered.read_exact(&mut [0])?;
        times.push(started.elapsed());
    }
    drop(ask);
    drop(other.join());
    times.sort_unstable();
    Ok(times[ROUNDS / 2])
}

/// The line of text output.
pub fn line(waking: &Waking) -> String {
    let time = waking.round_trip_us.map_or("not known".to_owned(), |time| format!("{time} us a round trip"));
    let kept = if waking.kept_awake { "; a mount keeps processors awake while requests come" } else { "" };
    let advice = waking.advice.as_ref().map_or(String::new(), |advice| format!("; {advice}"));
    format!("waking a thread: {time}{kept}{advice}")
}

#[cfg(test)]
mod tests {
    use super::{advice, examine, line};

    #[test]
    fn advice_is_given_where_it_helps() {
        for (time, halt, given) in [
            (Some(40.0), Some(0), true),
            (Some(40.0), Some(200_000), false),
            (Some(40.0), None, false),
            (Some(5.0), Some(0), false),
            (None, Some(0), false),
        ] {
            assert_eq!(advice(time, halt).is_some(), given, "{time:?} {halt:?}");
        }
    }

    #[test]
    fn a_round_trip_takes_time() {
        let waking = examine();
        assert!(waking.round_trip_us.is_some_and(|time| time > 0.0), "{waking:?}");
        assert!(line(&waking).contains("us a round trip"));
    }
}
