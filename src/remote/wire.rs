//! Reads untrusted bytes: every step may reach the end; none reads past it or allocates by what they claim.

/// The remaining input.
#[derive(Debug, Clone, Copy)]
pub struct Input<'b>(pub &'b [u8]);

impl<'b> Input<'b> {
    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next bytes, as many as the result has.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// A number of up to 64 bits, seven bits per byte, the lowest first; only its shortest form is accepted.
    pub fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return (byte != 0 || shift == 0).then_some(value);
            }
        }
        None
    }

    /// True if nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Writes what [`Input::number`] reads.
pub fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_have_one_form() {
        for bytes in [&[][..], &[0x80], &[0x80, 0], &[0xff; 9], &[0xff; 11]] {
            assert_eq!(Input(bytes).number(), None, "{bytes:?}");
        }
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(Input(&most).number(), Some(u64::MAX));
        let more = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(Input(&more).number(), None);
    }

    proptest! {
        #[test]
        fn a_number_comes_back(value: u64) {
            let mut out = Vec::new();
            put_number(&mut out, value);
            let mut input = Input(&out);
            prop_assert_eq!(input.number(), Some(value));
            prop_assert!(input.is_empty());
        }
    }
}
