/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* bcc only asks "at least 4.8?"; nothing in slabmon depends on the version compiled for. */
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 10, 0)
