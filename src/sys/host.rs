//! This machine, in the words RCC uses: Go's names of systems and architectures, and where shared holotrees live; and how
//! its processors idle.

/// Go's name of this operating system.
pub const GOOS: &str = if cfg!(target_os = "macos") {
    "darwin"
} else if cfg!(target_os = "windows") {
    "windows"
} else {
    "linux"
};

/// Go's name of this architecture.
pub const GOARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// Where the two products of RCC keep shared holotrees, Robocorp's first; on Windows `$ProgramData` is to be expanded.
pub const HOLO_LOCATIONS: [&str; 2] = if cfg!(target_os = "macos") {
    ["/Users/Shared/robocorp/ht", "/Users/Shared/sema4ai/ht"]
} else if cfg!(target_os = "windows") {
    [r"$ProgramData\robocorp\ht", r"$ProgramData\sema4ai\ht"]
} else {
    ["/opt/robocorp/ht", "/opt/sema4ai/ht"]
};

/// The product homes when no variable says otherwise, Robocorp's first, to be expanded.
pub const DEFAULT_HOMES: [&str; 2] = if cfg!(target_os = "windows") {
    [r"$LOCALAPPDATA\robocorp", r"$LOCALAPPDATA\sema4ai"]
} else {
    ["$HOME/.robocorp", "$HOME/.sema4ai"]
};

/// The variable that names the user's home directory.
pub const USER_HOME: &str = if cfg!(target_os = "windows") { "USERPROFILE" } else { "HOME" };

/// The file systems take names that differ in case only for one. (On macOS that depends on the volume, and shows when it is
/// met: an entry that is there already is an error.)
pub const IGNORES_CASE: bool = cfg!(target_os = "windows");

/// Which driver of the kernel puts idle processors to sleep; this one is that of a virtual machine.
const IDLE_DRIVER: (&str, &str) = ("/sys/devices/system/cpu/cpuidle/current_driver", "haltpoll");

/// Where the kernel of a virtual machine says how many nanoseconds an idle processor waits before it halts.
pub const HALT_POLL_NANOS: &str = "/sys/module/haltpoll/parameters/guest_halt_poll_ns";

/// What [`HALT_POLL_NANOS`] says; `None` where processors do not idle that way.
pub fn halt_poll_nanos() -> Option<u64> {
    std::fs::read_to_string(HALT_POLL_NANOS).ok()?.trim().parse().ok()
}

/// How the processors of this machine idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idling {
    /// An idle one is given back to the host of the virtual machine at once, and is slow to wake.
    pub halts_at_once: bool,
    /// How many there are.
    pub processors: usize,
}

impl Idling {
    /// On this machine.
    pub fn here() -> Idling {
        let (setting, driver) = IDLE_DRIVER;
        let halts = std::fs::read_to_string(setting).is_ok_and(|name| name.trim() == driver);
        Idling { halts_at_once: halts && halt_poll_nanos() == Some(0), processors: processors() }
    }
}

/// The release of the running kernel, such as `6.18.44-amd64`.
#[cfg(target_os = "linux")]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// How many bytes of memory this machine has; 0 where that is not known.
#[cfg(target_os = "linux")]
pub fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(info.mem_unit.into())
}

/// How many bytes of memory this machine has; 0 where that is not known.
#[cfg(not(target_os = "linux"))]
pub fn memory_bytes() -> u64 {
    0
}

/// Those of the machine, not only those this process may use.
fn processors() -> usize {
    let listed = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let last = listed.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<usize>().ok());
    last.map_or(1, |last| last + 1)
}
