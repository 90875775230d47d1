//! The web server: its answers, its status page, who may see what, and clients that mean harm.

mod attacks;
mod load;
mod protection;
mod serving;
mod status_layout;
mod status_page;
