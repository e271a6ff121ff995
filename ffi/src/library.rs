//! Checks for libraries that are not linked: those of drivers. Loading their functions is left to the shim.

use std::ffi::CString;

/// The first of these shared libraries that the loader does not find. A library that is found stays loaded.
pub fn missing_library<'a>(names: &[&'a str]) -> Option<&'a str> {
    let is_missing = |name: &&&str| {
        let Ok(name) = CString::new(**name) else { return true };
        // SAFETY: the name is a NUL-terminated string. Loading runs the library's constructors: the caller names
        // libraries that are meant to be loaded.
        unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL) }.is_null()
    };
    names.iter().find(is_missing).copied()
}

#[cfg(test)]
mod tests {
    use super::missing_library;

    #[test]
    fn the_first_that_is_missing_is_named() {
        assert_eq!(missing_library(&["libc.so.6"]), None);
        assert_eq!(missing_library(&["libc.so.6", "libno-such.so.1", "libnor-this.so"]), Some("libno-such.so.1"));
        assert_eq!(missing_library(&["a\0b"]), Some("a\0b"));
    }
}
