//! The search for the recorded identity (the needle), with exactly the results of RCC's locator.
//!
//! Catalogs that RCC and HoloFS write for the same tree must be equal, so the search reproduces the quirks of RCC's, which looks at
//! chunks of 32 KiB, each preceded by as many bytes of the previous one as the needle is long, and stops when no more than that is
//! left:
//! 1. a needle at the end of the file is missed if it also begins the file or follows a byte equal to its own last;
//! 2. a needle at the end of a chunk is found again in the next chunk (rule 1 applies to the first match);
//! 3. a needle that contains its own last byte elsewhere never matches.
//!
//! All other occurrences are found, by one pass of `memmem`. Occurrences cannot overlap, because of rule 3.

use memchr::memmem::Finder;

/// RCC's chunk size.
const CHUNK: u64 = 32 * 1024;

/// A search in progress.
pub struct Search<'n> {
    needle: &'n [u8],
    finder: Finder<'n>,
    /// The last bytes fed, at most the needle's length.
    tail: Vec<u8>,
    /// Bytes fed.
    position: u64,
    /// An occurrence that ends exactly at the end of the input so far.
    pending: Option<Occurrence>,
    found: Vec<u64>,
}

/// A real occurrence.
#[derive(Clone, Copy)]
struct Occurrence {
    offset: u64,
    /// It begins the file, or follows the needle's last byte.
    shadowed: bool,
}

impl<'n> Search<'n> {
    /// Starts a search for `needle`.
    pub fn new(needle: &'n [u8]) -> Search<'n> {
        // Building the finder costs little; `can_match` handles an impossible needle.
        let finder = Finder::new(needle);
        Search { needle, finder, tail: Vec::new(), position: 0, pending: None, found: Vec::new() }
    }

    /// Adds the next bytes of the file; the sizes of the pieces do not matter.
    pub fn feed(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || !self.can_match() {
            return;
        }
        if let Some(occurrence) = self.pending.take() {
            self.record_inside(occurrence);
        }
        self.search_seam(bytes);
        let previous = self.tail.last().copied();
        let needle_len = self.needle.len();
        let finder = self.finder.clone();
        for start in finder.find_iter(bytes) {
            let previous = if start == 0 { previous } else { Some(bytes[start - 1]) };
            self.meet(self.position + start as u64, previous, start + needle_len == bytes.len());
        }
        self.position += bytes.len() as u64;
        self.keep_tail(bytes);
    }

    /// Ends the input and returns the offsets as RCC records them: ascending, some missing, some twice.
    pub fn finish(mut self) -> Vec<u64> {
        if let Some(occurrence) = self.pending.take()
            && !occurrence.shadowed
        {
            self.found.push(occurrence.offset);
        }
        self.found
    }

    /// Rule 3, and the empty needle.
    fn can_match(&self) -> bool {
        self.needle.split_last().is_some_and(|(last, rest)| !rest.contains(last))
    }

    /// Finds the occurrences that begin in the tail and end in `bytes`.
    fn search_seam(&mut self, bytes: &[u8]) {
        let before = self.tail.len();
        let reach = bytes.len().min(self.needle.len() - 1);
        if before == 0 || before + reach < self.needle.len() {
            return;
        }
        let mut seam = std::mem::take(&mut self.tail);
        seam.extend_from_slice(&bytes[..reach]);
        let finder = self.finder.clone();
        for start in finder.find_iter(&seam) {
            let end = start + self.needle.len();
            if end <= before {
                continue; // found when the tail was fed
            }
            let previous = start.checked_sub(1).map(|index| seam[index]);
            let offset = self.position - before as u64 + start as u64;
            self.meet(offset, previous, end - before == bytes.len());
        }
        seam.truncate(before);
        self.tail = seam;
    }

    /// Records a real occurrence after the byte `previous`.
    fn meet(&mut self, offset: u64, previous: Option<u8>, ends_input: bool) {
        let shadowed = previous.is_none() || previous == self.needle.last().copied();
        let occurrence = Occurrence { offset, shadowed };
        if ends_input {
            self.pending = Some(occurrence);
        } else {
            self.record_inside(occurrence);
        }
    }

    /// Records an occurrence that is not at the end of the file.
    fn record_inside(&mut self, occurrence: Occurrence) {
        let ends_chunk = (occurrence.offset + self.needle.len() as u64).is_multiple_of(CHUNK);
        if ends_chunk && !occurrence.shadowed {
            self.found.push(occurrence.offset);
        }
        self.found.push(occurrence.offset);
    }

    /// Keeps one byte more than a straddling needle needs: the one before it.
    fn keep_tail(&mut self, bytes: &[u8]) {
        let keep = self.needle.len();
        if bytes.len() >= keep {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - keep..]);
        } else {
            self.tail.extend_from_slice(bytes);
            let surplus = self.tail.len().saturating_sub(keep);
            self.tail.drain(..surplus);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEEDLE: &[u8; 24] = b"h59acff1_493f813dad24d3t";

    /// The description in the format document, literally, for chunks of any size.
    fn literal(content: &[u8], needle: &[u8], chunk: usize) -> Vec<u64> {
        let (mut found, mut window, mut read) = (Vec::new(), Vec::new(), 0);
        for piece in content.chunks(chunk) {
            let base = read - window.len();
            let view = [&window[..], piece].concat();
            let mut start = 0;
            while view.len() - start > needle.len() {
                let Some(index) = view[start..].iter().position(|byte| byte == needle.last().unwrap()) else {
                    break;
                };
                let end = start + index + 1;
                if end - start >= needle.len() && &view[end - needle.len()..end] == needle {
                    found.push((base + end - needle.len()) as u64);
                }
                start = end;
            }
            window = view[view.len().saturating_sub(needle.len())..].to_vec();
            read += piece.len();
        }
        found
    }

    fn search(content: &[u8], needle: &[u8], piece: usize) -> Vec<u64> {
        let mut search = Search::new(needle);
        content.chunks(piece).for_each(|piece| search.feed(piece));
        search.finish()
    }

    fn with_needle_at(size: usize, at: &[usize], fill: u8) -> Vec<u8> {
        let mut content = vec![fill; size];
        at.iter().for_each(|&offset| content[offset..offset + 24].copy_from_slice(NEEDLE));
        content
    }

    #[test]
    fn an_ordinary_needle_is_found_wherever_the_pieces_end() {
        let content = with_needle_at(100, &[0, 31, 76], b'.');
        for piece in [1, 2, 23, 24, 25, 100] {
            assert_eq!(search(&content, NEEDLE, piece), [0, 31, 76], "pieces of {piece}");
        }
    }

    #[test]
    fn a_needle_that_ends_the_file_is_missed_after_its_last_byte_and_at_the_start() {
        assert_eq!(search(NEEDLE, NEEDLE, 24), [0_u64; 0]);
        assert_eq!(search(&with_needle_at(27, &[3], b't'), NEEDLE, 5), [0_u64; 0]);
        assert_eq!(search(&with_needle_at(48, &[0, 24], b'.'), NEEDLE, 48), [0]);
        assert_eq!(search(&with_needle_at(72, &[0, 24, 48], b'.'), NEEDLE, 72), [0, 24]);
    }

    #[test]
    fn a_needle_that_ends_a_chunk_is_found_twice() {
        assert_eq!(search(&with_needle_at(40_000, &[32_744], b'.'), NEEDLE, 4096), [32_744, 32_744]);
        assert_eq!(search(&with_needle_at(40_000, &[32_744], b't'), NEEDLE, 4096), [32_744]);
        assert_eq!(search(&with_needle_at(32_768, &[32_744], b'.'), NEEDLE, 4096), [32_744]);
        assert_eq!(search(&with_needle_at(32_768, &[32_744], b't'), NEEDLE, 4096), [0_u64; 0]);
    }

    #[test]
    fn a_needle_that_holds_its_last_byte_elsewhere_never_matches() {
        assert_eq!(search(b"..abcabc..", b"abcabc", 10), [0_u64; 0]);
        assert_eq!(search(b"....", b"", 4), [0_u64; 0]);
    }

    /// Text pieces that make the special cases likely.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            4 => Just(NEEDLE.to_vec()),
            2 => Just(b"t".to_vec()),
            1 => Just(NEEDLE[..11].to_vec()),
            2 => (0..40_usize).prop_map(|len| vec![b'.'; len]),
        ];
        proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn results_equal_the_literal_description(
            before in prop_oneof![Just(0_usize), 32_768 - 300..32_768_usize, 65_536 - 300..65_536_usize],
            content in content(),
            piece in prop_oneof![1..50_usize, Just(32_768), Just(1 << 20)],
        ) {
            let content = [vec![b'x'; before], content].concat();
            prop_assert_eq!(search(&content, NEEDLE, piece), literal(&content, NEEDLE, CHUNK as usize));
        }
    }
}
