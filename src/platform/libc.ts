// FFI to C library calls that Node lacks; the only user of koffi. No call throws: a negative result comes with the errno,
// and the caller builds the error.

import { getSystemErrorMessage, getSystemErrorName } from 'node:util'
import koffi from 'koffi'

const lib = koffi.load(null)

type Native = (...args: readonly unknown[]) => number

// int64_t stands for ssize_t, which koffi does not know. All sizes are far below 2^53.
const native = {
  socket: lib.func('int socket(int domain, int type, int protocol)') as Native,
  bind: lib.func('int bind(int fd, const void *address, uint32_t length)') as Native,
  getsockname: lib.func('int getsockname(int fd, void *address, void *length)') as Native,
  send: lib.func('int64_t send(int fd, const void *data, uint64_t length, int flags)'),
  sendto: lib.func(
    'int64_t sendto(int fd, const void *data, uint64_t length, int flags, const void *address, uint32_t addressLength)'
  ) as Native,
  recv: lib.func('int64_t recv(int fd, void *data, uint64_t length, int flags)') as Native,
  setsockopt: lib.func('int setsockopt(int fd, int level, int name, const void *value, uint32_t length)') as Native,
  getsockopt: lib.func('int getsockopt(int fd, int level, int name, void *value, void *length)') as Native,
  setns: lib.func('int setns(int fd, int type)') as Native,
  unshare: lib.func('int unshare(int flags)') as Native,
  flock: lib.func('int flock(int fd, int operation)') as Native,
  ioctl: lib.func('int ioctl(int fd, unsigned long request, ...)') as Native,
  malloc_trim: optional('int malloc_trim(uint64_t pad)')
}

/** A function that not every C library has. */
function optional(prototype: string): Native | null {
  try {
    return lib.func(prototype) as Native
  } catch {
    return null
  }
}

/** The result of a call: its value, and the errno when it is negative. */
export type CallResult = { readonly value: number; readonly errno: number }

export const AF_UNIX = 1
export const AF_NETLINK = 16
export const SOCK_STREAM_CLOEXEC = 1 | 0o2000000
export const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000
export const SOCK_RAW_CLOEXEC = 3 | 0o2000000
export const MSG_DONTWAIT = 0x40
export const MSG_NOSIGNAL = 0x4000
export const CLONE_NEWNET = 0x40000000
const SIOCETHTOOL = 0x8946
/** LOCK_SH and LOCK_EX, each with LOCK_NB. */
const LOCKS = { shared: 1 | 4, exclusive: 2 | 4 }

export function socket(domain: number, type: number, protocol: number): CallResult {
  return resultOf(native.socket(domain, type, protocol))
}

export function bind(fd: number, address: Uint8Array): CallResult {
  return resultOf(native.bind(fd, address, address.length))
}

/** Fills `address` with the socket's own address. */
export function getsockname(fd: number, address: Uint8Array): CallResult {
  return resultOf(native.getsockname(fd, address, new Uint32Array([address.length])))
}

/** Calls `listener` whenever `fd` is readable, without keeping the process alive. @returns a function that stops it */
export function watchReadable(fd: number, listener: () => void): () => void {
  const handle = koffi.node.poll(fd, { readable: true }, listener)
  handle.unref()
  return () => handle.close()
}

export function send(fd: number, data: Uint8Array): CallResult {
  return resultOf((native.send as unknown as Native)(fd, data, data.length, 0))
}

/** Sends on a thread of the pool, for requests that the kernel takes long to process. */
export function sendAsync(fd: number, data: Uint8Array): Promise<CallResult> {
  return new Promise((resolve, reject) => {
    native.send.async(fd, data, data.length, 0, (err: unknown, value: number) => {
      // The errno belongs to the pool thread and is lost; 5 is EIO.
      if (err === null || err === undefined) resolve({ value, errno: value < 0 ? 5 : 0 })
      else reject(err instanceof Error ? err : new Error('send did not run', { cause: err }))
    })
  })
}

/** Sends one datagram to an address, on a socket of any family. */
export function sendTo(fd: number, p: { data: Uint8Array; flags: number; address: Uint8Array }): CallResult {
  return resultOf(native.sendto(fd, p.data, p.data.length, p.flags, p.address, p.address.length))
}

export function recv(fd: number, into: Uint8Array, flags = 0): CallResult {
  return resultOf(native.recv(fd, into, into.length, flags))
}

/** Returns free memory of malloc's arenas to the kernel, where the C library can (glibc). */
export function mallocTrim(): void {
  native.malloc_trim?.(0)
}

export function setsockopt(p: { fd: number; level: number; name: number; value: Uint8Array }): CallResult {
  return resultOf(native.setsockopt(p.fd, p.level, p.name, p.value, p.value.length))
}

/** Reads a socket option into `value`. */
export function getsockopt(p: { fd: number; level: number; name: number; value: Uint8Array }): CallResult {
  return resultOf(native.getsockopt(p.fd, p.level, p.name, p.value, new Uint32Array([p.value.length])))
}

/** Moves the calling thread into a network namespace. */
export function setNetns(fd: number): CallResult {
  return resultOf(native.setns(fd, CLONE_NEWNET))
}

/** Moves the calling thread into a new network namespace. */
export function unshareNetns(): CallResult {
  return resultOf(native.unshare(CLONE_NEWNET))
}

/** Locks a file or directory without waiting (flock(2)), until the descriptor is closed. */
export function tryFlock(fd: number, kind: keyof typeof LOCKS = 'exclusive'): CallResult {
  return resultOf(native.flock(fd, LOCKS[kind]))
}

/** The CLONE_NEW* constant of a namespace file (ioctl_ns(2), NS_GET_NSTYPE). */
export function namespaceKind(fd: number): CallResult {
  return resultOf(native.ioctl(fd, 0xb703))
}

/**
 * Reads or sets one value of a device, through any socket in its namespace (linux/ethtool.h, struct ethtool_value).
 * @returns the value after the call
 */
export function ethtoolValue(fd: number, device: string, p: { command: number; value: number }): CallResult {
  const data = koffi.alloc('uint32_t', 2) as unknown
  try {
    koffi.encode(data, 'uint32_t', [p.command, p.value], 2)
    // struct ifreq: a zero-terminated name of 16 bytes and a pointer.
    const request = new Uint8Array(40)
    new TextEncoder().encodeInto(device, request.subarray(0, 15))
    new DataView(request.buffer).setBigUint64(16, koffi.address(data), true)
    const { errno } = resultOf(native.ioctl(fd, SIOCETHTOOL, 'void *', request))
    return { value: Number((koffi.decode(data, 'uint32_t', 2) as readonly number[])[1]), errno }
  } finally {
    koffi.free(data)
  }
}

/** `ENOENT` for 2. */
export function errnoName(errno: number): string {
  return getSystemErrorName(-errno)
}

/** The C library's description of an errno. */
export function errnoText(errno: number): string {
  return getSystemErrorMessage(-errno)
}

function resultOf(value: number): CallResult {
  return { value, errno: value < 0 ? koffi.errno() : 0 }
}
