//! What scripts are given: one MessagePack array, which Redis unpacks in one call and faster than as many arguments.

use crate::shared::{CounterId, Window};

/// Lua's numbers are doubles: whole ones are exact up to here. In nano-dollars this is nine million dollars.
const MOST: u64 = 1 << 53;

/// An array that grows. What it holds is at most [`u16::MAX`] members on its first level, or as many within a list.
#[derive(Debug)]
pub(super) struct Pack {
    bytes: Vec<u8>,
    count: u16,
}

impl Pack {
    pub(super) fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.extend([0xdc, 0, 0]);
        Self { bytes, count: 0 }
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.count += 1;
        write_number(&mut self.bytes, number);
        self
    }

    pub(super) fn signed(&mut self, number: i64) -> &mut Self {
        if number >= 0 {
            return self.number(number.unsigned_abs());
        }
        self.count += 1;
        self.bytes.push(0xd3);
        self.bytes.extend(number.max(-MOST.cast_signed()).to_be_bytes());
        self
    }

    pub(super) fn text(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        self.count += 1;
        write_text(&mut self.bytes, text.as_ref());
        self
    }

    /// The number of a hold, in the digits it is stored under.
    pub(super) fn hold(&mut self, number: u64) -> &mut Self {
        self.text(itoa::Buffer::new().format(number))
    }

    /// A list of holds within the array.
    pub(super) fn holds(&mut self, numbers: &[u64]) -> &mut Self {
        let count = u16::try_from(numbers.len()).unwrap_or(u16::MAX);
        self.count += 1;
        self.bytes.push(0xdc);
        self.bytes.extend(count.to_be_bytes());
        for number in &numbers[..usize::from(count)] {
            write_text(&mut self.bytes, itoa::Buffer::new().format(*number).as_bytes());
        }
        self
    }

    pub(super) fn counter(&mut self, id: CounterId, window: Window) -> &mut Self {
        let (kind, millis) = kind(window);
        self.count += 3;
        write_text(&mut self.bytes, &id.bits().to_be_bytes());
        self.bytes.push(kind);
        write_number(&mut self.bytes, millis);
        self
    }

    /// A limit, of which the greatest is none.
    pub(super) fn limit(&mut self, limit: u64) -> &mut Self {
        if limit == u64::MAX {
            self.count += 1;
            self.bytes.push(0xff);
            self
        } else {
            self.number(limit)
        }
    }

    /// A list of counters and amounts within the array.
    pub(super) fn list(&mut self, amounts: impl ExactSizeIterator<Item = (CounterId, Window, u64)>) -> &mut Self {
        let members = u16::try_from(amounts.len() * 4).unwrap_or(u16::MAX / 4 * 4);
        self.count += 1;
        self.bytes.push(0xdc);
        self.bytes.extend(members.to_be_bytes());
        for (id, window, amount) in amounts.take(usize::from(members / 4)) {
            let before = self.count;
            self.counter(id, window).number(amount);
            self.count = before;
        }
        self
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes[1..3].copy_from_slice(&self.count.to_be_bytes());
        self.bytes
    }
}

fn kind(window: Window) -> (u8, u64) {
    match window {
        Window::Slots => (0, 0),
        Window::Period { ends } => (1, ends),
        Window::Rolling { millis } => (2, millis.max(1)),
    }
}

fn write_number(bytes: &mut Vec<u8>, number: u64) {
    let number = number.min(MOST);
    match (u8::try_from(number), u32::try_from(number)) {
        (Ok(small), _) if small < 128 => bytes.push(small),
        (_, Ok(number)) => {
            bytes.push(0xce);
            bytes.extend(number.to_be_bytes());
        }
        _ => {
            bytes.push(0xcf);
            bytes.extend(number.to_be_bytes());
        }
    }
}

fn write_text(bytes: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(small) if small < 32 => bytes.push(0xa0 | small),
        _ => {
            bytes.push(0xda);
            bytes.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    bytes.extend(&text[..text.len().min(usize::from(u16::MAX))]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_packed_as_messagepack_says() {
        let mut pack = Pack::new(0);
        pack.number(5).number(300).number(1 << 40).number(u64::MAX).limit(u64::MAX).text("ab").hold(7);
        let id = CounterId::of([b"a".as_slice()]);
        pack.list([(id, Window::Slots, 1)].into_iter());
        let mut expected = vec![0xdc, 0, 8, 5, 0xce, 0, 0, 1, 44, 0xcf, 0, 0, 1, 0, 0, 0, 0, 0];
        expected.extend([0xcf, 0, 0x20, 0, 0, 0, 0, 0, 0, 0xff, 0xa2, b'a', b'b', 0xa1, b'7', 0xdc, 0, 4, 0xb0]);
        expected.extend(id.bits().to_be_bytes());
        expected.extend([0, 0, 1]);
        assert_eq!(pack.finish(), expected);
    }

    #[test]
    fn holds_and_signed_numbers_are_packed_as_messagepack_says() {
        let mut pack = Pack::new(0);
        pack.holds(&[7, 12]).signed(5).signed(-2).signed(i64::MIN);
        let mut expected = vec![0xdc, 0, 4, 0xdc, 0, 2, 0xa1, b'7', 0xa2, b'1', b'2', 5];
        expected.extend([0xd3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]);
        expected.extend([0xd3, 0xff, 0xe0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(pack.finish(), expected);
    }

    #[test]
    fn long_texts_have_a_longer_head() {
        let mut pack = Pack::new(0);
        pack.text([b'x'; 40]);
        assert_eq!(pack.finish()[..6], [0xdc, 0, 1, 0xda, 0, 40]);
    }
}
