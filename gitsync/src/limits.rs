//! libgit2's process-wide options.
//!
//! They are plain global variables in C, read by every connection: setting them is sound only while
//! no other thread uses libgit2. The binary calls [`set`] first thing in `main`, before its runtime
//! starts a thread. This is the one place with unsafe code.
#![allow(unsafe_code)]

use std::{path::Path, time::Duration};

/// Sets the time limits of connections, the certificate authorities to trust beside the system's,
/// and that a repository may belong to another user: only repositories that the configuration names
/// are ever opened, and libgit2 runs no hooks or commands that a repository's configuration names.
///
/// Call it once, before any other thread starts.
///
/// # Errors
/// When libgit2 refuses a value, for one the file of certificates.
pub fn set(connect: Duration, silence: Duration, ca_file: Option<&Path>) -> Result<(), git2::Error> {
    let millis = |duration: Duration| i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: by this function's contract no other thread exists yet, so nothing reads these globals
    // while they change.
    unsafe {
        git2::opts::set_server_connect_timeout_in_milliseconds(millis(connect))?;
        git2::opts::set_server_timeout_in_milliseconds(millis(silence))?;
        git2::opts::set_verify_owner_validation(false)?;
        if let Some(file) = ca_file {
            git2::opts::set_ssl_cert_file(file)?;
        }
    }
    Ok(())
}
