//! Limits on the wake-up latency of processors, as the kernel takes them from a process (PM quality of service).
//!
//! A claim holds for the whole machine, and ends with the process that made it, however it ends. With a limit of zero an idle
//! processor polls for work instead of halting; any program that needs it gets it at once, so the cost is power and nothing else.

use std::fs::File;
use std::io::{self, Write};

/// The device for claims; only root may open it.
pub const DEVICE: &str = "/dev/cpu_dma_latency";
/// The value that the kernel treats as no claim, in microseconds.
const NONE: i32 = 2_000_000_000;

/// A claim that can be made and withdrawn.
#[derive(Debug)]
pub struct Claim(File);

impl Claim {
    /// Opens the device without making a claim. Fails if there is no such device, or it may not be opened.
    pub fn open() -> io::Result<Claim> {
        File::options().write(true).open(DEVICE).map(Claim)
    }

    /// From now on no processor halts.
    pub fn make(&self) -> io::Result<()> {
        self.say(0)
    }

    /// From now on processors may halt again.
    pub fn withdraw(&self) -> io::Result<()> {
        self.say(NONE)
    }

    fn say(&self, microseconds: i32) -> io::Result<()> {
        (&self.0).write_all(&microseconds.to_ne_bytes())
    }
}
