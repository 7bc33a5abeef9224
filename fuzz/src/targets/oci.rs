//! What a registry answers: manifests and indexes, lists of tags, challenges and tokens. Parsed values are bounded by what was sent.

use std::path::Path;

use holofs::remote::transport::oci::{challenge_in, next_page, reference_in, tags_in, token_in};
use holofs::remote::{ObjectId, Reference};

/// The first byte selects the kind of the rest.
pub fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    match kind % 5 {
        0 => manifest(bytes),
        1 => {
            let tags = tags_in(bytes).unwrap_or_default();
            assert!(tags.iter().map(String::len).sum::<usize>() <= bytes.len());
        }
        2 => assert!(next_page(&text).is_none_or(|target| text.contains(target) && !target.contains('>'))),
        3 => {
            let found = challenge_in(&text);
            assert!(found.values().map(String::len).sum::<usize>() <= text.len());
        }
        _ => {
            if let Some((value, life)) = token_in(bytes) {
                assert!(value.starts_with("Bearer ") && value.len() <= bytes.len() * 3 + 7);
                assert!(life.as_secs() <= 24 * 3600);
            }
        }
    }
}

/// A reference comes from the annotation, or there is an error.
fn manifest(bytes: &[u8]) {
    let text = match reference_in(bytes) {
        Ok(text) => text,
        Err(error) => return assert!(error.to_string().len() < 1_000),
    };
    assert!(text.len() <= bytes.len() * 3);
    if let Ok(reference) = Reference::parse(text.as_bytes()) {
        assert_eq!(Reference::parse(&reference.to_json()).unwrap().head, reference.head);
    }
}

/// A manifest as we write it, one of an image, an index, and what registries answer.
pub fn seeds(_: &Path) -> Vec<Vec<u8>> {
    let catalog = "14023a1f332a0231v12.linux_amd64".to_owned();
    let reference = Reference::new(ObjectId::of(b"head"), 4, catalog, 7);
    let quoted = String::from_utf8_lossy(&reference.to_json()).replace('"', "\\\"");
    let layer = r#"{"mediaType":"application/vnd.holofs.head.v1","digest":"sha256:0","size":4}"#;
    let manifest = |more: &str| {
        format!(
            r#"{{"schemaVersion":2,{more}"layers":[{layer}],"annotations":{{"vnd.holofs.reference":"{quoted}","a":"b"}}}}"#
        )
    };
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{layer},{layer}]}}"#
    );
    let tagged = |kind: u8, text: &str| [&[kind], text.as_bytes()].concat();
    vec![
        tagged(0, &manifest("")),
        tagged(0, &manifest(r#""artifactType":"application/vnd.holofs.environment.v1","config":{},"#)),
        tagged(0, &index),
        tagged(1, r#"{"name":"r","tags":["prod","holofs-00",null]}"#),
        tagged(1, r#"{"name":"r","tags":["prod","v1.2","../x"]}"#),
        tagged(1, r#"{"tags":null}"#),
        tagged(2, r#"</v2/r/tags/list?last=b&n=500>; rel="next""#),
        tagged(3, r#"realm="https://auth.x/token",service="x", scope="repository:a:pull,push",error=denied"#),
        tagged(4, r#"{"token":"t","access_token":"u","expires_in":300}"#),
    ]
}
