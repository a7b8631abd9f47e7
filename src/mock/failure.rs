//! What the mock has to complain about, before it takes the form of a wire format.

use super::behaviour::Behaviour;

/// An error, told by what is peculiar about it. What is unset is as usual; each wire format knows what that is.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure {
    /// The status of the answer; 200 for an error in an answer that began well.
    pub(super) status: u16,
    /// The status for which its type and code are the usual ones.
    pub(super) like: u16,
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    pub(super) param: Option<&'static str>,
    pub(super) message: Option<String>,
}

impl Failure {
    /// What the provider usually says with a status.
    pub(super) fn usual(status: u16) -> Self {
        Self { status, like: status, ..Self::default() }
    }

    /// What the script says, completed by what is usual.
    pub(super) fn scripted(script: &Behaviour) -> Self {
        Self {
            status: script.status.unwrap_or(200),
            like: script.status.filter(|status| *status >= 400).unwrap_or(500),
            kind: script.error_type.clone(),
            code: script.error_code.clone(),
            message: script.message.clone(),
            param: None,
        }
    }

    pub(super) fn bad_request(message: impl Into<String>, param: Option<&'static str>) -> Self {
        Self { message: Some(message.into()), param, ..Self::usual(400) }
    }

    pub(super) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub(super) fn not_found(message: String) -> Self {
        Self::bad_request(message, None).with_status(404)
    }
}
