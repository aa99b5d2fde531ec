use crate::host::Host;
use dunnage::Result;
use std::mem::ManuallyDrop;

/// A handle of the library in a Python object: usable only in the process it was made in, and let go within the
/// runtime.
pub(crate) struct Keep<T> {
    host: &'static Host,
    value: ManuallyDrop<T>,
}

impl<T> Keep<T> {
    /// Keeps a handle that was made on this host.
    pub(crate) fn new(host: &'static Host, value: T) -> Self {
        Self { host, value: ManuallyDrop::new(value) }
    }

    /// The handle with its host.
    ///
    /// # Errors
    /// FAILED_PRECONDITION in a child of the process it was made in.
    pub(crate) fn get(&self) -> Result<(&'static Host, &T)> {
        self.host.check()?;
        Ok((self.host, &self.value))
    }
}

impl<T> Drop for Keep<T> {
    fn drop(&mut self) {
        // In a forked child the threads that would serve its end are not there: it stays, and ends with the process.
        if self.host.is_here() {
            let _runtime = self.host.enter();
            // SAFETY: this is the only place that drops it, and it is not used after.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}
