/* Included by bcc's helpers.h; nothing of it is needed here. */
