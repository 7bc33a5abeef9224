//! Lays out a space as files, and in the background deletes what this replaced.

use std::path::Path;
use std::sync::Arc;

use crate::rcc::home::Settings;
use crate::space::Space;
use crate::space::materialize::{self, Job, MaterializeReport, Options, Strategy};
use crate::store::index::Index;
use crate::sys::fs::name::RelPath;

use super::context::Context;
use super::error::{SessionError, Tried as _};
use super::foreign;
use super::request::SpaceName;

/// The variable that names the strategy.
pub const STRATEGY: &str = "RCC_HOLOTREE_STRATEGY";

/// The strategy from the environment, otherwise from the settings.
pub fn default_strategy(context: &Context) -> Result<Strategy, SessionError> {
    if let Some(text) = &context.process.strategy {
        return text.to_string_lossy().parse().tried(STRATEGY);
    }
    match Settings::read(&context.home)?.restoration_strategy {
        Some(text) => text.parse().tried("holotree.restoration-strategy in settings.yaml"),
        None => Ok(Strategy::default()),
    }
}

/// Lays out the space, or repairs it as RCC does. With `fresh`, also repairs what RCC's restore would not detect, and drops what was
/// written to it as a mount.
pub fn lay_out(
    context: &Context,
    catalog: &str,
    space: &SpaceName,
    options: &Options,
    fresh: bool,
) -> Result<MaterializeReport, SessionError> {
    let (index, _, path) = context.index(catalog)?;
    let space = context.space(index.base(), space);
    foreign::refuse(&context.home, &space.base)?;
    #[cfg(unix)]
    let _start = super::obtain::ready_for_files(context, &space, &index, super::obtain::Repairs::of(fresh))?;
    #[cfg(unix)]
    if fresh {
        super::plain::drop_written(&space)?;
    }
    let options = Options { verify: options.verify || fresh, ..*options };
    place(context, &path, &index, &space, &options, &[])
}

/// Like [`lay_out`], but does not check whether files in use would be replaced; if `only` is not empty, only these paths.
pub fn place(
    context: &Context,
    path: &Path,
    index: &Index,
    space: &Space,
    options: &Options,
    only: &[RelPath],
) -> Result<MaterializeReport, SessionError> {
    space.record_converted()?;
    let progress = context.front.working("Materializing");
    #[cfg(unix)]
    let super::supply::Supplied { store, line } = context.store_of(path, None, Arc::clone(&progress))?;
    #[cfg(unix)]
    super::supply::everything(line.as_ref(), index, &store);
    #[cfg(windows)]
    let store = context.store_for_now(Arc::clone(&progress))?;
    let job = Job { only, ..Job::new(&context.home, path, index, &store, space) };
    #[cfg_attr(windows, allow(unused_mut, reason = "nothing is set aside there"))]
    let mut outcome =
        materialize::materialize(&job, options, &*progress, &|waiting| context.front.waiting(waiting));
    drop(store);
    drop(progress);
    #[cfg(unix)]
    super::sweep::after(context, &space.base, outcome.as_mut().ok());
    Ok(outcome?)
}
