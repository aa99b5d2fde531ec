//! The C interface of dunnage: `include/dunnage.h` is generated from this crate.
//!
//! One function per operation. Options and results are JSON, bytes go beside it. Every entry goes through one guard that
//! checks NULLs, UTF-8 and struct sizes, and lets no panic out.
#![allow(non_camel_case_types, reason = "C names")]

mod buffer;
mod call;
mod cancel;
mod data;
mod door;
mod engine;
mod error;
mod exec;
mod files;
#[rustfmt::skip]
mod generated;
mod items;
mod process;
mod runtime;
mod sigpipe;
mod streams;
mod submit;
mod version;

pub use buffer::{dunnage_buffer, dunnage_buffer_free, dunnage_string_free};
pub use call::{dunnage_call, dunnage_event_fn, dunnage_finalizer_fn};
pub use cancel::{
    dunnage_cancel, dunnage_cancel_free, dunnage_cancel_is_triggered, dunnage_cancel_new,
    dunnage_cancel_trigger,
};
pub use data::{dunnage_data_export_stream, dunnage_data_import_stream, dunnage_read_fn, dunnage_write_fn};
pub use engine::{
    dunnage_engine, dunnage_engine_close, dunnage_engine_free, dunnage_engine_open, dunnage_engine_open_file,
};
pub use error::{
    dunnage_error, dunnage_error_code, dunnage_error_context, dunnage_error_free, dunnage_error_json,
    dunnage_error_message, dunnage_error_name, dunnage_error_operation, dunnage_status_name,
};
pub use exec::{dunnage_exec_attach, dunnage_exec_run, dunnage_exec_spawn};
pub use files::{dunnage_fs_open_read, dunnage_fs_open_write, dunnage_fs_read, dunnage_fs_write};
pub use generated::*;
pub use items::{
    dunnage_end_fn, dunnage_item_fn, dunnage_item_sink, dunnage_items, dunnage_items_free, dunnage_items_open,
};
pub use process::{
    dunnage_output_fn, dunnage_process, dunnage_process_close_stdin, dunnage_process_detach,
    dunnage_process_follow, dunnage_process_free, dunnage_process_kill, dunnage_process_pid,
    dunnage_process_read, dunnage_process_resize, dunnage_process_session_id, dunnage_process_signal,
    dunnage_process_signal_name, dunnage_process_wait, dunnage_process_write, dunnage_stream,
};
pub use streams::{
    dunnage_reader, dunnage_reader_free, dunnage_reader_read, dunnage_reader_size, dunnage_writer,
    dunnage_writer_abort, dunnage_writer_finish, dunnage_writer_free, dunnage_writer_write,
};
pub use submit::{dunnage_done_fn, dunnage_submit};
pub use version::{dunnage_abi_version, dunnage_version};
