//! Makes a space appear, by the best method that works: if it cannot be mounted, it is laid out as files, unless the request excludes
//! that.

#[cfg(windows)]
use crate::space::materialize::Options;

use super::context::Context;
#[cfg(windows)]
use super::error::Tried as _;
use super::error::{CannotMount, SessionError};
#[cfg(windows)]
use super::lay_out::{default_strategy, lay_out};
#[cfg(windows)]
use super::method::described;
#[cfg(windows)]
use super::method::{Method, Mounter};
use super::method::{Mode, Refusal};
use super::report::MountReport;
#[cfg(windows)]
use super::report::report_of_files;
use super::request::MountRequest;

/// Why nothing is mounted on systems without FUSE.
pub const NO_FUSE: &str = "there is no FUSE on Windows";

/// Makes the space appear, by the best method that works.
pub fn appear(context: &Context, request: &MountRequest) -> Result<MountReport, SessionError> {
    request.check()?;
    match request.mode {
        Mode::Materialize => materialized(context, request, Vec::new()),
        Mode::Auto | Mode::Mount => match launch(context, request)? {
            Ok(report) => Ok(report),
            Err(refused) => without_mount(context, request, refused),
        },
    }
}

#[cfg(unix)]
fn launch(
    context: &Context,
    request: &MountRequest,
) -> Result<Result<MountReport, CannotMount>, SessionError> {
    Ok(super::obtain::obtain(context, request, None)?.map(|obtained| obtained.report))
}

#[cfg(windows)]
fn launch(
    context: &Context,
    request: &MountRequest,
) -> Result<Result<MountReport, CannotMount>, SessionError> {
    let (head, _, _) = context.head(&request.catalog)?;
    let what = context.space(head.base(), &request.space).root.display().to_string();
    Ok(Err(CannotMount { what, refused: vec![Refusal::new(Method::Fuse(Mounter::Direct), NO_FUSE)] }))
}

/// Uses the last method, plain files, if it is allowed.
pub fn without_mount(
    context: &Context,
    request: &MountRequest,
    refused: CannotMount,
) -> Result<MountReport, SessionError> {
    if request.mode == Mode::Mount {
        return Err(refused.into());
    }
    materialized(context, request, refused.refused)
}

/// Lays the space out as files.
#[cfg(unix)]
pub fn materialized(
    context: &Context,
    request: &MountRequest,
    reasons: Vec<Refusal>,
) -> Result<MountReport, SessionError> {
    Ok(super::files::obtain(context, request, reasons, None)?.0)
}

/// Lays the space out as files.
#[cfg(windows)]
pub fn materialized(
    context: &Context,
    request: &MountRequest,
    reasons: Vec<Refusal>,
) -> Result<MountReport, SessionError> {
    let (index, made, catalog) = context.index(&request.catalog)?;
    let space = context.space(index.base(), &request.space);
    let options = Options { strategy: default_strategy(context)?, wait: context.wait, ..Options::default() };
    lay_out(context, &request.catalog, &request.space, &options, request.fresh)
        .tried_with(|| format!("Cannot materialize (nor mount: {})", described(&reasons)))?;
    Ok(report_of_files(&space, &index, &made, catalog, reasons))
}
