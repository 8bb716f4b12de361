//! What S3 and S3-compatible services say, in our words (destinations.md 6.2).
//!
//! `object_store` hides the answer's status and body behind a private type and shows them only in its
//! text, so the S3 code is taken from there: `<Code>…</Code>`, else the HTTP status, else the kind.

use std::error::Error as _;
use std::time::Duration;

use crate::model::{ErrorCode, RetryHint, Stage, SyncError};

/// Classifies a failure. `local` is true for a folder on this machine.
pub fn classify(error: &object_store::Error, stage: Stage, place: &str, local: bool) -> SyncError {
    let mut text = error.to_string();
    let mut cause = error.source();
    let mut io_kind = None;
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            io_kind = Some(io.kind());
        }
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    let (code, summary) = if local { local_code(error, io_kind) } else { remote_code(error, &text) };
    let mut failure = SyncError::new(code, stage, format!("{summary} ({place})")).external(redact(&text));
    if local {
        failure = match code {
            ErrorCode::PermissionDenied => failure.hint("Let the user of warehouse-sync write to the folder, then retry."),
            ErrorCode::BucketNotFound => failure.hint("Create the folder, or correct its path, then retry."),
            _ => failure,
        };
    }
    if code == ErrorCode::RateLimited {
        // S3 asks for slower requests without saying how slow; a minute empties its windows.
        failure = failure.retry(RetryHint::After(Duration::from_secs(60)));
    }
    failure
}

fn local_code(error: &object_store::Error, io: Option<std::io::ErrorKind>) -> (ErrorCode, &'static str) {
    use std::io::ErrorKind;
    match (error, io) {
        (_, Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)) | (object_store::Error::PermissionDenied { .. }, _) => {
            (ErrorCode::PermissionDenied, "the folder cannot be written")
        }
        (_, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)) => {
            (ErrorCode::DestinationFull, "the disk is full")
        }
        (object_store::Error::NotFound { .. }, _) => (ErrorCode::ObjectChanged, "a file is missing"),
        (_, Some(ErrorKind::NotADirectory | ErrorKind::NotFound)) => (ErrorCode::BucketNotFound, "the folder does not exist"),
        _ => (ErrorCode::Unavailable, "the folder cannot be used"),
    }
}

fn remote_code(error: &object_store::Error, text: &str) -> (ErrorCode, &'static str) {
    if let Some(found) = s3_code(text).and_then(known_code) {
        return found;
    }
    match error {
        object_store::Error::PermissionDenied { .. } => return (ErrorCode::PermissionDenied, "access was denied"),
        object_store::Error::Unauthenticated { .. } => return (ErrorCode::AuthInvalid, "the credentials were refused"),
        object_store::Error::NotFound { .. } => return (ErrorCode::ObjectChanged, "an object is missing"),
        object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
            return (ErrorCode::ConditionalWriteUnsupported, "the endpoint lacks an operation that is needed");
        }
        _ => {}
    }
    if text.contains("incorrectly configured region") {
        return (ErrorCode::RegionMismatch, "the bucket is in another region");
    }
    match http_status(text) {
        Some(401) => return (ErrorCode::AuthInvalid, "the credentials were refused"),
        Some(403) => return (ErrorCode::PermissionDenied, "access was denied"),
        Some(429) => return (ErrorCode::RateLimited, "the service asks us to slow down"),
        Some(501) => return (ErrorCode::ConditionalWriteUnsupported, "the endpoint lacks conditional writes"),
        Some(507) => return (ErrorCode::DestinationFull, "the destination is full"),
        Some(301 | 307 | 308) => return (ErrorCode::RegionMismatch, "the bucket is in another region"),
        Some(408 | 500..=599) => return (ErrorCode::Unavailable, "the service has a fault"),
        Some(400..=499) => return (ErrorCode::RequestRefused, "the service refused the request"),
        _ => {}
    }
    let lower = text.to_ascii_lowercase();
    if lower.contains("dns error") || lower.contains("failed to lookup address") || lower.contains("name or service not known") {
        return (ErrorCode::HostNotFound, "the host name does not resolve");
    }
    if lower.contains("certificate") || lower.contains("invalid peer") {
        return (ErrorCode::TlsInvalid, "no trusted TLS connection");
    }
    if lower.contains("connection refused")
        || lower.contains("tcp connect error")
        || lower.contains("connect timed out")
        || lower.contains("error trying to connect")
        || lower.contains("client error (connect)")
    {
        return (ErrorCode::HostUnreachable, "the host does not answer");
    }
    if lower.contains("credential") && (lower.contains("instance") || lower.contains("not found") || lower.contains("missing")) {
        return (ErrorCode::AuthInvalid, "no credentials were found");
    }
    (ErrorCode::Unavailable, "the service does not answer as expected")
}

/// The content of the first `<Code>` element.
fn s3_code(text: &str) -> Option<&str> {
    let rest = &text[text.find("<Code>")? + "<Code>".len()..];
    rest.find("</Code>").map(|end| &rest[..end])
}

/// The HTTP status in the words of `object_store`: "… status code: 403 Forbidden …" and similar.
fn http_status(text: &str) -> Option<u16> {
    let markers = ["status code: ", "status code ", "HTTP status client error (", "HTTP status server error ("];
    markers.iter().find_map(|marker| {
        let rest = &text[text.find(marker)? + marker.len()..];
        rest.get(..3)?.parse().ok()
    })
}

fn known_code(code: &str) -> Option<(ErrorCode, &'static str)> {
    Some(match code {
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidSecurity" | "AuthenticationFailed" | "NotSignedUp" => {
            (ErrorCode::AuthInvalid, "the credentials were refused")
        }
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => (ErrorCode::AuthExpired, "the temporary credentials have expired"),
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "AuthorizationPermissionMismatch" | "AuthorizationFailure" => {
            (ErrorCode::PermissionDenied, "access was denied")
        }
        code if code.starts_with("KMS.") => (ErrorCode::PermissionDenied, "the bucket's encryption key may not be used"),
        "RequestTimeTooSkewed" => (ErrorCode::ClockSkewed, "the clocks differ too much"),
        "NoSuchBucket" | "ContainerNotFound" => (ErrorCode::BucketNotFound, "the bucket does not exist"),
        "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            (ErrorCode::RegionMismatch, "the bucket is in another region")
        }
        "SlowDown" | "TooManyRequests" | "ServerBusy" | "Throttling" | "ThrottlingException" => {
            (ErrorCode::RateLimited, "the service asks us to slow down")
        }
        "InternalError"
        | "ServiceUnavailable"
        | "RequestTimeout"
        | "OperationTimedOut"
        | "OperationAborted"
        | "ConditionalRequestConflict"
        | "NoSuchUpload" => (ErrorCode::Unavailable, "the service has a fault"),
        "QuotaExceeded" | "XMinioStorageFull" => (ErrorCode::DestinationFull, "the destination is full"),
        "NotImplemented" => (ErrorCode::ConditionalWriteUnsupported, "the endpoint lacks conditional writes"),
        "EntityTooLarge" | "InvalidRequest" | "InvalidArgument" | "MalformedXML" => {
            (ErrorCode::RequestRefused, "the service refused the request")
        }
        _ => return None,
    })
}

/// Removes what could be a secret from words of the service: signatures, keys and tokens.
fn redact(text: &str) -> String {
    let mut clean = text.to_owned();
    for name in
        ["AWSAccessKeyId", "StringToSign", "CanonicalRequest", "SignatureProvided", "StringToSignBytes", "CanonicalRequestBytes", "Token-0"]
    {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        while let Some(start) = clean.find(&open) {
            let end = clean[start..].find(&close).map_or(clean.len(), |at| start + at + close.len());
            clean.replace_range(start..end, "");
        }
    }
    for name in ["X-Amz-Signature=", "X-Amz-Credential=", "X-Amz-Security-Token=", "sig="] {
        let mut from = 0;
        while let Some(at) = clean[from..].find(name) {
            let start = from + at + name.len();
            let end = clean[start..].find(|c: char| c == '&' || c == '"' || c.is_whitespace()).map_or(clean.len(), |at| start + at);
            clean.replace_range(start..end, "…");
            from = start;
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    fn answer(status: &str, code: &str) -> object_store::Error {
        generic(&format!(
            "Server returned non-2xx status code: {status}: <?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>"
        ))
    }

    fn code(error: &object_store::Error) -> ErrorCode {
        classify(error, Stage::Stage, "s3://b", false).code
    }

    /// Every row of destinations.md 6.2 that concerns S3.
    #[test]
    fn every_row_of_the_table_has_its_code() {
        for (status, s3, expected) in [
            ("403 Forbidden", "InvalidAccessKeyId", ErrorCode::AuthInvalid),
            ("403 Forbidden", "SignatureDoesNotMatch", ErrorCode::AuthInvalid),
            ("403 Forbidden", "AccessDenied", ErrorCode::PermissionDenied),
            ("403 Forbidden", "AllAccessDisabled", ErrorCode::PermissionDenied),
            ("403 Forbidden", "AccountProblem", ErrorCode::PermissionDenied),
            ("400 Bad Request", "KMS.DisabledException", ErrorCode::PermissionDenied),
            ("403 Forbidden", "RequestTimeTooSkewed", ErrorCode::ClockSkewed),
            ("400 Bad Request", "ExpiredToken", ErrorCode::AuthExpired),
            ("404 Not Found", "NoSuchBucket", ErrorCode::BucketNotFound),
            ("301 Moved Permanently", "PermanentRedirect", ErrorCode::RegionMismatch),
            ("400 Bad Request", "AuthorizationHeaderMalformed", ErrorCode::RegionMismatch),
            ("503 Service Unavailable", "SlowDown", ErrorCode::RateLimited),
            ("500 Internal Server Error", "InternalError", ErrorCode::Unavailable),
            ("503 Service Unavailable", "ServiceUnavailable", ErrorCode::Unavailable),
            ("408 Request Timeout", "RequestTimeout", ErrorCode::Unavailable),
            ("404 Not Found", "NoSuchUpload", ErrorCode::Unavailable),
            ("400 Bad Request", "EntityTooLarge", ErrorCode::RequestRefused),
            ("400 Bad Request", "InvalidRequest", ErrorCode::RequestRefused),
            ("501 Not Implemented", "NotImplemented", ErrorCode::ConditionalWriteUnsupported),
        ] {
            assert_eq!(code(&answer(status, s3)), expected, "{s3}");
        }
        for (text, expected) in [
            ("Server returned non-2xx status code: 401 Unauthorized: ", ErrorCode::AuthInvalid),
            ("Server returned non-2xx status code: 429 Too Many Requests: ", ErrorCode::RateLimited),
            ("Server returned non-2xx status code: 502 Bad Gateway: <html>", ErrorCode::Unavailable),
            ("Received redirect without LOCATION, this normally indicates an incorrectly configured region", ErrorCode::RegionMismatch),
            ("error sending request: client error (Connect): dns error: failed to lookup address information", ErrorCode::HostNotFound),
            (
                "error sending request: client error (Connect): tcp connect error: Connection refused (os error 111)",
                ErrorCode::HostUnreachable,
            ),
            ("error sending request: client error (Connect): invalid peer certificate: UnknownIssuer", ErrorCode::TlsInvalid),
            ("something never seen", ErrorCode::Unavailable),
        ] {
            assert_eq!(code(&generic(text)), expected, "{text}");
        }
    }

    #[test]
    fn only_transient_failures_are_tried_again_by_themselves() {
        assert!(matches!(classify(&answer("503", "SlowDown"), Stage::Stage, "b", false).retry, RetryHint::After(_)));
        assert_eq!(classify(&answer("500", "InternalError"), Stage::Stage, "b", false).retry, RetryHint::Backoff);
        assert_eq!(classify(&answer("403", "AccessDenied"), Stage::Stage, "b", false).retry, RetryHint::WhenFixed);
    }

    #[test]
    fn secrets_do_not_reach_the_external_message() {
        let text = "status code: 403 x: <Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIA123</AWSAccessKeyId><StringToSign>sts</StringToSign></Error> https://h/?X-Amz-Signature=abcdef&a=1";
        let error = classify(&generic(text), Stage::Stage, "b", false);
        let external = error.external.as_deref().unwrap();
        for secret in ["AKIA123", "sts<", "abcdef"] {
            assert!(!external.contains(secret), "{external}");
        }
        assert!(external.contains("SignatureDoesNotMatch") && external.contains("a=1"), "{external}");
    }
}
