// The C library calls that Node lacks, by FFI. The only owner of koffi. Each throws nothing: a negative result comes
// with the errno, and the caller words the error.

import { getSystemErrorMessage, getSystemErrorName } from 'node:util'
import koffi from 'koffi'

const lib = koffi.load(null)

type Native = (...args: readonly unknown[]) => number

// ssize_t is int64_t here: koffi has no name for it. All our sizes are far below 2^53.
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
  ioctl: lib.func('int ioctl(int fd, unsigned long request, ...)') as Native
}

/** The result of a call: the value, or the errno. */
export type Called = { readonly value: number; readonly errno: number }

export const AF_UNIX = 1
export const AF_NETLINK = 16
export const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000
export const SOCK_RAW_CLOEXEC = 3 | 0o2000000
export const MSG_DONTWAIT = 0x40
export const MSG_NOSIGNAL = 0x4000
export const CLONE_NEWNET = 0x40000000
const SIOCETHTOOL = 0x8946

export function socket(domain: number, type: number, protocol: number): Called {
  return called(native.socket(domain, type, protocol))
}

export function bind(fd: number, address: Uint8Array): Called {
  return called(native.bind(fd, address, address.length))
}

/** Fills `address` with the socket's own. */
export function getsockname(fd: number, address: Uint8Array): Called {
  return called(native.getsockname(fd, address, new Uint32Array([address.length])))
}

/** Calls back whenever there is something to read, without keeping the process alive. Returns how to stop. */
export function watchReadable(fd: number, listener: () => void): () => void {
  const handle = koffi.node.poll(fd, { readable: true }, listener)
  handle.unref()
  return () => handle.close()
}

export function send(fd: number, data: Uint8Array): Called {
  return called((native.send as unknown as Native)(fd, data, data.length, 0))
}

/** The same on a thread of the pool: for what the kernel takes long to do. */
export function sendAsync(fd: number, data: Uint8Array): Promise<Called> {
  return new Promise((resolve, reject) => {
    native.send.async(fd, data, data.length, 0, (err: unknown, value: number) => {
      // errno is the pool thread's and is lost; 5 is EIO.
      if (err === null || err === undefined) resolve({ value, errno: value < 0 ? 5 : 0 })
      else reject(err instanceof Error ? err : new Error('send did not run', { cause: err }))
    })
  })
}

/** One datagram to an address, with a datagram socket of any family. */
export function sendTo(fd: number, p: { data: Uint8Array; flags: number; address: Uint8Array }): Called {
  return called(native.sendto(fd, p.data, p.data.length, p.flags, p.address, p.address.length))
}

export function recv(fd: number, into: Uint8Array, flags = 0): Called {
  return called(native.recv(fd, into, into.length, flags))
}

export function setsockopt(p: { fd: number; level: number; name: number; value: Uint8Array }): Called {
  return called(native.setsockopt(p.fd, p.level, p.name, p.value, p.value.length))
}

/** Fills `value` with an option of the socket. */
export function getsockopt(p: { fd: number; level: number; name: number; value: Uint8Array }): Called {
  return called(native.getsockopt(p.fd, p.level, p.name, p.value, new Uint32Array([p.value.length])))
}

/** Moves the calling thread into a network namespace. */
export function setNetns(fd: number): Called {
  return called(native.setns(fd, CLONE_NEWNET))
}

/** Moves the calling thread into a new network namespace. */
export function unshareNetns(): Called {
  return called(native.unshare(CLONE_NEWNET))
}

/** The CLONE_NEW* kind of a namespace file (ioctl_ns(2), NS_GET_NSTYPE). */
export function namespaceKind(fd: number): Called {
  return called(native.ioctl(fd, 0xb703))
}

/**
 * Reads or sets one number of a device by any socket of its namespace (linux/ethtool.h, struct ethtool_value). Gives the
 * number.
 */
export function ethtoolValue(fd: number, device: string, p: { command: number; value: number }): Called {
  const data = koffi.alloc('uint32_t', 2) as unknown
  try {
    koffi.encode(data, 'uint32_t', [p.command, p.value], 2)
    // struct ifreq: a name of 16 bytes, the last one 0, and a pointer.
    const request = new Uint8Array(40)
    new TextEncoder().encodeInto(device, request.subarray(0, 15))
    new DataView(request.buffer).setBigUint64(16, koffi.address(data), true)
    const { errno } = called(native.ioctl(fd, SIOCETHTOOL, 'void *', request))
    return { value: Number((koffi.decode(data, 'uint32_t', 2) as readonly number[])[1]), errno }
  } finally {
    koffi.free(data)
  }
}

/** `ENOENT` for 2. */
export function errnoName(errno: number): string {
  return getSystemErrorName(-errno)
}

/** The C library's words for an errno. */
export function errnoText(errno: number): string {
  return getSystemErrorMessage(-errno)
}

function called(value: number): Called {
  return { value, errno: value < 0 ? koffi.errno() : 0 }
}
