//! `emberline gateway`: a real nginx accepts what is rendered, and routes, balances, reloads and ends as promised.

#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../tool/mod.rs"]
mod tool;

mod lifecycle;
mod load;
mod render;
mod routing;
mod setup;
mod split;
