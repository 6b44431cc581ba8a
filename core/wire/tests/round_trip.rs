//! What a writer writes, a reader reads back, at every position and in both byte orders.

use gimlet_wire::{Reader, Writer};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Field {
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    U16Le(u16),
    U32Le(u32),
    U64Le(u64),
    Bytes(Vec<u8>),
}

impl Field {
    fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Field::U8(value) => writer.u8(*value),
            Field::U16(value) => writer.u16(*value),
            Field::U32(value) => writer.u32(*value),
            Field::U64(value) => writer.u64(*value),
            Field::U16Le(value) => writer.u16_le(*value),
            Field::U32Le(value) => writer.u32_le(*value),
            Field::U64Le(value) => writer.u64_le(*value),
            Field::Bytes(bytes) => writer.bytes(bytes),
        }
    }

    fn matches(&self, reader: &mut Reader<'_>) -> bool {
        match self {
            Field::U8(value) => reader.u8() == Some(*value),
            Field::U16(value) => reader.u16() == Some(*value),
            Field::U32(value) => reader.u32() == Some(*value),
            Field::U64(value) => reader.u64() == Some(*value),
            Field::U16Le(value) => reader.u16_le() == Some(*value),
            Field::U32Le(value) => reader.u32_le() == Some(*value),
            Field::U64Le(value) => reader.u64_le() == Some(*value),
            Field::Bytes(bytes) => reader.bytes(bytes.len()) == Some(bytes),
        }
    }
}

fn written(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    for field in fields {
        field.write(&mut writer);
    }
    out
}

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![
        any::<u8>().prop_map(Field::U8),
        any::<u16>().prop_map(Field::U16),
        any::<u32>().prop_map(Field::U32),
        any::<u64>().prop_map(Field::U64),
        any::<u16>().prop_map(Field::U16Le),
        any::<u32>().prop_map(Field::U32Le),
        any::<u64>().prop_map(Field::U64Le),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Field::Bytes),
    ]
}

proptest! {
    #[test]
    fn fields_come_back_in_order_and_nothing_is_left(fields in prop::collection::vec(field(), 0..20)) {
        let out = written(&fields);
        let mut reader = Reader::new(&out);
        for field in &fields {
            prop_assert!(field.matches(&mut reader), "{:?}", field);
        }
        prop_assert!(reader.is_empty());
        prop_assert_eq!(reader.position(), out.len());
    }

    #[test]
    fn a_truncated_message_ends_in_none_and_never_in_a_panic(
        fields in prop::collection::vec(field(), 1..20), cut in any::<prop::sample::Index>(),
    ) {
        let mut out = written(&fields);
        prop_assume!(!out.is_empty());
        out.truncate(cut.index(out.len()));
        let mut reader = Reader::new(&out);
        prop_assert!(!fields.iter().all(|field| field.matches(&mut reader)));
    }
}
