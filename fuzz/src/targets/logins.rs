//! What the servers of logins answer: tokens and refusals of Entra ID, keys of AWS. A token is a valid header, and an error repeats nothing
//! of the request.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use holofs::remote::transport::azure::{code_in, token_in};
use holofs::remote::transport::s3::{exchanged_in, role_in};

/// The first byte selects the kind of the rest.
pub fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 4 {
        0 => token(bytes),
        1 => refusal(bytes),
        2 => {
            let keys = role_in(bytes);
            let parts =
                keys.iter().flat_map(|keys| [keys.key(), keys.secret(), keys.token().unwrap_or_default()]);
            assert!(parts.map(str::len).sum::<usize>() <= bytes.len());
        }
        _ => {
            let keys = exchanged_in(bytes);
            assert!(keys.is_none_or(|keys| keys.key().len() + keys.secret().len() <= bytes.len()));
        }
    }
}

fn token(bytes: &[u8]) {
    for now in [0, 1_764_450_000, u64::MAX >> 2] {
        let Some((value, life)) = token_in(bytes, UNIX_EPOCH + Duration::from_secs(now)) else { continue };
        let token = value.strip_prefix("Bearer ").unwrap();
        assert!(!token.is_empty() && token.len() <= bytes.len() && life.as_secs() <= 24 * 3600);
        assert!(token.bytes().all(|byte| byte.is_ascii_graphic()), "no header: {token:?}");
    }
}

/// Codes are words of small letters, or numbers: no secret is.
fn refusal(bytes: &[u8]) {
    let said = code_in(bytes);
    assert!(said.len() < 100);
    for code in said.split([':', ',', ' ']) {
        let number =
            code.strip_prefix("AADSTS").filter(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
        let is_word = code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(number.is_some() || is_word, "{code:?} in {said:?}");
    }
}

/// What each kind of server answers, as documented.
pub fn seeds(_: &Path) -> Vec<Vec<u8>> {
    let keys = r#"{"Code":"Success","LastUpdated":"2026-11-29T21:00:00Z","Type":"AWS-HMAC","AccessKeyId":"ASIA","SecretAccessKey":"s/+=","Token":"t","Expiration":"2099-01-01T00:00:00Z"}"#;
    let exchanged = r#"{"AssumeRoleWithWebIdentityResponse":{"AssumeRoleWithWebIdentityResult":{"Credentials":{"AccessKeyId":"ASIA","SecretAccessKey":"s","SessionToken":"t","Expiration":1.7E9},"AssumedRoleUser":{"Arn":"a"}},"ResponseMetadata":{"RequestId":"r"}}}"#;
    let tagged = |kind: u8, text: &str| [&[kind], text.as_bytes()].concat();
    vec![
        tagged(
            0,
            r#"{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"eyJ0.eyJh.c2ln"}"#,
        ),
        tagged(
            0,
            r#"{"access_token":"eyJ0","expires_on":"1764453600","resource":"https://storage.azure.com/","token_type":"Bearer","client_id":"c"}"#,
        ),
        tagged(
            0,
            r#"{"access_token":"eyJ0","expires_in":"86399","expires_on":"1764453600","not_before":"1"}"#,
        ),
        tagged(
            1,
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret 's3cret'. Trace ID: 0","error_codes":[7000215]}"#,
        ),
        tagged(1, r#"{"error":"invalid_request","error_description":"Identity not found"}"#),
        tagged(1, r#"{"statusCode":400,"message":"No Managed Identity found"}"#),
        tagged(2, keys),
        tagged(2, r#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"EC2 cannot assume the role"}"#),
        tagged(3, exchanged),
        tagged(3, r#"{"Error":{"Code":"InvalidIdentityToken","Message":"t0ken"},"RequestId":"r"}"#),
    ]
}
