//! Tests of locations and names.

use super::*;

pub(super) fn home(variables: &[(&str, &str)], holo_location: &Path) -> Home {
    let var = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
    Home::locate_with(&Environment { var: &var }, holo_location).unwrap()
}

const NOWHERE: &str = "/nonexistent/robocorp/ht";

#[test]
fn the_default_home_is_private_and_below_the_users() {
    let home = home(&[("HOME", "/home/user")], Path::new(NOWHERE));
    assert_eq!(home.root(), Path::new("/home/user/.robocorp"));
    assert_eq!(home.hololib(), Path::new("/home/user/.robocorp/hololib"));
    assert_eq!(home.holotree(), Path::new("/home/user/.robocorp/holotree"));
    assert_eq!(home.library(), Path::new("/home/user/.robocorp/hololib/library"));
    assert_eq!(home.used_dir(), Path::new("/home/user/.robocorp/hololib/used"));
    assert_eq!(home.holofs().path(), Path::new("/home/user/.robocorp/holofs"));
    assert_eq!(home.global_lock(), Path::new("/home/user/.robocorp/holotree/global.lck"));
    assert!(!home.is_shared());
}

#[test]
fn robocorp_home_is_expanded_made_absolute_and_cleaned() {
    let variables =
        [("HOME", "/home/user"), ("ROBOCORP_HOME", "$BASE/x/../${SUB}/"), ("BASE", "/srv"), ("SUB", "rcc")];
    assert_eq!(home(&variables, Path::new(NOWHERE)).root(), Path::new("/srv/rcc"));
    let relative = home(&[("HOME", "/h"), ("ROBOCORP_HOME", "some/where")], Path::new(NOWHERE));
    assert!(relative.root().is_absolute() && relative.root().ends_with("some/where"));
    let empty = home(&[("HOME", "/h"), ("ROBOCORP_HOME", "")], Path::new(NOWHERE));
    assert_eq!(empty.root(), Path::new("/h/.robocorp"));
}

#[test]
fn a_user_who_joined_shares_the_holotree_of_the_machine() {
    let machine = tempfile::tempdir().unwrap();
    let init = machine.path().join("lib/catalog/init");
    std::fs::create_dir_all(&init).unwrap();
    let variables = [("HOME", "/home/user"), ("ROBOCORP_HOME", "/srv/rcc")];
    std::fs::create_dir(init.join("59acff1")).unwrap();
    assert!(!home(&variables, machine.path()).is_shared());
    std::fs::remove_dir(init.join("59acff1")).unwrap();
    std::fs::write(init.join("59acff1"), "OK!").unwrap();
    let shared = home(&variables, machine.path());
    assert!(shared.is_shared());
    assert_eq!(shared.root(), Path::new("/srv/rcc"));
    assert_eq!(shared.holotree(), machine.path());
    assert_eq!(shared.hololib(), machine.path().join("lib"));
    assert_eq!(shared.holofs().path(), Path::new("/srv/rcc/holofs"), "each member has a state of their own");
    let label = shared.label("user", "user");
    let private = shared.space_dir(Path::new("/srv/rcc/holotree"), &label);
    assert_ne!(shared.space_dir(machine.path(), &label), private, "one label, two spaces");
    assert_eq!(shared.journal(), Path::new("/srv/rcc/journals/event.log"));
}

#[cfg(unix)]
#[test]
fn a_mark_that_somebody_else_could_have_made_moves_nobody_into_the_shared_holotree() {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    let machine = tempfile::tempdir().unwrap();
    let init = machine.path().join("lib/catalog/init");
    std::fs::create_dir_all(&init).unwrap();
    let mark = init.join("59acff1");
    let is_shared = || home(&[("HOME", "/home/user")], machine.path()).is_shared();
    std::fs::write(init.join("commons.tof"), "OK!").unwrap();
    symlink(init.join("commons.tof"), &mark).unwrap();
    assert!(!is_shared(), "a link is not trusted");
    std::fs::remove_file(&mark).unwrap();
    std::fs::write(&mark, "OK!").unwrap();
    assert!(is_shared());
    std::fs::set_permissions(&mark, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(!is_shared(), "any user can have written it");
    std::fs::set_permissions(&mark, std::fs::Permissions::from_mode(0o640)).unwrap();
    match chown(&mark, Some(12_345), None) {
        Ok(()) => assert!(!is_shared(), "another user's"),
        Err(_) => eprintln!("skipped in part: only root can give a file away"),
    }
}

#[test]
fn holofs_home_moves_only_what_is_ours() {
    let variables = [("HOME", "/home/user"), ("HOLOFS_HOME", "/var/cache/holofs")];
    let home = home(&variables, Path::new(NOWHERE));
    assert_eq!(home.raw_dir().path(), Path::new("/var/cache/holofs/raw"));
    assert_eq!(home.index_dir().path(), Path::new("/var/cache/holofs/index"));
    assert_eq!(home.hololib(), Path::new("/home/user/.robocorp/hololib"));
}

#[test]
fn labels_and_stages_match_rcc() {
    let user = home(&[("HOME", "/home/user")], Path::new(NOWHERE));
    assert_eq!(user.label("user", "user").to_string(), "59acff1_5a1fac3_9fcd2534");
    assert_eq!(user.label("USER", "user").to_string(), "59acff1_5a1fac3_9fcd2534");
    assert_eq!(user.label("golden", "interop").to_string(), "59acff1_ed69061_b99589a1");
    assert_eq!(user.stage_identity("linux", "amd64"), "h59acff1_493f813dad24d3t");
    let root = home(&[("HOME", "/root")], Path::new(NOWHERE));
    assert_eq!(root.label("user", "user").to_string(), "720c7a8_5a1fac3_9fcd2534");
}

#[test]
fn spaces_of_another_base_have_another_state_directory() {
    let home = home(&[("HOME", "/home/user")], Path::new(NOWHERE));
    let label = home.label("user", "user");
    let usual = home.space_dir(Path::new("/home/user/.robocorp/holotree"), &label);
    assert_eq!(usual, home.spaces_dir().below("59acff1_5a1fac3_9fcd2534"));
    let other = home.space_dir(Path::new("/opt/robocorp/ht"), &label);
    assert_eq!(other, home.spaces_dir().below("59acff1_5a1fac3_9fcd2534-4d9ac45a"));
}

#[test]
fn a_marker_switches_compression_off_unless_it_is_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    let home = home(&[("HOME", "/home/user"), ("ROBOCORP_HOME", root)], Path::new(NOWHERE));
    assert!(home.is_compressed());
    let marker = home.catalog_dir().join("compress.no");
    std::fs::create_dir_all(&marker).unwrap();
    assert!(home.is_compressed());
    std::fs::remove_dir(&marker).unwrap();
    std::fs::write(&marker, "present").unwrap();
    assert!(!home.is_compressed());
}

#[test]
fn home_of_sema4ai_is_taken_by_flag_by_variable_and_where_it_is_the_only_one() {
    let user = tempfile::tempdir().unwrap();
    let text = user.path().to_str().unwrap();
    let located = |variables: &[(&str, &str)], flag: Option<Product>| {
        let var = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        let home = Home::locate(&Environment { var: &var }, flag).unwrap();
        (home.product(), home.root().to_owned(), home.choice())
    };
    let sema4ai = Some(Product::Sema4ai);
    let both = [("HOME", text), ("ROBOCORP_HOME", "/r"), ("SEMA4AI_HOME", "/s")];
    assert_eq!(located(&both, None), (Product::Robocorp, "/r".into(), Choice::Variable));
    assert_eq!(located(&both, sema4ai), (Product::Sema4ai, "/s".into(), Choice::FlagAndVariable));
    assert_eq!(located(&both[..1], sema4ai), (Product::Sema4ai, user.path().join(".sema4ai"), Choice::Flag));
    let one = [("HOME", text), ("SEMA4AI_HOME", "$HOME/x")];
    assert_eq!(located(&one, None), (Product::Sema4ai, user.path().join("x"), Choice::Variable));
    assert_eq!(located(&one, Some(Product::Robocorp)).1, user.path().join(".robocorp"));
    let robocorp = (Product::Robocorp, user.path().join(".robocorp"), Choice::Default);
    assert_eq!(located(&both[..1], None), robocorp);
    std::fs::create_dir_all(user.path().join(".sema4ai/hololib/catalog")).unwrap();
    let only = (Product::Sema4ai, user.path().join(".sema4ai"), Choice::OnlyHome);
    assert_eq!(located(&both[..1], None), only);
    std::fs::create_dir_all(user.path().join(".robocorp/hololib/catalog")).unwrap();
    assert_eq!(located(&both[..1], None), robocorp);
}
