//! Listings that a server sends page by page.

use std::time::SystemTime;

use jiff::Timestamp;

use crate::remote::error::RemoteError;

/// The maximum number of pages: a server may repeat a page for ever.
const MAX_PAGES: usize = 10_000;
/// The maximum number of entries: they are kept in memory.
const MAX_ENTRIES: usize = 2_000_000;

/// Entries, and where the next page begins.
pub type Page<T> = (Vec<T>, Option<String>);

/// All entries. `page` gets where a page begins, `None` for the first one; `too_long` makes the error for an endless listing, which must
/// not be cut: what is not listed would look unused.
pub fn all<T>(
    mut page: impl FnMut(Option<&str>) -> Result<Page<T>, RemoteError>,
    too_long: impl FnOnce(String) -> RemoteError,
) -> Result<Vec<T>, RemoteError> {
    let (mut found, mut from) = (Vec::new(), None::<String>);
    for _ in 0..MAX_PAGES {
        let (entries, next) = page(from.as_deref())?;
        found.extend(entries);
        match next {
            _ if found.len() > MAX_ENTRIES => break,
            None => return Ok(found),
            next => from = next,
        }
    }
    Err(too_long(format!("its listing has more than {MAX_PAGES} pages or {MAX_ENTRIES} entries")))
}

/// The time in an entry, unless it is before 1970. Without one, an object counts as written now, which keeps it.
pub fn since_1970(time: Timestamp) -> Option<SystemTime> {
    (time >= Timestamp::UNIX_EPOCH).then(|| time.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn too_long(said: String) -> RemoteError {
        RemoteError::NotFound { what: said, remote: String::new() }
    }

    #[test]
    fn all_pages_are_joined_in_order() {
        let pages = |from: Option<&str>| {
            let at: u32 = from.map_or(0, |from| from.parse().unwrap());
            Ok((vec![at, at + 10], (at < 3).then(|| (at + 1).to_string())))
        };
        assert_eq!(all(pages, too_long).unwrap(), [0, 10, 1, 11, 2, 12, 3, 13]);
    }

    #[test]
    fn an_endless_listing_is_an_error() {
        let endless = |size: usize| all(|_| Ok((vec![(); size], Some("again".to_owned()))), too_long);
        assert!(endless(0).is_err());
        assert!(endless(MAX_ENTRIES / 2 + 1).is_err());
    }
}
