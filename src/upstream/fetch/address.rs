//! The address of something to be fetched, taken apart.

use http::{Uri, uri::Scheme};

use super::FetchError;

/// Longer than any address that servers take, in bytes.
const LONGEST: usize = 8_192;

/// Where to go, and what to ask for there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) https: bool,
    /// A name or an address; no brackets around it, lower case, no dot at its end.
    pub(super) host: String,
    pub(super) port: u16,
    /// The whole of it, as it was written.
    pub(super) uri: Uri,
}

impl Address {
    /// Reads an absolute address.
    ///
    /// # Errors
    /// [`FetchError::Address`] for what is none of the web, and for names and passwords inside.
    pub(super) fn read(text: &str) -> Result<Self, FetchError> {
        if text.len() > LONGEST {
            return Err(FetchError::Address);
        }
        let text = text.trim();
        // A fragment is for whoever reads, and never sent.
        let text = text.split('#').next().unwrap_or_default();
        let uri: Uri = text.parse().map_err(|_| FetchError::Address)?;
        let https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(FetchError::Address),
        };
        let authority = uri.authority().cloned().ok_or(FetchError::Address)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(FetchError::Address);
        }
        let usual = if https { 443 } else { 80 };
        // A port that is no number must not become the usual one.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => usual,
            Some(port) => port.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or(FetchError::Address)?,
            None => return Err(FetchError::Address),
        };
        Ok(Self { https, host: host.to_ascii_lowercase(), port, uri })
    }

    /// Where a redirect leads from here: an absolute address, or one that leaves out what stays the same (RFC 3986,
    /// 4.2).
    ///
    /// # Errors
    /// [`FetchError::Address`], [`FetchError::Downgrade`].
    pub(super) fn follow(&self, location: &str) -> Result<Self, FetchError> {
        let (scheme, authority) = self.origin();
        let location = location.trim();
        let is_absolute = location.split_once(':').is_some_and(|(scheme, _)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        });
        let text = if is_absolute {
            location.to_owned()
        } else if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{scheme}://{authority}{location}")
        } else {
            let path = self.uri.path();
            let folder = &path[..path.rfind('/').map_or(0, |slash| slash + 1)];
            let base = if location.starts_with('?') { path } else { folder };
            format!("{scheme}://{authority}{base}{location}")
        };
        let next = Self::read(&text)?;
        if self.https && !next.https {
            return Err(FetchError::Downgrade);
        }
        Ok(next)
    }

    fn origin(&self) -> (&'static str, &str) {
        let scheme = if self.https { "https" } else { "http" };
        (scheme, self.uri.authority().map_or("", http::uri::Authority::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(address: &Address) -> (bool, &str, u16, &str) {
        let path = address.uri.path_and_query().map_or("", |path| path.as_str());
        (address.https, &address.host, address.port, path)
    }

    #[test]
    fn addresses_of_the_web_are_read_and_no_others() {
        let cases = [
            ("https://example.com", (true, "example.com", 443, "/")),
            ("HTTP://Example.COM./a?b=c#d", (false, "example.com", 80, "/a?b=c")),
            ("http://example.com:8080/a", (false, "example.com", 8080, "/a")),
            ("https://[2606:4700::1]:444/x", (true, "2606:4700::1", 444, "/x")),
            (" https://1.2.3.4/ ", (true, "1.2.3.4", 443, "/")),
        ];
        for (text, expected) in cases {
            assert_eq!(parts(&Address::read(text).unwrap()), expected, "{text}");
        }
        for text in [
            "",
            "example.com/a",
            "/a",
            "//example.com/a",
            "ftp://example.com/a",
            "file:///etc/passwd",
            "gopher://example.com/",
            "data:text/plain,hi",
            "https://user@example.com/",
            "https://user:pass@example.com/",
            "https://example.com:99999/",
            "https://example.com:/",
            "https:///a",
            "https://./",
            "https://exa mple.com/",
            "https://example.com\r\nx: y/",
        ] {
            assert!(matches!(Address::read(text), Err(FetchError::Address)), "{text:?}");
        }
        assert!(Address::read(&format!("https://example.com/{}", "a".repeat(LONGEST))).is_err());
    }

    #[test]
    fn a_redirect_leads_on_from_where_it_was_met() {
        let from = Address::read("https://example.com:444/a/b?c=d").unwrap();
        let cases = [
            ("https://other.com/x", "other.com", 443, "/x"),
            ("//other.com/x", "other.com", 443, "/x"),
            ("/x?y", "example.com", 444, "/x?y"),
            ("x", "example.com", 444, "/a/x"),
            ("x:1/y", "", 0, ""),
            ("?e", "example.com", 444, "/a/b?e"),
            ("ftp://other.com/", "", 0, ""),
            ("http://user@other.com/", "", 0, ""),
        ];
        for (location, host, port, path) in cases {
            match from.follow(location) {
                Ok(next) => assert_eq!(parts(&next), (true, host, port, path), "{location}"),
                Err(_) => assert_eq!(host, "", "{location}"),
            }
        }
        assert!(matches!(from.follow("http://example.com/"), Err(FetchError::Downgrade)));
    }
}
