use bytes::Bytes;
use std::ffi::{CString, c_char, c_void};

/// Bytes that the library made. Filled by a function, freed by dunnage_buffer_free.
#[repr(C)]
#[derive(Debug)]
pub struct dunnage_buffer {
    /// The bytes, not NUL-terminated; NULL when there are none.
    pub data: *const u8,
    /// How many.
    pub len: usize,
    /// The library's own.
    pub owner: *mut c_void,
}

impl dunnage_buffer {
    /// No bytes.
    pub(crate) const EMPTY: Self = Self { data: std::ptr::null(), len: 0, owner: std::ptr::null_mut() };
}

impl From<Bytes> for dunnage_buffer {
    /// Hands the bytes over without copying them.
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            return Self::EMPTY;
        }
        let bytes = Box::new(bytes);
        Self { data: bytes.as_ptr(), len: bytes.len(), owner: Box::into_raw(bytes).cast() }
    }
}

/// Frees what is in a buffer and makes it empty; the struct itself is the caller's. NULL and empty buffers are fine.
///
/// # Safety
/// `buffer` is NULL, or was filled by this library or zeroed, and is not in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_buffer_free(buffer: *mut dunnage_buffer) {
    if buffer.is_null() {
        return;
    }
    // SAFETY: not NULL, so it is a buffer, by the caller's promise.
    let owner = unsafe { std::mem::replace(&mut *buffer, dunnage_buffer::EMPTY) }.owner;
    if !owner.is_null() {
        // SAFETY: an owner that is not NULL came from Box::into_raw above, and is taken out of the buffer just once.
        drop(unsafe { Box::from_raw(owner.cast::<Bytes>()) });
    }
}

/// Text as C takes it. A NUL inside, which JSON text cannot have and messages should not, ends it.
pub(crate) fn c_string(text: impl Into<Vec<u8>>) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let end = error.nul_position();
        let mut bytes = error.into_vec();
        bytes.truncate(end);
        CString::new(bytes).unwrap_or_default()
    })
}

/// Frees text that a function of this library returned by `char **`. NULL is fine.
///
/// # Safety
/// `text` is NULL or came from this library by `char **`, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dunnage_string_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: such text was made by CString::into_raw, by the caller's promise.
        drop(unsafe { CString::from_raw(text) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_handed_over_and_freed_once() {
        let bytes = Bytes::from(vec![7; 1000]);
        let kept = bytes.clone();
        let mut buffer = dunnage_buffer::from(bytes);
        assert_eq!(buffer.data, kept.as_ptr(), "it is not copied");
        // SAFETY: the buffer holds as many bytes as it says, until it is freed below.
        assert_eq!(unsafe { std::slice::from_raw_parts(buffer.data, buffer.len) }, &kept[..]);
        for _ in 0..2 {
            // SAFETY: filled above, then emptied, which is fine to free again.
            unsafe { dunnage_buffer_free(&raw mut buffer) };
            assert!(buffer.data.is_null() && buffer.len == 0 && buffer.owner.is_null());
        }
        assert!(kept.is_unique(), "the owner is gone");
        let empty = dunnage_buffer::from(Bytes::new());
        assert!(empty.data.is_null() && empty.owner.is_null());
        // SAFETY: NULL is fine.
        unsafe { dunnage_buffer_free(std::ptr::null_mut()) };
    }

    #[test]
    fn text_ends_at_a_nul_and_is_freed_as_it_was_made() {
        assert_eq!(c_string("a\0b").as_bytes(), b"a");
        let text = c_string("text").into_raw();
        // SAFETY: made as the library makes all text; NULL is fine.
        unsafe {
            dunnage_string_free(text);
            dunnage_string_free(std::ptr::null_mut());
        }
    }
}
