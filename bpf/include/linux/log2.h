/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Included by bcc's helpers.h; nothing of it is needed here. */
