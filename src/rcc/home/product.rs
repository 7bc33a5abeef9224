//! Which of RCC's two products a home belongs to, and why that one was chosen.
//!
//! RCC uses Robocorp's home unless `--sema4ai` is given. Without either flag we also check which home exists, so that users of
//! Sema4.ai's product need not give the flag each time. Robocorp's comes first in every step, as in RCC:
//!
//! 1. the flag;
//! 2. `ROBOCORP_HOME`, then `SEMA4AI_HOME`;
//! 3. the default home that has a hololib;
//! 4. Robocorp's.

use std::ffi::OsStr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Environment, HomeError, expand_path};
use crate::sys::host;

/// One of RCC's products: the same formats in different places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Product {
    /// Robocorp's, and that of forks that keep its locations.
    #[default]
    Robocorp,
    /// Sema4.ai's.
    Sema4ai,
}

/// Why a home was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// A flag selects the product, and its variable the location.
    FlagAndVariable,
    /// A flag selects the product, at its default location.
    Flag,
    /// The product's variable is set.
    Variable,
    /// It is the only default home that has a hololib.
    OnlyHome,
    /// The fallback.
    Default,
}

impl Product {
    /// Both, in the order in which they are checked.
    pub const ALL: [Product; 2] = [Product::Robocorp, Product::Sema4ai];

    /// The variable that moves the home, and that is set for programs in a space.
    pub fn variable(self) -> &'static str {
        match self {
            Product::Robocorp => "ROBOCORP_HOME",
            Product::Sema4ai => "SEMA4AI_HOME",
        }
    }

    /// The flag of RCC that selects it.
    pub fn flag(self) -> &'static str {
        match self {
            Product::Robocorp => "--robocorp",
            Product::Sema4ai => "--sema4ai",
        }
    }

    /// The home if the variable is not set, to be expanded.
    pub fn default_home(self) -> &'static str {
        host::DEFAULT_HOMES[self as usize]
    }

    /// Where shared holotrees are, to be expanded.
    pub(super) fn holo_location(self) -> &'static str {
        host::HOLO_LOCATIONS[self as usize]
    }

    /// The product, its home, and why, in this environment.
    pub(super) fn choose(
        env: &Environment<'_>,
        flag: Option<Product>,
    ) -> Result<(Product, PathBuf, Choice), HomeError> {
        let default = |product: Product| expand_path(OsStr::new(product.default_home()), env);
        if let Some(product) = flag {
            return Ok(match env.non_empty(product.variable()) {
                Some(given) => (product, expand_path(&given, env)?, Choice::FlagAndVariable),
                None => (product, default(product)?, Choice::Flag),
            });
        }
        for product in Product::ALL {
            if let Some(given) = env.non_empty(product.variable()) {
                return Ok((product, expand_path(&given, env)?, Choice::Variable));
            }
        }
        let [robocorp, sema4ai] = [default(Product::Robocorp)?, default(Product::Sema4ai)?];
        let used = |root: &PathBuf| root.join("hololib/catalog").is_dir();
        match !used(&robocorp) && used(&sema4ai) {
            true => Ok((Product::Sema4ai, sema4ai, Choice::OnlyHome)),
            false => Ok((Product::Robocorp, robocorp, Choice::Default)),
        }
    }
}

impl Choice {
    /// The reason as one clause, for messages.
    pub fn reason(self, product: Product) -> String {
        let (flag, variable) = (product.flag(), product.variable());
        match self {
            Choice::FlagAndVariable => format!("{flag} is given and {variable} is set"),
            Choice::Flag => format!("{flag} is given"),
            Choice::Variable => format!("{variable} is set"),
            Choice::OnlyHome => "no other home of RCC has a hololib".to_owned(),
            Choice::Default => "it is the default".to_owned(),
        }
    }
}
