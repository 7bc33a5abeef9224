//! package.yaml of action packages, as RCC 18 and 19 read it.
//!
//! ```text
//! dependencies:
//!   conda-forge: [python=3.12, uv=0.6]
//!   pypi: [sema4ai-actions=1.3]
//! dev-dependencies:
//!   pypi: [pytest=8]
//! post-install: [...]
//! ```
//! The channel is always conda-forge, even if this machine has a local channel.

use super::dependency::{Dependency, promote};
use super::{CondaError, Environment, push_all, texts, union};
use crate::rcc::yaml::Yaml;

/// The environment that a package.yaml describes.
pub(super) fn environment(document: &Yaml, dev_dependencies: bool) -> Result<Environment, CondaError> {
    if !document.is_nothing() && !matches!(document, Yaml::Map(_)) {
        return Err(CondaError::NoPackage);
    }
    let mut environment = Environment { channels: vec!["conda-forge".to_owned()], ..Environment::default() };
    union(&mut environment.post_install, texts(document, "post-install")?);
    for part in ["dependencies", "dev-dependencies"] {
        let (conda, pypi) = dependencies(document, part)?;
        // The section must be valid even if it is not used.
        if part == "dependencies" || dev_dependencies {
            push_all(&mut environment.conda, conda);
            push_all(&mut environment.pip, pypi);
        }
    }
    promote(&mut environment.conda, &mut environment.pip).unwrap_or_default();
    Ok(environment)
}

fn dependencies(
    document: &Yaml,
    part: &'static str,
) -> Result<(Vec<Dependency>, Vec<Dependency>), CondaError> {
    let section = match document.get(part).filter(|section| !section.is_nothing()) {
        None => return Ok((Vec::new(), Vec::new())),
        Some(section @ Yaml::Map(_)) => section,
        Some(_) => return Err(CondaError::Part { part, why: "it is not a map" }),
    };
    let parse = |texts: Vec<String>| texts.into_iter().filter_map(|text| Dependency::parse(&text));
    let conda = parse(texts(section, "conda-forge")?).collect();
    let pypi = parse(texts(section, "pypi")?).map(Dependency::for_pip).collect();
    Ok((conda, pypi))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::yaml;

    fn normal(text: &str, dev_dependencies: bool) -> String {
        environment(&yaml::parse(text).unwrap(), dev_dependencies).unwrap().normal_form().unwrap()
    }

    const PACKAGE: &str = "name: x\nversion: 0.1\nspec-version: v2\ndependencies:\n  conda-forge:\n  - python=3.12.8\n  - uv = 0.6.1\n  pypi:\n  - a=1.3\n  - b==2\n  - c>=3\n  - d = 4\ndev-dependencies:\n  pypi:\n  - pytest=8.3.3\npost-install:\n- do it\n- do it\n";

    #[test]
    fn package_becomes_an_environment_of_conda_forge() {
        let expected = "channels:\n- conda-forge\ndependencies:\n- python=3.12.8\n- uv = 0.6.1\n- pip:\n  - a==1.3\n  - b==2\n  - c>=3\n  - d==4\nrccPostInstall:\n- do it\n";
        assert_eq!(normal(PACKAGE, false), expected);
        assert_eq!(normal(PACKAGE, true), expected.replace("  - d==4\n", "  - d==4\n  - pytest==8.3.3\n"));
        assert_eq!(normal("", false), "channels:\n- conda-forge\ndependencies: []\n");
    }

    #[test]
    fn package_of_another_shape_is_refused() {
        for text in
            ["- a\n", "dependencies: [a]\n", "dependencies: {pypi: a}\n", "dependencies: {pypi: [[a]]}\n"]
        {
            assert!(environment(&yaml::parse(text).unwrap(), false).is_err(), "{text}");
        }
    }
}
