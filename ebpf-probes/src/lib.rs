//! The kernel programs as bytes, and the layouts they share with user space.
//!
//! Owns: the embedded object file, and everything that crosses the kernel border. Refuses: loading,
//! attaching and every business word; the collector does those.

pub use weir_abi as abi;

/// An object file aligned the way the ELF reader wants it.
#[repr(C, align(32))]
struct Aligned<T: ?Sized>(T);

static ALIGNED: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/weir-kernel.o")));

/// The BPF object file (ELF, little-endian BPF) with the programs and maps named in [`abi::names`].
pub static OBJECT: &[u8] = &ALIGNED.0;

#[cfg(test)]
mod tests {
    #[test]
    fn the_object_is_an_aligned_bpf_elf_file() {
        assert!(super::OBJECT.starts_with(b"\x7fELF"));
        assert_eq!(super::OBJECT.as_ptr().addr() % 32, 0);
        assert_eq!(super::OBJECT[18], 247, "e_machine is EM_BPF");
    }
}
