//! What a server says about an error: never what it repeats of a request, which may be a signature.

use std::io::Read as _;

use ureq::http::Method;
use ureq::http::header::CONTENT_TYPE;

use super::{Answer, Call, content_length, header};

/// The maximum length read of a server's error message.
const MAX_SAID: u64 = 4096;

/// The server's error message, if it is a short text; from Azure at least its code, which is in a header too.
pub(super) fn said(call: &Call<'_>, answer: Answer) -> String {
    let code = header(&answer.headers, "x-ms-error-code").unwrap_or_default().to_owned();
    let text = text_of(call, answer).filter(|text| !text.is_empty()).unwrap_or(code);
    let plain: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
    if plain.is_empty() { plain } else { format!(": {plain}") }
}

fn text_of(call: &Call<'_>, answer: Answer) -> Option<String> {
    let kind = header(&answer.headers, CONTENT_TYPE).unwrap_or_default();
    let length = content_length(&answer);
    let is_text = ["json", "text/plain", "xml"].iter().any(|word| kind.contains(word));
    if call.method == Method::HEAD
        || answer.status == 416
        || !is_text
        || length.is_none_or(|len| len > MAX_SAID)
    {
        return None;
    }
    let is_xml = kind.contains("xml");
    let mut text = Vec::new();
    if answer.body.into_reader().take(MAX_SAID).read_to_end(&mut text).is_err() {
        return None;
    }
    let text = String::from_utf8_lossy(&text);
    Some(if is_xml { xml_error(&text) } else { text.into_owned() })
}

/// The code and the first line of the message in an error of a bucket. The rest of it repeats what was signed.
fn xml_error(text: &str) -> String {
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split(['<', '\n']).next().map(str::to_owned)
    };
    [element("Code"), element("Message")].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_buckets_are_their_code_and_message() {
        let azure = "<?xml version=\"1.0\"?><Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate the request.\nRequestId:1</Message><AuthenticationErrorDetail>The MAC signature found in the HTTP request 'c2Vj' is not the same</AuthenticationErrorDetail></Error>";
        assert_eq!(xml_error(azure), "AuthenticationFailed: Server failed to authenticate the request.");
        let s3 = "<Error><Code>SignatureDoesNotMatch</Code><Message>No match</Message><StringToSign>c2Vj</StringToSign></Error>";
        assert_eq!(xml_error(s3), "SignatureDoesNotMatch: No match");
        assert_eq!(xml_error("<html>"), "");
    }
}
