//! Messages: one line, one write, no heap.

use super::sys::{self, Fd};

/// A line under construction. What does not fit is cut off.
#[derive(Debug)]
pub struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Line {
    /// An empty line.
    pub const fn new() -> Self {
        Self {
            bytes: [0; 512],
            len: 0,
        }
    }

    /// Appends text.
    pub fn text(mut self, text: &[u8]) -> Self {
        for byte in text {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = *byte;
                self.len += 1;
            }
        }
        self
    }

    /// Appends a number.
    pub fn number(self, value: i32) -> Self {
        let mut digits = [0; 10];
        let mut rest = value.unsigned_abs();
        let mut used = 0;
        for place in digits.iter_mut().rev() {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            used += 1;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let line = if value < 0 { self.text(b"-") } else { self };
        line.text(digits.get(digits.len() - used..).unwrap_or(b""))
    }

    /// What the line holds.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(b"")
    }

    /// Ends the line and writes it.
    pub fn send(self, to: Fd) {
        sys::write(to, self.text(b"\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn numbers_are_decimal() {
        for (value, text) in [
            (0, "0"),
            (7, "7"),
            (-1, "-1"),
            (i32::MAX, "2147483647"),
            (i32::MIN, "-2147483648"),
        ] {
            assert_eq!(Line::new().number(value).as_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn a_long_line_is_cut() {
        assert_eq!(Line::new().text(&[b'a'; 600]).as_bytes().len(), 512);
    }
}
