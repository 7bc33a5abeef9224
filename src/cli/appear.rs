//! How a space appears for a command that needs it: mounted, materialized, or as it is already.

use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;

use crate::space::Space;

use super::context::Context;
use super::exit_code::{Busy, CANNOT_MOUNT};
use super::mount::MountArgs;
use super::{SpaceArgs, daemon, materialize};

/// How the space appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Mount; materialize where nothing can be mounted
    Auto,
    /// Mount or fail
    Mount,
    /// Materialize
    Materialize,
}

/// What is wanted.
pub struct Wish<'a> {
    /// The catalog, as the user names it.
    pub catalog: &'a str,
    /// Its id.
    pub catalog_id: &'a str,
    /// The space, as the user names it.
    pub args: &'a SpaceArgs,
    /// How it is to appear.
    pub mode: Mode,
    /// As a mount: allow no change.
    pub read_only: bool,
    /// As a mount: drop what was written before.
    pub fresh: bool,
    /// As a mount: its profile.
    pub profile: &'a Path,
}

/// Makes the space appear: true if it was mounted for this, the code of the failure if it could not be.
pub fn appear(context: &Context, wish: &Wish<'_>, space: &Space) -> anyhow::Result<Result<bool, ExitCode>> {
    if space.live_holder().is_some() {
        return match space.mount_state()? {
            Some(state) if state.catalog == wish.catalog_id => Ok(Ok(false)),
            _ => Err(Busy(format!(
                "{} is in use with another catalog; unmount it first",
                space.root.display()
            ))
            .into()),
        };
    }
    if wish.mode == Mode::Materialize {
        materialize::quietly(context, wish.catalog, wish.args)?;
        return Ok(Ok(false));
    }
    let mount = MountArgs {
        catalog: wish.catalog.to_owned(),
        space: wish.args.clone(),
        foreground: false,
        read_only: wish.read_only,
        allow_other: false,
        fresh: wish.fresh,
        profile: wish.profile.to_owned(),
        daemon: false,
    };
    match daemon::launch(&mount)? {
        Ok(_) => Ok(Ok(true)),
        Err(code) if wish.mode == Mode::Auto && code == ExitCode::from(CANNOT_MOUNT) => {
            log::warn!("Materializing {}, because it cannot be mounted", space.root.display());
            materialize::quietly(context, wish.catalog, wish.args)?;
            Ok(Ok(false))
        }
        Err(code) => Ok(Err(code)),
    }
}
