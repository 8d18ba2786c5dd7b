//! Stands for what the crate `exposition` does not have yet.
#[derive(Debug, thiserror::Error)]
#[error("malformed")]
pub struct Malformed;
pub struct Batch {
    pub body: Vec<u8>,
    pub samples: u32,
}
pub fn to_v1(body: &[u8]) -> Result<Vec<u8>, Malformed> {
    Ok(body.to_vec())
}
pub fn v1_metadata(_: &[u8]) -> Result<Vec<u8>, Malformed> {
    Ok(vec![])
}
pub fn split_by_target(_: &[u8]) -> Result<Vec<Batch>, Malformed> {
    Ok(vec![])
}
pub fn from_remote_write(body: &[u8]) -> Result<Vec<u8>, Malformed> {
    Ok(body.to_vec())
}
