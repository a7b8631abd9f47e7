//! From settings to a [`Provider`]: the operator's words first, the vendor's row where they say nothing.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, uri};

use super::{
    Betas, Formats, Origin, Provider, ProviderKey, Quirks,
    settings::{MaxTokensField, ProviderSettings, WireFormat},
    vendor::{self, Auth, StreamUsage, Vendor},
    vendors,
};
use crate::{types::Secret, wire::openai_chat::convert::ReasoningField};

/// The word in `kind` for the built-in mock provider.
pub const MOCK: &str = "mock";

/// What is wrong with one provider's settings: the member at fault, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadProvider {
    pub member: &'static str,
    pub message: String,
}

impl Provider {
    /// Builds the provider called `name`. `mock` is where the built-in mock provider listens, if it was started.
    ///
    /// # Errors
    /// The first thing that is wrong; loading a configuration finds most of them earlier, with their place.
    pub fn build(name: &str, settings: &ProviderSettings, mock: Option<&str>) -> Result<Self, BadProvider> {
        let kind = settings.kind.as_deref().unwrap_or(name);
        let vendor = vendors::find(kind);
        if vendor.is_none() && kind != MOCK {
            let message = format!("there is no vendor `{kind}`; for a server of another, write `openai_compatible`");
            return Err(bad("kind", message));
        }
        let (origin, prefix) = base(kind, vendor, settings, mock)?;
        let formats = formats(vendor, settings, &prefix)?;
        Ok(Self {
            name: name.into(),
            kind: vendor.map_or(MOCK, |vendor| vendor.name),
            region: settings.region.as_deref().map(Into::into),
            origin,
            prefix,
            formats,
            keys: keys(vendor, settings)?,
            headers: fixed_headers(settings)?,
            forward_headers: forwarded(settings)?,
            quirks: quirks(vendor, settings),
            betas: Betas::build(&settings.betas, vendor.and_then(|vendor| vendor.betas))?,
        })
    }
}

/// The text of the base URL: as set, as the mock says, or the vendor's own.
fn base(
    kind: &str,
    vendor: Option<&Vendor>,
    settings: &ProviderSettings,
    mock: Option<&str>,
) -> Result<(Origin, String), BadProvider> {
    let mock = mock.filter(|_| kind == MOCK);
    let own = vendor.map(|vendor| vendor.base_url).filter(|url| !url.is_empty() && !url.contains('{'));
    let Some(text) = settings.base_url.as_deref().or(mock).or(own) else {
        return Err(bad("base_url", format!("the address of `{kind}` is not known; give its `base_url`")));
    };
    let wrong = |why: &str| bad("base_url", format!("`{text}` {why}; write for example https://api.example.com/v1"));
    let uri: Uri = text.parse().map_err(|_| wrong("is not an address"))?;
    let parts = uri.into_parts();
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
        return Err(wrong("has no scheme or no host"));
    };
    if scheme != uri::Scheme::HTTP && scheme != uri::Scheme::HTTPS {
        return Err(wrong("is neither http nor https"));
    }
    let path = parts.path_and_query;
    if path.as_ref().is_some_and(|path| path.query().is_some()) {
        return Err(wrong("has a query, which is not passed on"));
    }
    let prefix = path.map_or_else(String::new, |path| path.path().trim_end_matches('/').to_owned());
    Ok((Origin { scheme, authority }, prefix))
}

/// The formats that the operator names, else the vendor's own. Where the operator says where the API is, Anthropic's
/// format is below the same path: its clients know it as what comes before `/v1/messages`, so `/v1` may be left out.
fn formats(vendor: Option<&Vendor>, settings: &ProviderSettings, prefix: &str) -> Result<Formats, BadProvider> {
    // The built-in mock provider speaks OpenAI's formats.
    let (mut openai, mut messages) = vendor.map_or((true, None), |vendor| (vendor.openai, vendor.messages));
    if let Some(formats) = &settings.formats {
        if formats.is_empty() {
            return Err(bad("formats", "a provider speaks at least one format".to_owned()));
        }
        openai = formats.contains(&WireFormat::OpenaiChat);
        messages = formats.contains(&WireFormat::Anthropic).then_some(messages.unwrap_or(""));
    }
    let messages = messages.map(|own| match settings.base_url.is_some() || own.is_empty() {
        true if openai || prefix.ends_with("/v1") => prefix.to_owned(),
        true => format!("{prefix}/v1"),
        false => own.to_owned(),
    });
    Ok(Formats { openai, messages })
}

/// The operator's keys (a vendor's usual variable has become one of them by now), else one key that signs nothing.
fn keys(vendor: Option<&Vendor>, settings: &ProviderSettings) -> Result<Vec<Arc<ProviderKey>>, BadProvider> {
    let secrets: Vec<Secret> = settings.api_key.iter().chain(&settings.api_keys).cloned().collect();
    if secrets.is_empty() {
        return Ok(vec![Arc::new(ProviderKey { index: 0, header: None, secret: None })]);
    }
    let auth = vendor.map_or(vendor::BEARER, |vendor| vendor.auth);
    let keys = secrets.into_iter().enumerate().map(|(index, secret)| {
        let header = Some(signature(auth, &secret)?);
        Ok(Arc::new(ProviderKey { index, header, secret: Some(secret) }))
    });
    keys.collect()
}

fn signature(auth: Auth, secret: &Secret) -> Result<(HeaderName, HeaderValue), BadProvider> {
    let value = HeaderValue::from_str(&format!("{}{}", auth.prefix, secret.expose().trim()));
    let mut value = value.map_err(|_| bad("api_key", "the key holds characters that no header can carry".into()))?;
    value.set_sensitive(true);
    Ok((HeaderName::from_static(auth.header), value))
}

fn fixed_headers(settings: &ProviderSettings) -> Result<HeaderMap, BadProvider> {
    let mut headers = HeaderMap::new();
    for (name, value) in &settings.headers {
        let wrong = || bad("headers", format!("`{name}` is not a header, or its value is none"));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

fn forwarded(settings: &ProviderSettings) -> Result<Vec<HeaderName>, BadProvider> {
    let names = settings.forward_headers.iter().map(|name| {
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("forward_headers", format!("`{name}` is not a header")))
    });
    names.collect()
}

fn quirks(vendor: Option<&Vendor>, settings: &ProviderSettings) -> Quirks {
    let (ask, takes) = match vendor.map_or(StreamUsage::Ask, |vendor| vendor.stream_usage) {
        StreamUsage::Ask => (true, true),
        StreamUsage::Unasked | StreamUsage::Refused => (false, false),
    };
    let max_tokens = match vendor.map_or(vendor::MaxTokensField::Either, |vendor| vendor.max_tokens) {
        vendor::MaxTokensField::Either => MaxTokensField::Both,
        vendor::MaxTokensField::MaxTokens => MaxTokensField::MaxTokens,
        vendor::MaxTokensField::MaxCompletionTokens => MaxTokensField::MaxCompletionTokens,
    };
    Quirks {
        ask_usage: settings.ask_usage.unwrap_or(ask),
        takes_stream_options: settings.ask_usage == Some(true) || takes,
        max_tokens: settings.max_tokens_field.unwrap_or(max_tokens),
        reasoning: vendor.map_or(ReasoningField::None, |vendor| vendor.reasoning),
        cache_control: vendor.is_some_and(|vendor| vendor.cache_control),
        top_k: vendor.is_none_or(|vendor| vendor.top_k),
        takes_urls: settings.takes_urls.unwrap_or(vendor.is_none_or(|vendor| vendor.takes_urls)),
    }
}

fn bad(member: &'static str, message: String) -> BadProvider {
    BadProvider { member, message }
}
