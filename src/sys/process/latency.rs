//! How late a processor may wake, as the kernel takes it from a process: its power management's quality of service.
//!
//! A claim holds for the whole machine, and ends with the process that made it, however that ends. Under one of zero an idle
//! processor looks for work instead of halting; a program that wants it has it at once, so it costs power and nothing else.

use std::fs::File;
use std::io::{self, Write};

/// Where claims are made; only root may open it.
pub const DEVICE: &str = "/dev/cpu_dma_latency";
/// What the kernel takes for no claim, in microseconds.
const NONE: i32 = 2_000_000_000;

/// A claim that can be made and taken back.
#[derive(Debug)]
pub struct Claim(File);

impl Claim {
    /// None is made yet. Errors: there is no such device, or it is not ours to open.
    pub fn open() -> io::Result<Claim> {
        File::options().write(true).open(DEVICE).map(Claim)
    }

    /// From now on no processor halts.
    pub fn make(&self) -> io::Result<()> {
        self.say(0)
    }

    /// From now on they may.
    pub fn withdraw(&self) -> io::Result<()> {
        self.say(NONE)
    }

    fn say(&self, microseconds: i32) -> io::Result<()> {
        (&self.0).write_all(&microseconds.to_ne_bytes())
    }
}
