//! Manifests of environments. Pure.

use serde::Deserialize;
use serde_json::json;

use crate::remote::object::{Object, ObjectId, ObjectKind};
use crate::remote::reference::{Reference, ReferenceError};

/// The type of every manifest that we write.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The types of manifests that we read.
pub const ACCEPTED: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
/// The content of an artifact's configuration.
pub const EMPTY: &[u8] = b"{}";
/// SHA-256 of [`EMPTY`].
pub const EMPTY_OBJECT: Object = Object {
    kind: ObjectKind::Profile,
    id: ObjectId([
        0x44, 0x13, 0x6f, 0xa3, 0x55, 0xb3, 0x67, 0x8a, 0x11, 0x46, 0xad, 0x16, 0xf7, 0xe8, 0x64, 0x9e, 0x94,
        0xfb, 0x4f, 0xc2, 0x1f, 0xe7, 0x7e, 0x83, 0x10, 0xc0, 0x60, 0xf6, 0x1c, 0xaa, 0xff, 0x8a,
    ]),
    size: 2,
};
/// The annotation with the reference.
const ANNOTATION: &str = "vnd.holofs.reference";

fn layer(object: &Object, media_type: &str) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{}", object.id), "size": object.size})
}

fn own_type(object: &Object) -> String {
    format!("application/vnd.holofs.{}.v1", object.kind)
}

fn annotations(reference: &Reference) -> serde_json::Value {
    let text = String::from_utf8_lossy(&reference.to_json()).into_owned();
    json!({ANNOTATION: text, "org.opencontainers.image.title": reference.catalog})
}

/// The manifest of an artifact.
pub fn own(reference: &Reference, objects: &[Object]) -> Vec<u8> {
    let layers: Vec<_> = objects.iter().map(|object| layer(object, &own_type(object))).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.holofs.environment.v1",
        "config": layer(&EMPTY_OBJECT, "application/vnd.oci.empty.v1+json"),
        "layers": layers,
        "annotations": annotations(reference),
    });
    manifest.to_string().into_bytes()
}

/// The configuration of an image for no platform.
pub fn image_config() -> Vec<u8> {
    json!({"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}})
        .to_string()
        .into_bytes()
}

/// The object with these bytes.
pub fn object_of(bytes: &[u8]) -> Object {
    Object { kind: ObjectKind::Profile, id: ObjectId::of(bytes), size: bytes.len() as u64 }
}

/// The same as [`own`] in the form of an image.
pub fn image(reference: &Reference, objects: &[Object], config: &[u8]) -> Vec<u8> {
    let kind = "application/vnd.oci.image.layer.v1.tar";
    let layers: Vec<_> = objects.iter().map(|object| layer(object, kind)).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layer(&object_of(config), "application/vnd.oci.image.config.v1+json"),
        "layers": layers,
        "annotations": annotations(reference),
    });
    manifest.to_string().into_bytes()
}

/// The text of the reference in a manifest.
pub fn reference_in(bytes: &[u8]) -> Result<String, ReferenceError> {
    #[derive(Deserialize)]
    struct Manifest {
        #[serde(default)]
        annotations: std::collections::HashMap<String, String>,
    }
    let mut manifest: Manifest = serde_json::from_slice(bytes).map_err(ReferenceError::Json)?;
    let missing = || {
        ReferenceError::Json(serde::de::Error::custom(
            "the manifest has no reference: it is not an environment",
        ))
    };
    manifest.annotations.remove(ANNOTATION).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_give_the_reference_back() {
        assert_eq!(EMPTY_OBJECT.id, ObjectId::of(EMPTY));
        let reference = Reference::new(ObjectId::of(b"head"), 4, "c".to_owned(), 1);
        let objects = [reference.head_object()];
        for bytes in [own(&reference, &objects), image(&reference, &objects, &image_config())] {
            let text = reference_in(&bytes).unwrap();
            assert_eq!(Reference::parse(text.as_bytes()).unwrap(), reference);
            let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(json["layers"][0]["digest"], format!("sha256:{}", reference.head));
        }
        for bad in
            ["", "[]", "{}", r#"{"annotations":{"a":"b"}}"#, r#"{"annotations":{"vnd.holofs.reference":7}}"#]
        {
            assert!(reference_in(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
