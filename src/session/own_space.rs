//! A space that a command uses for one purpose of its own. It is deleted before and after, so that what a killed command left of it
//! is removed by the next one.

use anyhow::Context as _;

use crate::space::Space;
use crate::space::maintain::delete::set_space_aside;
use crate::store::index::Index;

use super::context::Context;
use super::method::Mode;
use super::request::{MountRequest, ProfileAt, SpaceName};
use super::sweep;

/// The controller of such spaces.
const CONTROLLER: &str = "holofs";

/// A space for one purpose.
pub struct OwnSpace<'a> {
    context: &'a Context,
    /// Its name: the purpose.
    pub name: SpaceName,
    /// The space.
    pub space: Space,
}

impl<'a> OwnSpace<'a> {
    /// The space for `purpose`, of a catalog with this index.
    pub fn new(context: &'a Context, index: &Index, purpose: &str) -> OwnSpace<'a> {
        let name = SpaceName { space: purpose.to_owned(), controller: CONTROLLER.to_owned() };
        let space = context.space(index.base(), &name);
        OwnSpace { context, name, space }
    }

    /// A request for the space, without earlier changes and without readahead.
    pub fn request(&self, catalog: &str, mode: Mode) -> MountRequest {
        MountRequest {
            fresh: true,
            keep: false,
            profile: ProfileAt::Off,
            ..MountRequest::new(catalog, &self.name, mode)
        }
    }

    /// Does `work`, with the space deleted before and after. An error of the work comes first.
    pub fn during<T, E: From<anyhow::Error>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.delete()?;
        let outcome = work();
        let deleted = self.delete();
        let value = outcome?;
        deleted?;
        Ok(value)
    }

    /// Deletes the space, its files in the background; fails if another command uses it.
    pub fn delete(&self) -> anyhow::Result<()> {
        let deleted =
            set_space_aside(&self.space, self.context.wait, &|waiting| self.context.front.waiting(waiting));
        deleted.with_context(|| format!("Cannot delete {}", self.space.root.display()))?;
        sweep::after(self.context, &self.space.base, None);
        Ok(())
    }
}
