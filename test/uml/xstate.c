// Preloaded into User-Mode Linux, so that it runs on processors with more register state than it knows (AMX: 11,008 bytes).
// Its kernel 6.1 keeps 2,696 bytes for each process, and the host refuses to set less than the whole state. So the whole is
// read before it is set, and what User-Mode Linux does not know stays as it is in the traced process.

#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

/** Offset of XSTATE_BV, the bit mask of features whose state is not initial (Intel SDM volume 1, 13.4.2). */
#define XSTATE_BV 512
#define XSTATE_LEAF 0xd
/** XSAVE areas are below 12 KiB on processors of today. */
#define AREA_MAX (64 << 10)

typedef long (*ptrace_function)(int request, pid_t pid, void *addr, void *data);

static unsigned char area[AREA_MAX];

/**
 * The features whose state ends within the first `bytes` of an XSAVE area; x87 and SSE are in its legacy part. Computed
 * once, because CPUID traps to the hypervisor of a virtual machine: it would cost more than all the rest of a switch.
 */
static uint64_t features_within(size_t bytes) {
  static size_t known_bytes;
  static uint64_t features;
  if (bytes == known_bytes) return features;
  known_bytes = bytes;
  features = 3;
  for (unsigned feature = 2; feature < 63; feature++) {
    unsigned size, offset, c, d;
    if (!__get_cpuid_count(XSTATE_LEAF, feature, &size, &offset, &c, &d)) break;
    if (size > 0 && offset > 0 && (size_t)offset + size <= bytes) features |= 1ull << feature;
  }
  return features;
}

static long access_state(ptrace_function real, int request, pid_t pid, struct iovec *known) {
  void *type = (void *)NT_X86_XSTATE;
  struct iovec whole = {area, sizeof area};
  long result = real(PTRACE_GETREGSET, pid, type, &whole);
  if (result < 0) return result;
  if (whole.iov_len <= known->iov_len) return real(request, pid, type, known);
  if (request == PTRACE_GETREGSET) {
    memcpy(known->iov_base, area, known->iov_len);
    return result;
  }
  uint64_t present, wanted, features = features_within(known->iov_len);
  memcpy(&present, area + XSTATE_BV, sizeof present);
  memcpy(area, known->iov_base, known->iov_len);
  memcpy(&wanted, area + XSTATE_BV, sizeof wanted);
  wanted = (wanted & features) | (present & ~features);
  memcpy(area + XSTATE_BV, &wanted, sizeof wanted);
  return real(PTRACE_SETREGSET, pid, type, &whole);
}

long ptrace(enum __ptrace_request request, ...) {
  static ptrace_function real;
  if (real == NULL) real = (ptrace_function)dlsym(RTLD_NEXT, "ptrace");
  va_list arguments;
  va_start(arguments, request);
  pid_t pid = va_arg(arguments, pid_t);
  void *addr = va_arg(arguments, void *);
  void *data = va_arg(arguments, void *);
  va_end(arguments);
  int is_state = (request == PTRACE_GETREGSET || request == PTRACE_SETREGSET) && addr == (void *)NT_X86_XSTATE;
  return is_state ? access_state(real, request, pid, data) : real(request, pid, addr, data);
}
