/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_API_EMBED_H
#define REGISTRATION_API_EMBED_H

/**
 * Makes the contents of a file, followed by a NUL, part of the module as `const char
 * name[]`. The path is relative to the Makefile, which lists the file as a prerequisite.
 * NOLINT: clang-tidy 19 asks for parentheses around the declared name.
 */
#define REG_EMBED(name, path)                                                            \
    __asm__(".pushsection .rodata\n" #name ":\n"                                         \
            ".incbin \"" path "\"\n"                                                     \
            ".byte 0\n"                                                                  \
            ".popsection\n");                                                            \
    extern const char name[] /* NOLINT */ __attribute__((visibility("hidden")))

#endif
