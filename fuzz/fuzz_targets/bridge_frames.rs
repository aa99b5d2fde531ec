//! Frames that a client may send to the agent, and packets of the descriptor socket.
//!
//! Any bytes are either refused or decoded to something that encodes to an equal message again; decoding takes no more
//! memory than the bytes are worth. The first byte chooses the message.
#![no_main]

use dunnage_bridge::{bridgepb, v1};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use prost::bytes::Bytes;

fn check<M: Message + Default + PartialEq>(bytes: Bytes) {
    let Ok(message) = M::decode(bytes) else { return };
    let again = message.encode_to_vec();
    assert_eq!(again.len(), message.encoded_len());
    let decoded = M::decode(Bytes::from(again)).expect("what was encoded can be decoded");
    assert!(decoded == message, "a message changed on its way");
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(bytes);
    match choice % 10 {
        0 => check::<bridgepb::ExecInput>(bytes),
        1 => check::<bridgepb::ExecOutput>(bytes),
        2 => check::<bridgepb::WriteRawChunk>(bytes),
        3 => check::<bridgepb::ListDirResponse>(bytes),
        4 => check::<v1::ExecRequest>(bytes),
        5 => check::<v1::ExecResponse>(bytes),
        6 => check::<v1::WriteRequest>(bytes),
        7 => check::<v1::ListResponse>(bytes),
        8 => check::<v1::FdRequest>(bytes),
        _ => check::<v1::FdResponse>(bytes),
    }
});
