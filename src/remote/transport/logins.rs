//! Files of other programs with logins: tokens, keys, settings. They may be links, as in Kubernetes, but only regular files of bounded
//! size are read, so that a wrong path is an error instead of a hang or of memory without end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::sys::fs::stat::read_regular;

/// The maximum size of a file with a token: many times that of the longest.
const MAX_TOKEN: u64 = 64 << 10;
/// The maximum size of a file with settings, such as `~/.aws/config` of a large company.
const MAX_SETTINGS: u64 = 1 << 20;

/// The token in the file that `variable` names; an error names both.
pub fn token(variable: &str, path: &str) -> Result<String, String> {
    let text = text(Path::new(path), MAX_TOKEN).map(|text| text.trim().to_owned());
    match text {
        Ok(token) if token.is_empty() => Err(format!("{variable} cannot be read: {path}: it is empty")),
        read => read.map_err(|error| format!("{variable} cannot be read: {path}: {error}")),
    }
}

/// The settings in the file at `path`; `None` without a file. One that cannot be read is reported once, and not used.
pub fn settings(path: &Path) -> Option<String> {
    static REPORTED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    // What variables such as AWS_CONFIG_FILE are set to if there is to be no file.
    if path == Path::new("/dev/null") {
        return None;
    }
    let error = match text(path, MAX_SETTINGS) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return None;
        }
        Err(error) => error,
        Ok(text) => return Some(text),
    };
    let mut reported = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    if !reported.iter().any(|known| known == path) {
        log::warn!("{} is not used: {error}", path.display());
        reported.push(path.to_owned());
    }
    None
}

fn text(path: &Path, most: u64) -> io::Result<String> {
    let bytes = read_regular(path, most)?;
    // The library's error would contain the bytes.
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_from_short_regular_files_only() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
        let write = |name: &str, bytes: &[u8]| std::fs::write(at(name), bytes).unwrap();
        write("good", b" t0ken\n");
        write("most", &[b'x'; MAX_TOKEN as usize]);
        write("large", &[b'x'; MAX_TOKEN as usize + 1]);
        write("empty", b"\n");
        write("binary", b"s3cret\xff");
        assert_eq!(token("V", &at("good")).as_deref(), Ok("t0ken"));
        assert_eq!(token("V", &at("most")).map(|token| token.len()), Ok(MAX_TOKEN as usize));
        for (name, why) in [
            ("large", "larger than 65536 bytes"),
            ("empty", "it is empty"),
            ("binary", "it is not UTF-8"),
            ("none", "os error 2"),
            ("", "it is not a regular file"),
        ] {
            let error = token("V", &at(name)).unwrap_err();
            assert!(error.starts_with(&format!("V cannot be read: {}: ", at(name))), "{error}");
            assert!(error.contains(why) && !error.contains("s3cret"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn tokens_may_be_links_but_not_devices_or_fifos() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
        // As Kubernetes mounts them.
        std::fs::create_dir(at("..2026")).unwrap();
        std::fs::write(at("..2026/token"), "t0ken").unwrap();
        std::os::unix::fs::symlink("..2026", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/token", at("token")).unwrap();
        assert_eq!(token("V", &at("token")).as_deref(), Ok("t0ken"));
        assert!(std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
        for path in ["/dev/zero".to_owned(), at("fifo")] {
            let error = token("V", &path).unwrap_err();
            assert!(error.ends_with("it is not a regular file"), "{error}");
        }
    }

    #[test]
    fn settings_that_cannot_be_read_are_not_used() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("config");
        assert_eq!(settings(&file), None);
        std::fs::write(&file, "[default]\n").unwrap();
        assert_eq!(settings(&file).as_deref(), Some("[default]\n"));
        assert_eq!(settings(&file.join("below")), None);
        std::fs::write(&file, vec![b'#'; MAX_SETTINGS as usize + 1]).unwrap();
        assert_eq!(settings(&file), None);
    }
}
