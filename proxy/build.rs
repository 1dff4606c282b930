//! What the build has to find out: where the worker's libpython is, when there is to be a worker.

fn main() {
    println!("cargo::rerun-if-changed=proxy/build.rs");
    #[cfg(feature = "python")]
    pyo3_build_config::add_libpython_rpath_link_args();
}
