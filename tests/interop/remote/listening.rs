//! The loop that accepts connections, for the tests' own servers.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Accepts connections on this machine until it is dropped.
pub struct Listening {
    address: String,
    stop: Arc<AtomicBool>,
}

impl Listening {
    /// Calls `answer` for each connection; sets `stop` when it ends.
    pub fn start(stop: Arc<AtomicBool>, mut answer: impl FnMut(TcpStream) + Send + 'static) -> Listening {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                answer(stream.unwrap());
            }
        });
        Listening { address, stop }
    }

    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the loop.
        drop(TcpStream::connect(&self.address));
    }
}
