//! Protocol buffers as far as CRIU's messages need them: numbers, texts and messages in messages.
//!
//! By hand, for a dozen fields do not pay for a library in a small program. See protobuf.dev "Encoding".

/// A number, written by sevens of bits.
const VARINT: u64 = 0;
/// Bytes with their length before them.
const LENGTH: u64 = 2;

/// A message on its way out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn number(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3 | VARINT);
        self.varint(value);
    }

    pub(crate) fn bool(&mut self, field: u32, value: bool) {
        self.number(field, u64::from(value));
    }

    /// A text, or a path, which need not be one.
    pub(crate) fn text(&mut self, field: u32, value: impl AsRef<[u8]>) {
        self.block(field, value.as_ref());
    }

    pub(crate) fn message(&mut self, field: u32, value: &Self) {
        self.block(field, &value.0);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn block(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | LENGTH);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or(0));
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Bytes(_) => 0,
        }
    }

    /// A number of 32 bits with a sign, which is written with 64.
    pub(crate) fn int(self) -> i32 {
        i32::try_from(self.number().cast_signed()).unwrap_or_default()
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(_) => &[],
        }
    }

    pub(crate) fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

/// The fields of a message in order, to its end or to the first one that is none.
pub(crate) fn fields(bytes: &[u8]) -> impl Iterator<Item = (u32, Value<'_>)> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let tag = varint(&mut rest)?;
        let value = match tag & 7 {
            VARINT => Value::Number(varint(&mut rest)?),
            LENGTH => {
                let length = varint(&mut rest)?;
                Value::Bytes(take(&mut rest, usize::try_from(length).ok()?)?)
            }
            // Numbers of fixed width, which CRIU does not send.
            1 => Value::Bytes(take(&mut rest, 8)?),
            5 => Value::Bytes(take(&mut rest, 4)?),
            _ => return None,
        };
        Some((u32::try_from(tag >> 3).ok()?, value))
    })
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(rest, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_way() {
        let mut inner = Message::default();
        inner.text(1, "post-restore");
        inner.number(2, 70_000);
        let mut message = Message::default();
        message.number(1, 6);
        message.bool(2, true);
        message.message(5, &inner);
        let all: Vec<_> = fields(message.bytes()).collect();
        assert_eq!(all[0], (1, Value::Number(6)));
        assert_eq!(all[1], (2, Value::Number(1)));
        let inner: Vec<_> = fields(all[2].1.bytes()).collect();
        assert_eq!(inner[0].1.text(), "post-restore");
        assert_eq!(inner[1].1.int(), 70_000);
    }

    #[test]
    fn bytes_as_the_format_has_them() {
        let mut message = Message::default();
        message.number(1, 150);
        message.text(2, "testing");
        message.number(49, 1);
        let expected = b"\x08\x96\x01\x12\x07testing\x88\x03\x01";
        assert_eq!(message.bytes(), expected);
    }

    #[test]
    fn what_is_cut_ends_the_fields() {
        for bytes in [
            &b""[..],
            b"\x08",
            b"\x08\x96",
            b"\x12\x07test",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0b",
        ] {
            assert_eq!(fields(bytes).count(), 0, "{bytes:?}");
        }
        assert_eq!(fields(b"\x08\x01\x12\x07te").count(), 1);
        // -1 as CRIU writes it.
        let minus = fields(b"\x38\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").next();
        assert_eq!(
            minus.map(|(field, value)| (field, value.int())),
            Some((7, -1))
        );
    }
}
