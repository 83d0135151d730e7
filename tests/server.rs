//! fixture smoke
mod fixture;
#[test]
fn smoke() { let d="/tmp/serve-smoke"; let _=std::fs::remove_dir_all(d); println!("{:?}", fixture::digits_bundle(d.as_ref())); println!("{:?}", fixture::slow_bundle(d.as_ref()));println!("{:?}", fixture::table_bundle(d.as_ref())); }
