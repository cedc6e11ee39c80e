/* Stands in for the kernel's own header: slabmon compiles without kernel headers. */
#define CONFIG_BPF_SYSCALL 1
