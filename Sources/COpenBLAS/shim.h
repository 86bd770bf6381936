// cblas, and the things about a CPU that Swift has no word for.
#pragma once
#include <cblas.h>

// Denormal numbers cost hundreds of cycles an operation and mean nothing here: read and write them as zero.
static inline void cblas_flush_denormals(void) {
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
#elif defined(__aarch64__)
  unsigned long long control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  __asm__ volatile("msr fpcr, %0" : : "r"(control | (1ull << 24)));
#endif
}

// Asks for the cache line at an address that will soon be read; harmless for any address.
static inline void cblas_prefetch(const void *address) { __builtin_prefetch(address); }
