//! The examples in agents/, as they are shipped: on the demo upstream, through the official client.

use super::{PATIENCE, official_client};
use crate::support::{Setup, programs, within};

/// Streamed and not, each calls its own tools and hands over.
#[tokio::test]
async fn they_run_on_the_demo() {
    let root = programs::file("Cargo.toml").parent().unwrap().to_owned();
    let gateway = Setup::at(&root).env("MOONGATE_UPSTREAM", "demo").env("MOONGATE_MODEL", "demo-fast").start().await;
    within(PATIENCE, "the Python worker", gateway.logged("Python worker ready")).await;
    let printed = official_client(&gateway, &[]).await;
    assert_eq!(printed.lines().filter(|line| line.ends_with(" ok")).count(), 4, "{printed}");
    gateway.stop().await;
}
