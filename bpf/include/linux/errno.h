/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The errors of map operations that the programs tell apart; the same on x86-64 and arm64. */
#ifndef SLABMON_LINUX_ERRNO_H
#define SLABMON_LINUX_ERRNO_H

#define ENOENT 2
#define E2BIG  7
#define ENOMEM 12
#define EBUSY  16
#define EEXIST 17

#endif
