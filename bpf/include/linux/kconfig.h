/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Stands in for the kernel's own header: slabmon compiles without kernel headers. */
#define CONFIG_BPF_SYSCALL 1
