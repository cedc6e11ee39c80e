/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Poisson sampling by bytes, as tcmalloc, jemalloc and Go's heap profile do: sample points are
 * placed on the stream of allocated bytes with exponential gaps of mean `interval`, and an
 * allocation that covers one is tracked. Its probability is 1 - exp(-bytes / interval); the
 * gaps are memoryless, so each allocation is sampled independently.
 */
#ifndef SLABMON_SAMPLING_H
#define SLABMON_SAMPLING_H

/*
 * -ln(u / 2^32) * interval for a uniform 32-bit u. log2 by leading bit and a table with linear
 * interpolation, in units of 2^-26. tests/support/sampler.py is the same in
 * Python.
 *
 * Here and below the sign bit of a difference serves as a comparison: each branch would double
 * the paths that the verifier follows.
 */
static __always_inline s64 exponential_gap(const struct control *control, u32 uniform)
{
	u64 u = uniform ? uniform : 1, exponent = 31, index, fraction, log2, low;

#pragma clang loop unroll(disable)
	for (int shift = 16; shift; shift >>= 1) {
		u64 by = (((u >> (32 - shift)) - 1) >> 63) * shift;

		u <<= by;
		exponent -= by;
	}
	index = (u >> 21) & 1023;
	fraction = u & ((1 << 21) - 1);
	low = control->log2_table[index];
	log2 = (exponent << 26) + low + ((control->log2_table[index + 1] - low) * fraction >> 21);
	/* ln 2 = 45426 / 65536 to 2e-6 */
	return ((((32ull << 26) - log2) * control->sample_interval >> 26) * 45426 >> 16);
}

/*
 * Bytes that a sampled object represents: bytes / (1 - exp(-bytes / interval)), by a table with
 * linear interpolation, within 0.01 %. An object tracked with certainty (interval 0) represents
 * itself only, and so does one sixteen times as large as the interval.
 */
static __always_inline u64 sample_weight(const struct control *control, u64 bytes, u64 interval)
{
	u64 share, low, fraction;

	if (!interval || bytes >= interval << 4)
		return bytes;
	share = (bytes << 20) / interval;
	fraction = share & 0xffff;
	share = (share >> 16) & 255;
	low = control->weight_table[share];
	low += (control->weight_table[share + 1] - low) * fraction >> 16;
	return low * interval >> 16;
}

static __always_inline u32 lifetime_decade(u64 nanoseconds)
{
	u64 limit = 10000;
	u32 decade = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < LIFETIMES - 1; i++) {
		decade += (limit - 1 - nanoseconds) >> 63;
		limit *= 10;
	}
	return decade;
}

/* Index of the address's counter in the filter. */
static __always_inline u64 filter_index(u64 address)
{
	return (address >> 3) * GOLDEN_RATIO_64 >> (64 - NR_FILTER_BITS);
}

#endif
