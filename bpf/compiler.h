/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Annotations and barriers for clang and the verifier.
 */
#ifndef SLABMON_COMPILER_H
#define SLABMON_COMPILER_H

#define __always_inline inline __attribute__((always_inline))
#define likely(x)       __builtin_expect(!!(x), 1)
#define unlikely(x)     __builtin_expect(!!(x), 0)

/* Forces `var` into a register, so that clang does not rematerialise it (libbpf's name). */
#define barrier_var(var) asm volatile("" : "+r"(var))

/* Eight characters as they are loaded from memory by a little-endian machine. */
#define WORD(a, b, c, d, e, f, g, h)                                                               \
	((u64)(a) | (u64)(b) << 8 | (u64)(c) << 16 | (u64)(d) << 24 | (u64)(e) << 32 |             \
	 (u64)(f) << 40 | (u64)(g) << 48 | (u64)(h) << 56)

/*
 * Makes a value unknown to the verifier (through map memory), so that states merge instead of
 * forking per constant.
 */
static __always_inline u64 hide_from_verifier(volatile u64 *scratch, u64 value)
{
	*scratch = value;
	return *scratch;
}

#endif
