// What only C can say to the processor and to the system's memory.
#pragma once
#include <stdlib.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

// Denormal numbers cost hundreds of cycles an operation and mean nothing here: read and write them as zero. Of the
// calling thread, and of the threads that it starts from now on.
static inline void cmachine_flush_denormals(void) {
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
#elif defined(__aarch64__)
  unsigned long long control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  __asm__ volatile("msr fpcr, %0" : : "r"(control | (1ull << 24)));
#endif
}

// Back to the state that a process begins with: for tests.
static inline void cmachine_keep_denormals(void) {
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() & ~0x8040);
#elif defined(__aarch64__)
  unsigned long long control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  __asm__ volatile("msr fpcr, %0" : : "r"(control & ~(1ull << 24)));
#endif
}

// Asks for the cache line at an address that will soon be read; harmless for any address.
static inline void cmachine_prefetch(const void *address) { __builtin_prefetch(address); }

// The square root of each of eight floats, in one or two instructions. Swift's own asks the C library for each float.
typedef float cmachine_lanes __attribute__((ext_vector_type(8)));
static inline __attribute__((always_inline)) cmachine_lanes cmachine_square_root(cmachine_lanes x) {
  return __builtin_elementwise_sqrt(x);
}

// Memory of so many bytes and more goes back to the system when it is freed.
static inline void cmachine_return_memory(int bytes) {
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, bytes);
#endif
}

// Whether the CPU has the instructions that x86-64-v3 code uses. Of its features only these are asked for: older
// libraries of compilers do not know the others, and no CPU has these without them.
static inline int cmachine_cpu_runs_v3(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2");
#else
  return 1;
#endif
}

// Whether the CPU has what OpenBLAS's kernels for SkylakeX use.
static inline int cmachine_cpu_runs_skylakex(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return 0;
#endif
}

// From now on a lack of memory, in this program or in any library of it, is told to `lack` with the bytes that were asked
// for; it must not return. Some memory is kept for it to work with. Without this call, allocations fail as ever.
void cmachine_on_lack(void (*lack)(size_t bytes));
