//! The supervisor: the first process of a mount, which outlives its servers.
//!
//! ```text
//! supervisor ── holds the device, the claim, the log, the handshake with the kernel; reads only messages of its server
//!     └─ server ── claims, mounts, serves; killed by the kernel when the supervisor ends
//! ```
//! **The supervisor is the mount**: `mount.json`, the claim and every report contain its process id, signals are sent to it, and
//! when it ends, the mount ends. It forks the server before it has loaded anything, so it stays small, and it never accesses the
//! mount, so it cannot hang. It forwards signals to the server:
//!
//! | signal | becomes |
//! |---|---|
//! | SIGTERM, SIGINT | [`Asked::Unmount`]; a server that is not ready yet is ended |
//! | SIGUSR1 | [`Asked::Quiet`] |
//! | SIGUSR2 | the installed program takes over from the server: [`successor`] |
//! | SIGHUP | nothing |
//!
//! If a server ends unexpectedly while the mount exists, another fork of the supervisor takes the connection over
//! ([`Session::take_over`](crate::fs::fuse::Session::take_over)): programs wait meanwhile, and see no other effect. There are three
//! limits. In each case the device is closed, programs get ENOTCONN, and the next mount of the space repairs it:
//!
//! - a crash loop: [`losses`];
//! - no server answers within [`DEADLINE`] of the death of the last one: waiting programs cannot even be killed until they are
//!   released this way;
//! - a mount that cannot be taken over: with passthrough, where only the dead server knew the open files, or if there was no
//!   memory for the counters.
//!
//! If the supervisor dies, so does the server, and the mount is dead.
//!
//! The supervisor has no sandbox: sandboxes are inherited, but its servers unmount and start programs before and outside their
//! sandbox. Like the server, it has no core file and no tracer.

mod link;
mod losses;
mod messages;
mod restart;
mod server;
mod successor;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::sys::process::fork::{self, Forked};
use crate::sys::process::mailbox::{self, Letter, Mailbox};
use crate::sys::process::{Process, daemon as process, limits};

use super::background;
use super::request::Order;

use link::Link;
use losses::Losses;
use messages::ServerMessage;
pub use messages::{Asked, Legacy, Standing};
pub use server::{Held, Server};
use successor::Successor;
pub use successor::{COMMAND, succeed};

/// How long a mount may stay without answers: until then, waiting programs cannot be killed.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a server may take to end for its successor.
const STOPPING: Duration = Duration::from_secs(5);
/// How long a program that has never served this mount may take to start serving; after that, the previous program serves again.
const UNTRIED: Duration = Duration::from_secs(4);
/// The exit code of a process ended by a signal is this plus the number of the signal, as in shells.
const SIGNALLED: i32 = 128;

/// How the process uses the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// It belongs to the starter, which waits until we detach: messages go to the log.
    Left,
    /// It is ours until the end.
    Kept,
}

/// Why a mount ended with its server.
#[derive(Debug)]
enum Over {
    /// It was unmounted, or never mounted.
    Ended,
    /// It is still mounted, but has no server any more.
    Lost(String),
}

/// Serves a mount with `work`, run in a separate process, and restarted if that process dies. Returns only in the supervisor, with
/// the exit code of the last server. This process must have one thread. `order` is for a successor of another version.
pub fn run(terminal: Terminal, order: Order, work: impl Fn(&Server<'_>) -> i32) -> io::Result<i32> {
    if let Err(why) = limits::raise() {
        log::debug!("{why}"); // the server refuses to start
    }
    let mut supervisor = Supervisor {
        mailbox: None,
        terminal,
        lock: None,
        log: None,
        mount: None,
        ending: false,
        order,
        program: None,
        successor: None,
        stopping: None,
        refused: None,
        deaths: 0,
        losses: Losses::default(),
    };
    let mut died = None;
    loop {
        let status = supervisor.serve(&work, died)?;
        died = Some(Instant::now());
        match supervisor.is_over(status) {
            None => {}
            Some(over) => {
                supervisor.end(&over, status);
                let code = status.code().unwrap_or_else(|| SIGNALLED + signal_of(status));
                return Ok(if matches!(over, Over::Lost(_)) && code == 0 { 1 } else { code });
            }
        }
    }
}

struct Supervisor {
    /// Created with the first server: until then, signals end this process.
    mailbox: Option<Mailbox>,
    terminal: Terminal,
    lock: Option<File>,
    log: Option<File>,
    mount: Option<(Standing, Option<(OwnedFd, File)>)>,
    /// An unmount was requested.
    ending: bool,
    order: Order,
    /// The program to start servers from, if not a fork of this process.
    program: Option<Program>,
    /// The next server, which does not serve yet.
    successor: Option<Successor>,
    /// When the server was asked to end for its successor.
    stopping: Option<Instant>,
    /// Why a restart was refused, for the next server to record.
    refused: Option<String>,
    deaths: u64,
    losses: Losses,
}

/// An installed program that serves instead of a fork of the supervisor.
struct Program {
    path: PathBuf,
    /// It has served this mount before.
    is_tried: bool,
}

/// A server and its state.
struct Child {
    process: Forked,
    link: Option<Link>,
    serves: bool,
}

impl Supervisor {
    /// Runs a server until it ends; returns its status. `died`: when the previous one died.
    fn serve(&mut self, work: &impl Fn(&Server<'_>) -> i32, died: Option<Instant>) -> io::Result<ExitStatus> {
        let mut child = self.start(work)?;
        loop {
            let left = self.time_left(&child, died);
            let Some(mailbox) = &self.mailbox else { return Err(io::ErrorKind::Unsupported.into()) };
            let links = child
                .link
                .iter()
                .chain(self.successor.iter().filter(|_| self.stopping.is_none()).map(Successor::link));
            let letters = mailbox.wait(&links.map(AsFd::as_fd).collect::<Vec<BorrowedFd<'_>>>(), left)?;
            if child.link.as_ref().is_some_and(Link::is_readable) {
                self.listen(&mut child, died);
            }
            self.hear_successor(&child)?;
            for letter in letters {
                self.pass_on(letter, &child);
            }
            if let Some(status) = child.process.try_wait()? {
                while child.link.as_ref().is_some_and(Link::is_readable) {
                    self.listen(&mut child, died);
                }
                return Ok(status);
            }
        }
    }

    /// Does what is due; returns the time until the next action is due.
    fn time_left(&mut self, child: &Child, died: Option<Instant>) -> Option<Duration> {
        if let Some(stopping) = self.stopping {
            if stopping.elapsed() > STOPPING {
                child.process.kill(true);
            }
            return Some(STOPPING.saturating_sub(stopping.elapsed()).max(Duration::from_millis(10)));
        }
        let Some(died) = died.filter(|_| !child.serves) else {
            return self.successor.as_ref().map(|_| STOPPING);
        };
        let is_untried = self.program.as_ref().is_some_and(|program| !program.is_tried);
        let left = if is_untried { UNTRIED } else { DEADLINE }.saturating_sub(died.elapsed());
        if left.is_zero() && !self.losses.is_given_up() {
            child.process.kill(true);
            if !is_untried {
                self.losses.give_up();
            }
        }
        Some(left).filter(|left| !left.is_zero())
    }

    fn start(&mut self, work: &impl Fn(&Server<'_>) -> i32) -> io::Result<Child> {
        if let Some(child) = self.start_program() {
            return Ok(child);
        }
        let (ours, theirs) = Link::pair()?;
        let mut ours = Some(ours);
        let supervisor = Process::current();
        let held = self.mount.as_ref().and_then(|(standing, kept)| {
            let (device, counts) = kept.as_ref()?;
            Some(Held { standing, device: device.as_fd(), counts, deaths: self.deaths })
        });
        let process = fork::spawn(|| {
            drop(ours.take());
            let code = work(&Server::new(theirs, supervisor, held));
            log::logger().flush();
            code
        })?;
        if self.mailbox.is_none() {
            self.mailbox = Some(Mailbox::open()?);
            if self.terminal == Terminal::Left {
                process::leave_stdin_and_stdout()?;
                process::leave_dir()?;
            }
            background::harden();
        }
        Ok(Child { process, link: ours, serves: false })
    }

    /// Handles one message of the server.
    fn listen(&mut self, child: &mut Child, died: Option<Instant>) {
        let Some(link) = &child.link else { return };
        let (received, descriptors) = match link.receive() {
            Ok(Some(received)) => received,
            Ok(None) => return child.link = None,
            Err(error) => {
                log::error!("Invalid message of the server: {error}");
                return child.link = None;
            }
        };
        let mut descriptors = descriptors.into_iter();
        match received {
            ServerMessage::Claimed if self.lock.is_none() => {
                self.lock = descriptors.next().map(File::from);
                self.log = descriptors.next().map(File::from);
                self.speak_into_log();
            }
            ServerMessage::Standing(standing) if self.mount.is_none() => {
                let kept = descriptors.next().zip(descriptors.next().map(File::from));
                self.mount = Some((*standing, kept));
            }
            ServerMessage::Serving => {
                child.serves = true;
                if let Some(program) = &mut self.program {
                    program.is_tried = true;
                }
                if let Some(why) = self.refused.take() {
                    ask(child, &Asked::Stays(why));
                }
                if let Some(died) = died {
                    log::warn!("Another server took over after {} ms", died.elapsed().as_millis());
                }
                if self.ending {
                    ask(child, &Asked::Unmount);
                }
            }
            ServerMessage::Fits => {}
            ServerMessage::Unfit(why) => log::error!("The installed program cannot serve: {why}"),
            ServerMessage::GoesOn => self.losses.forget(),
            ServerMessage::Outlives => {
                if let Err(error) = fork::outlive_parent() {
                    log::warn!("The mount ends with the command: {error}");
                }
            }
            ServerMessage::Claimed | ServerMessage::Standing(_) => {
                log::error!("The server sent its claim twice")
            }
        }
    }

    /// From now on logs to the file, if the starter waits for the pipe to close.
    fn speak_into_log(&self) {
        let Some(log) = self.log.as_ref().filter(|_| self.terminal == Terminal::Left) else { return };
        if let Err(error) = process::redirect_stdio(log) {
            log::error!("Cannot redirect stdio: {error}");
        }
    }

    fn pass_on(&mut self, letter: Letter, child: &Child) {
        match letter {
            Letter::Terminate => {
                self.ending = true;
                match child.serves {
                    true => ask(child, &Asked::Unmount),
                    false if self.mount.is_none() => child.process.kill(false),
                    false => {} // the request is sent as soon as it serves
                }
            }
            Letter::Restart => self.prepare_successor(child),
            Letter::Quiet if child.serves => ask(child, &Asked::Quiet),
            Letter::Quiet | Letter::Ended => {}
        }
    }

    /// Whether the mount is over after the end of a server; `None`: another one is started.
    fn is_over(&mut self, status: ExitStatus) -> Option<Over> {
        let Some((_, kept)) = &self.mount else { return Some(Over::Ended) };
        if self.ending && self.stopping.is_none() {
            return Some(Over::Ended);
        }
        let Some((device, _)) = kept else {
            // It had the only descriptor of the device: the connection is gone.
            let lost = || Over::Lost(format!("Its server ended ({status}), and it cannot be taken over"));
            return Some(if status.success() { Over::Ended } else { lost() });
        };
        if !mailbox::is_whole(device) {
            return Some(Over::Ended);
        }
        if self.has_made_room() {
            return None;
        }
        self.deaths += 1;
        self.drop_untried(status);
        log::warn!("The server ended ({status}); another one takes over");
        match self.losses.note(Instant::now()) {
            Ok(pause) => {
                std::thread::sleep(pause);
                None
            }
            Err(why) => Some(Over::Lost(why)),
        }
    }

    /// Ends the mount.
    fn end(&mut self, over: &Over, status: ExitStatus) {
        let path = self.mount.as_ref().map(|(standing, _)| standing.report.path.clone()).unwrap_or_default();
        if let Over::Lost(why) = over {
            log::error!(
                "{} is dead, and programs in it get \"Transport endpoint is not connected\": {why}. Mount it again to repair it",
                path.display()
            );
        }
        // First: release waiting programs.
        self.mount = None;
        self.successor.take().into_iter().for_each(Successor::dismiss);
        if let Some(log) = self.log.as_ref().filter(|_| !status.success())
            && let Err(error) = crate::sys::fs::disk::sync_of(log)
        {
            log::error!("Cannot sync the written data: {error}");
        }
        // A claim that is held but unsigned is about to be released.
        if let Some(Err(error)) = self.lock.as_ref().map(|lock| lock.set_len(0)) {
            log::debug!("The claim stays signed: {error}");
        }
    }
}

fn ask(child: &Child, asked: &Asked) {
    if let Some(Err(error)) = child.link.as_ref().map(|link| link.send(asked, &[])) {
        log::debug!("Cannot request {asked:?} from the server: {error}");
    }
}

fn signal_of(status: ExitStatus) -> i32 {
    std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default()
}
