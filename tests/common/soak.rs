//! How much of a slow test runs: little by default, everything with `scripts/test --soak`.

/// True if the slow part should run: `HOLOFS_SOAK` is set, and not to 0.
pub fn is_soak() -> bool {
    std::env::var_os("HOLOFS_SOAK").is_some_and(|value| !value.is_empty() && value != "0")
}

/// The first amount for a normal run, the second for a soak.
pub fn amount<T>(usual: T, soak: T) -> T {
    if is_soak() { soak } else { usual }
}
