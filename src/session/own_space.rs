//! A space that a command uses for one internal purpose. It is deleted before and after the work, so that a command removes what
//! a killed one left.

use crate::space::Space;
use crate::space::maintain::delete::set_space_aside;
use crate::store::index::Index;

use super::context::Context;
use super::error::{SessionError, Tried as _};
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

    /// Does `work`, and deletes the space before and after. An error of the work takes precedence.
    pub fn during<T, E: From<SessionError>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.delete()?;
        let outcome = work();
        let deleted = self.delete();
        let value = outcome?;
        deleted?;
        Ok(value)
    }

    /// Deletes the space, its files in the background; fails if another command uses it.
    pub fn delete(&self) -> Result<(), SessionError> {
        let deleted =
            set_space_aside(&self.space, self.context.wait, &|waiting| self.context.front.waiting(waiting));
        deleted.tried_with(|| format!("Cannot delete {}", self.space.root.display()))?;
        sweep::after(self.context, &self.space.base, None);
        Ok(())
    }
}
