//! The mount methods, tested in a temporary directory.

use std::path::PathBuf;

use anyhow::Context as _;

use super::{Tried, tried};
use crate::cli::context::Context;
use crate::session::method::{Method, Mounter};
use crate::session::{detach, isolate};
use crate::sys::mount::{Mountpoint, Options};

/// Tests all methods except plain files.
pub fn try_mounts(context: &Context) -> Vec<Tried> {
    let places = [context.home.holotree().to_owned(), std::env::temp_dir()];
    let mounts = [Mounter::Direct, Mounter::Helper, Mounter::Fusermount];
    let mut methods: Vec<Tried> =
        mounts.map(|mounter| tried(Method::Fuse(mounter), || try_mount(context, mounter, &places))).into();
    methods.push(tried(Method::Fuse(Mounter::Namespace), || isolate::probe()?.map_err(anyhow::Error::msg)));
    methods
}

/// Mounts an empty file system in a temporary directory, and unmounts it.
fn try_mount(context: &Context, mounter: Mounter, places: &[PathBuf]) -> anyhow::Result<()> {
    let make = |place: &PathBuf| crate::sys::fs::dir::private_temp("holofs-doctor-", place).ok();
    let dir = places.iter().find_map(make).context("No directory to test it in")?;
    let path = dir.path().canonicalize()?;
    let point = Mountpoint::open(&path)?;
    let (device, _) = context.mounters().mount_by(mounter, &point, Options::default())?;
    drop(point);
    // Unmounted before its device is closed: a mount without a server does not answer.
    let ended = detach::detach(&context.mounters(), &path);
    drop(device);
    Ok(ended?)
}
