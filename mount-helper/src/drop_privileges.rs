//! Reduces the privileges of this process after its start: it can mount, and nothing else.

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Drops every capability but the one to mount, and with `namespaces` the one to enter another mount namespace; returns the remaining
/// ones. Must be called while there is only one thread.
pub fn drop_all_but_mounting(namespaces: bool) -> Result<String, String> {
    let failed = |what: &str, error: rustix::io::Errno| format!("Cannot {what}: {error}");
    let now = capabilities(None).map_err(|error| failed("read the capabilities", error))?;
    let mut kept = CapabilitySet::SYS_ADMIN;
    let mut needed = String::from("CAP_SYS_ADMIN");
    if namespaces {
        kept |= CapabilitySet::SYS_CHROOT;
        needed.push_str(" and CAP_SYS_CHROOT");
    }
    if !now.permitted.contains(kept) {
        return Err(format!("Mounting needs {needed}: start it as root, privileged"));
    }
    set_no_new_privs(true).map_err(|error| failed("refuse new privileges", error))?;
    clear_ambient_capability_set().map_err(|error| failed("clear ambient capabilities", error))?;
    if now.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(kept).iter() {
            // A capability unknown to this kernel cannot be removed.
            match remove_capability_from_bounding_set(capability) {
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(failed("bound the capabilities", error)),
            }
        }
    }
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(|error| failed("drop capabilities", error))?;
    Ok(needed)
}
