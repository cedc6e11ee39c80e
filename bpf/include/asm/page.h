/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* bcc counts a ring buffer in pages; the running kernel's page size is passed by the loader. */
#define PAGE_SIZE PAGE_BYTES
