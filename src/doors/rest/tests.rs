//! tmp
use super::*;
#[tokio::test]
async fn write_doc() {
    std::fs::write("target/openapi.json", document()).expect("x");
}
