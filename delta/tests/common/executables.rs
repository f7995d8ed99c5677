//! Two executables, made by hand; the unit tests of the patcher take them from here as well.

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;

/// Two small executables of one machine that call about, with data and an unwind table.
pub(crate) fn executables(machine: u16) -> (Vec<u8>, Vec<u8>) {
    let image = |grown: usize, version: u8| {
        // In the later image something new stands in the middle, and all after it moved.
        let place = |at: usize| if at < 2048 { at } else { at + grown };
        let mut text = vec![0x90; 4096 + grown];
        for at in (0..4096).step_by(16) {
            let (from, target) = (place(at), place(at * 37 % 4096));
            text[from] = 0xe8;
            let distance = target as i32 - from as i32 - 5;
            text[from + 1..from + 5].copy_from_slice(&distance.to_le_bytes());
            text[from + 6] = (at >> 4) as u8;
        }
        let names = b"\0.text\0.data\0.shstrtab\0";
        let data: Vec<u8> = (0..256)
            .flat_map(|n| (0x40_1000 + place(n * 16) as u64).to_le_bytes())
            .collect();
        let mut elf = Vec::from(*b"\x7fELF\x02\x01\x01");
        elf.resize(16, version);
        elf.extend_from_slice(&2u16.to_le_bytes());
        elf.extend_from_slice(&machine.to_le_bytes());
        elf.resize(64, 0);
        let text_at = 4096;
        let data_at = text_at + text.len();
        let names_at = data_at + data.len();
        let table_at = (names_at + names.len()).next_multiple_of(8);
        let put = |elf: &mut Vec<u8>, at: usize, bytes: &[u8]| {
            elf[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(&mut elf, 32, &64u64.to_le_bytes());
        put(&mut elf, 40, &(table_at as u64).to_le_bytes());
        for (at, value) in [(54, 56u16), (56, 1), (58, 64), (60, 4), (62, 3)] {
            put(&mut elf, at, &value.to_le_bytes());
        }
        let load_len = (names_at - text_at) as u64;
        elf.extend_from_slice(&1u32.to_le_bytes());
        elf.extend_from_slice(&5u32.to_le_bytes());
        for value in [
            text_at as u64,
            0x40_1000,
            0x40_1000,
            load_len,
            load_len + 512,
            4096,
        ] {
            elf.extend_from_slice(&value.to_le_bytes());
        }
        elf.resize(text_at, 0);
        elf.extend_from_slice(&text);
        elf.extend_from_slice(&data);
        elf.extend_from_slice(names);
        elf.resize(table_at, 0);
        let sections = [
            (0, 0, 0, 0, 0),
            (1, 1, 6, text_at, text.len()),
            (7, 1, 3, data_at, data.len()),
            (13, 3, 0, names_at, names.len()),
        ];
        for (name, kind, flags, at, len) in sections {
            elf.extend_from_slice(&(name as u32).to_le_bytes());
            elf.extend_from_slice(&(kind as u32).to_le_bytes());
            for value in [flags as u64, 0x40_1000, at as u64, len as u64, 0, 0, 0, 0]
                .iter()
                .take(6)
            {
                elf.extend_from_slice(&value.to_le_bytes());
            }
            elf.extend_from_slice(&[0; 8]);
        }
        elf
    };
    (image(0, 1), image(256, 2))
}
