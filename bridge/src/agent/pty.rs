//! Terminals.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Result;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};

use crate::consts::{DEFAULT_COLS, DEFAULT_ROWS};

/// Columns and rows of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) cols: u16,
    pub(crate) rows: u16,
}

impl Size {
    /// A size from the wire: zeros take the default of 80 by 24, what does not fit is cut.
    pub(crate) fn or_default(cols: u32, rows: u32) -> Self {
        let or = |value: u32, default: u16| if value == 0 { default } else { clamp(value) };
        Self { cols: or(cols, DEFAULT_COLS), rows: or(rows, DEFAULT_ROWS) }
    }

    /// A new size from the wire, or `None` when a side is zero: that is not a size.
    pub(crate) fn checked(cols: u32, rows: u32) -> Option<Self> {
        (cols > 0 && rows > 0).then(|| Self { cols: clamp(cols), rows: clamp(rows) })
    }
}

fn clamp(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// Opens a terminal: the agent's side and the program's side.
pub(crate) fn open(size: Size) -> Result<(OwnedFd, OwnedFd)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    resize(&master, size)?;
    Ok((master, slave))
}

/// Changes the size; the programs on the terminal receive SIGWINCH.
pub(crate) fn resize(master: impl AsFd, size: Size) -> Result<()> {
    tcsetwinsize(master, Winsize { ws_col: size.cols, ws_row: size.rows, ws_xpixel: 0, ws_ypixel: 0 })
}

/// What to type for "end of input": twice when a half line must be handed over first.
pub(crate) fn end_of_input(master: impl AsFd, half_line: bool) -> Vec<u8> {
    let (eof, canonical) = tcgetattr(master).map_or((4, true), |attributes| {
        (
            attributes.special_codes[SpecialCodeIndex::VEOF],
            attributes.local_modes.contains(LocalModes::ICANON),
        )
    });
    vec![eof; if half_line && canonical { 2 } else { 1 }]
}

/// Makes reads and writes return at once.
pub(crate) fn set_nonblocking(fd: impl AsFd) -> Result<()> {
    let flags = fcntl_getfl(&fd)?;
    fcntl_setfl(&fd, flags | OFlags::NONBLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_default_per_side_and_never_wrap() {
        assert_eq!(Size::or_default(0, 0), Size { cols: 80, rows: 24 });
        assert_eq!(Size::or_default(0, 50), Size { cols: 80, rows: 50 });
        assert_eq!(Size::or_default(70_000, 1), Size { cols: u16::MAX, rows: 1 });
        assert_eq!(Size::checked(0, 10), None);
    }
}
