// A socket in another network namespace, bound before Node adopts its descriptor: Node's own sockets are opened later, in whatever
// namespace the thread is then.

import { closeSync } from 'node:fs'
import { VxmeshError } from '#model/errors.ts'
import { formatIp, isIpv4, type Ip } from '#model/ip.ts'
import { numberOfIpv6 } from '#model/ipv6.ts'
import {
  bind,
  errnoName,
  errnoText,
  setsockopt,
  socket,
  SOCK_DGRAM_CLOEXEC,
  SOCK_STREAM_CLOEXEC,
  type CallResult
} from './libc.ts'
import { inNetns } from './netns.ts'

const AF = { ipv4: 2, ipv6: 10 } as const
/** From linux/in.h, linux/in6.h and asm-generic/socket.h: level and name. */
const REUSE_ADDRESS = [1, 2] as const
const FREE_BIND = { ipv4: [0, 15], ipv6: [41, 78] } as const
const V6_ONLY = [41, 26] as const

/**
 * Binds a socket, which need not be an address of the namespace yet: an IPv6 one is not until its duplicates were looked for.
 * @returns the descriptor, which the caller closes
 * @throws ERR_NETNS, ERR_KERNEL
 */
export function openBound(
  netns: string,
  p: { readonly protocol: 'udp' | 'tcp'; readonly address: Ip; readonly port: number }
): number {
  return inNetns(netns, () => {
    const { protocol, address, port } = p
    const family = isIpv4(address) ? 'ipv4' : 'ipv6'
    const fd = checked(socket(AF[family], protocol === 'udp' ? SOCK_DGRAM_CLOEXEC : SOCK_STREAM_CLOEXEC, 0), p)
    try {
      // A connection of the last agent may linger in TIME_WAIT. Two datagram sockets with it would share the port.
      const options = [...(protocol === 'tcp' ? [REUSE_ADDRESS] : []), FREE_BIND[family]]
      for (const [level, name] of family === 'ipv6' ? [...options, V6_ONLY] : options)
        checked(setsockopt({ fd, level, name, value: new Uint8Array(new Int32Array([1]).buffer) }), p)
      checked(bind(fd, socketAddress(address, port)), p)
      return fd
    } catch (err) {
      closeSync(fd)
      throw err
    }
  })
}

/** struct sockaddr_in or sockaddr_in6. */
function socketAddress(address: Ip, port: number): Uint8Array {
  const bytes = Buffer.alloc(isIpv4(address) ? 16 : 28)
  bytes.writeUInt16LE(isIpv4(address) ? AF.ipv4 : AF.ipv6, 0)
  bytes.writeUInt16BE(port, 2)
  if (isIpv4(address)) bytes.writeUInt32BE(address, 4)
  else bytes.write(numberOfIpv6(address).toString(16).padStart(32, '0'), 8, 'hex')
  return bytes
}

function checked({ value, errno }: CallResult, p: { protocol: string; address: Ip; port: number }): number {
  if (value >= 0) return value
  const what = `cannot open ${formatIp(p.address)} port ${p.port}/${p.protocol}: ${errnoText(errno)} (${errnoName(errno)})`
  throw new VxmeshError('ERR_KERNEL', what, { context: { errno: errnoName(errno) } })
}
