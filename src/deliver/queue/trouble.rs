//! What an error of the disk means.

use super::Reason;
use std::io;

/// Why a record could not be written.
pub(super) struct Trouble {
    pub(super) reason: Reason,
    pub(super) error: Option<io::Error>,
}

/// What an error means for records.
pub(super) fn reason_of(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero => {
            Reason::DiskFull
        }
        _ => Reason::RingFull,
    }
}

/// The name of an error, one of a closed set.
pub(super) fn errno(error: &io::Error) -> &'static str {
    if is_eio(error) {
        return "EIO";
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::WriteZero => "ENOSPC",
        io::ErrorKind::QuotaExceeded => "EDQUOT",
        io::ErrorKind::ReadOnlyFilesystem => "EROFS",
        io::ErrorKind::PermissionDenied => "EACCES",
        io::ErrorKind::NotFound => "ENOENT",
        io::ErrorKind::FileTooLarge => "EFBIG",
        _ => "other",
    }
}

/// Whether a file with such an error will not be read any more, rather than just not now.
pub(super) fn is_lost(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::NotFound, io::ErrorKind::InvalidData, io::ErrorKind::IsADirectory];
    kinds.contains(&error.kind()) || is_eio(error)
}

fn is_eio(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}
