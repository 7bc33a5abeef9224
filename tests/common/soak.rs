//! How much of a slow test is run: little by default, all of it with `scripts/test --soak`.

/// True if the slow part is wanted (`HOLOFS_SOAK=1`).
pub fn is_soak() -> bool {
    std::env::var_os("HOLOFS_SOAK").is_some_and(|value| value == "1")
}

/// The one amount for every run, or the other for a soak.
pub fn amount<T>(usual: T, soak: T) -> T {
    if is_soak() { soak } else { usual }
}
