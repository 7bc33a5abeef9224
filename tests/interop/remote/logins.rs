//! Logins from where users have them: helpers of docker, the file of podman, `.netrc`, a header in a variable. They are for the
//! remote alone, and not shown.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use super::real::trusts;
use super::services::{self, Login, Registry};
use super::{contents, file_remote, push, recorded};
use crate::common::golden::{CATALOG, Regime};
use crate::common::test_home::TestHome;
use crate::common::{exit, said, stderr};

/// A program `docker-credential-NAME` in the directory `bin` of a home.
fn helper(home: &TestHome, name: &str, script: &str) {
    let bin = home.scratch().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let path = bin.join(format!("docker-credential-{name}"));
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn helpers_of_docker_and_the_file_of_podman_log_in_to_a_registry() {
    let from = TestHome::golden(Regime::Gzip);
    let Some(registry) = Registry::start(&from.scratch(), &Login::Password) else { return };
    let (address, remote) = (registry.address(), format!("oci://{}/env:prod", registry.address()));
    registry.log_in(&from);
    from.holofs_ok(&["push", CATALOG, &remote]);
    let pull = |config: &str, text: String| {
        let to = TestHome::new();
        let right = format!(
            "read server; [ \"$server\" = {address} ] || exit 1\necho '{{\"ServerURL\":\"x\",\"Username\":\"user\",\"Secret\":\"secret\"}}'"
        );
        helper(&to, "right", &right);
        helper(&to, "none", "read server; echo 'credentials not found in native keychain: s3cr3t'; exit 1");
        // As one that asks for a password in a window.
        helper(&to, "silent", "sleep 60");
        let file = to.user().join(config);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        let path = format!("{}:{}", to.scratch().join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = to.holofs_command(&["pull", &remote, "-vvv"]);
        let output = command.env("PATH", path).env("RUST_LOG", "trace").output().unwrap();
        assert!(
            !said(&output).contains("dXNlcjpzZWNyZXQ") && !said(&output).contains("s3cr3t"),
            "{}",
            said(&output)
        );
        output
    };
    let docker = ".docker/config.json";
    for (config, text) in [
        (docker, format!(r#"{{"credHelpers":{{"{address}":"right"}}}}"#)),
        (docker, r#"{"credsStore":"right"}"#.to_owned()),
        (
            ".config/containers/auth.json",
            format!(r#"{{"auths":{{"{address}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#),
        ),
    ] {
        let pulled = pull(config, text.clone());
        assert!(pulled.status.success(), "{text}: {}", said(&pulled));
    }
    let refused = pull(docker, format!(r#"{{"credHelpers":{{"{address}":"none"}}}}"#));
    assert_eq!(refused.status.code(), Some(exit::IO), "{}", said(&refused));
    assert!(stderr(&refused).contains("401"), "{}", stderr(&refused));
    let absent = pull(docker, format!(r#"{{"credHelpers":{{"{address}":"absent"}}}}"#));
    assert!(stderr(&absent).contains("the credential helper cannot be started"), "{}", stderr(&absent));
    let started = Instant::now();
    let refused = pull(docker, format!(r#"{{"credHelpers":{{"{address}":"silent"}}}}"#));
    assert!(stderr(&refused).contains("does not answer within 10 s"), "{}", stderr(&refused));
    assert!(started.elapsed() < Duration::from_secs(50));
}

#[test]
fn netrc_and_a_header_log_in_to_a_web_server_and_to_no_other_address() {
    let from = TestHome::new();
    let (store, dir) = (from.scratch().join("store"), from.scratch());
    fs::create_dir_all(&store).unwrap();
    let catalog = recorded(&from, &contents()[..3], "logins=1");
    push(&from, &catalog, &file_remote(&store, "prod"));
    fs::write(dir.join("users"), "user:{PLAIN}secret\n").unwrap();
    // A redirect leads where a login is an error.
    let served = format!(
        "location /basic/ {{ auth_basic x; auth_basic_user_file {0}/users; alias {1}/; }}\n\
         location /bearer/ {{ if ($http_authorization != \"Bearer t0ken\") {{ return 401; }} alias {1}/; }}\n\
         location /moved/ {{ if ($http_authorization != \"Bearer t0ken\") {{ return 401; }} rewrite ^/moved/(.*) /open/$1 redirect; }}\n\
         location /open/ {{ if ($http_authorization) {{ return 400; }} alias {1}/; }}",
        dir.display(),
        store.display()
    );
    let Some(nginx) = services::nginx(&dir, &served, "rate=100r/s") else { return };
    let pull = |place: &str, netrc: &str, header: Option<&str>| {
        let to = TestHome::new();
        trusts(&to, &dir);
        fs::write(to.user().join(".netrc"), netrc).unwrap();
        let remote = format!("https://{}/{place}#prod", nginx.address());
        let mut command = to.holofs_command(&["pull", &remote, "-vvv"]);
        command.env("RUST_LOG", "trace").envs(header.map(|value| ("HOLOFS_REMOTE_AUTHORIZATION", value)));
        let output = command.output().unwrap();
        for secret in ["t0ken", "dXNlcjpzZWNyZXQ", "password"] {
            assert!(!said(&output).contains(secret), "{}", said(&output));
        }
        (output.status.success(), stderr(&output))
    };
    let login = "machine 127.0.0.1 login user password secret\n";
    let other = "machine example.com login user password secret\n";
    for (place, netrc, header, is_right) in [
        ("basic", login, None, true),
        ("basic", other, None, false),
        ("basic", "", None, false),
        ("bearer", login, Some("Bearer t0ken"), true),
        ("bearer", login, None, false),
        ("moved", "", Some("Bearer t0ken"), true),
        ("open", "", None, true),
    ] {
        let (pulled, text) = pull(place, netrc, header);
        assert_eq!(pulled, is_right, "{place} {netrc} {header:?}: {text}");
        assert!(is_right || text.contains("401"), "{text}");
    }
}
