//! The event-name dictionary of a tenant: at most 65,535 names, codes in order of first appearance.

use std::collections::HashMap;

use super::{error::SegmentError, frames::TEXT_BYTES_MAX, writer::NAME_CODE_MAX};

/// Most names of one tenant.
pub const NAMES_MAX: usize = NAME_CODE_MAX as usize + 1;

/// The names of a tenant.
#[derive(Clone, Default)]
pub struct Names {
    texts: Vec<String>,
    codes: HashMap<String, u16, foldhash::fast::RandomState>,
}

impl Names {
    /// The name's code; a new one for a new name.
    ///
    /// # Errors
    /// The name has more than 65,535 bytes, or there are 65,535 names.
    pub fn code(&mut self, name: &str) -> Result<u16, SegmentError> {
        if let Some(code) = self.find(name) {
            return Ok(code);
        }
        if name.len() > TEXT_BYTES_MAX {
            return Err(SegmentError::limit(format!(
                "an event name has {} bytes, more than {TEXT_BYTES_MAX}",
                name.len()
            )));
        }
        let code = u16::try_from(self.texts.len()).unwrap_or(u16::MAX);
        if code > NAME_CODE_MAX {
            return Err(SegmentError::limit(format!(
                "more than {NAMES_MAX} event names"
            )));
        }
        self.texts.push(name.to_owned());
        self.codes.insert(name.to_owned(), code);
        Ok(code)
    }

    /// The code of a name, if an event had it.
    pub fn find(&self, name: &str) -> Option<u16> {
        self.codes.get(name).copied()
    }

    /// The name of a code.
    pub fn text(&self, code: u16) -> Option<&str> {
        self.texts.get(usize::from(code)).map(String::as_str)
    }

    /// All names, by code.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_65535_names_have_a_code_and_one_more_is_refused() {
        let mut names = Names::default();
        for code in 0..=NAME_CODE_MAX {
            assert_eq!(names.code(&format!("n{code}")), Ok(code));
        }
        assert_eq!(names.len(), NAMES_MAX);
        assert!(names.code("one more").is_err());
        assert_eq!(names.code("n65534"), Ok(65_534));
        assert_eq!(
            (names.text(65_534), names.text(65_535)),
            (Some("n65534"), None)
        );
        assert_eq!((names.find("n7"), names.find("x")), (Some(7), None));
    }
}
