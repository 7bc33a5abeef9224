//! This machine in RCC's terms: Go's names of systems and architectures, and the locations of shared holotrees; also how its
//! processors idle.

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

/// Where the two products of RCC keep shared holotrees, Robocorp's first; on Windows `$ProgramData` must be expanded.
pub const HOLO_LOCATIONS: [&str; 2] = if cfg!(target_os = "macos") {
    ["/Users/Shared/robocorp/ht", "/Users/Shared/sema4ai/ht"]
} else if cfg!(target_os = "windows") {
    [r"$ProgramData\robocorp\ht", r"$ProgramData\sema4ai\ht"]
} else {
    ["/opt/robocorp/ht", "/opt/sema4ai/ht"]
};

/// The default product homes when no variable is set, Robocorp's first, to be expanded.
pub const DEFAULT_HOMES: [&str; 2] = if cfg!(target_os = "windows") {
    [r"$LOCALAPPDATA\robocorp", r"$LOCALAPPDATA\sema4ai"]
} else {
    ["$HOME/.robocorp", "$HOME/.sema4ai"]
};

/// The variable that names the user's home directory.
pub const USER_HOME: &str = if cfg!(target_os = "windows") { "USERPROFILE" } else { "HOME" };

/// True if file systems treat names that differ only in case as equal. (On macOS that depends on the volume and is detected when it
/// happens: an entry that exists already is an error.)
pub const IGNORES_CASE: bool = cfg!(target_os = "windows");

/// The file in which the kernel names the driver of idle processors, and the driver that is used in virtual machines.
const IDLE_DRIVER: (&str, &str) = ("/sys/devices/system/cpu/cpuidle/current_driver", "haltpoll");

/// Where the kernel of a virtual machine reports how many nanoseconds an idle processor polls before it halts.
pub const HALT_POLL_NANOS: &str = "/sys/module/haltpoll/parameters/guest_halt_poll_ns";

/// The value in [`HALT_POLL_NANOS`]; `None` where processors do not idle that way.
pub fn halt_poll_nanos() -> Option<u64> {
    std::fs::read_to_string(HALT_POLL_NANOS).ok()?.trim().parse().ok()
}

/// How the processors of this machine idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idling {
    /// An idle processor is returned to the host of the virtual machine at once, and is slow to wake.
    pub halts_at_once: bool,
    /// The number of processors.
    pub processors: usize,
}

impl Idling {
    /// How the processors of this machine idle.
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

/// The memory of this machine in bytes; 0 if unknown.
#[cfg(target_os = "linux")]
pub fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(info.mem_unit.into())
}

/// The memory of this machine in bytes; 0 if unknown.
#[cfg(not(target_os = "linux"))]
pub fn memory_bytes() -> u64 {
    0
}

/// All processors of the machine, not only those this process may use.
fn processors() -> usize {
    let listed = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let last = listed.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<usize>().ok());
    last.map_or(1, |last| last + 1)
}
