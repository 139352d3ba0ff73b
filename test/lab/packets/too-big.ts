// "Packet too big" of ICMPv6, made up or true, and a way to send it into a device of a namespace.

import { bytesOfIpv6, parseIpv6 } from '#model/ipv6.ts'
import type { Mac } from '#model/mac.ts'
import { json } from '../kernel.ts'
import { ether, ETHER, icmp6, ipv6, u32, udp, UDP } from './frames.ts'
import { Sender } from './raw-socket.ts'

/** IPv6's smallest. */
export const POISONED_MTU = 1_280
const PACKET_TOO_BIG = 2

type Ends = { readonly from: string; readonly to: string }

export const bytes = (text: string): Buffer => Buffer.from(bytesOfIpv6(parseIpv6(text)))
export const ends = ({ from, to }: Ends): { from: Buffer; to: Buffer } => ({ from: bytes(from), to: bytes(to) })

/** Between the same ports on both sides, as Serf's are. */
export function datagram(between: Ends, port: number): Buffer {
  return ipv6({ ...ends(between), next: UDP }, udp(port, port, Buffer.alloc(8)))
}

export function tooBig(between: Ends, quoted: Buffer): Buffer {
  return icmp6(ends(between), PACKET_TOO_BIG, Buffer.concat([u32(POISONED_MTU), quoted]))
}

export async function macIn(
  namespace: string,
  device: string
): Promise<{ readonly ifindex: number; readonly mac: Mac }> {
  const [row] = await json<{ ifindex: number; address: string }>('ip', namespace, `link show dev ${device}`)
  if (row === undefined) throw new Error(`no ${device} in ${namespace}`)
  return { ifindex: row.ifindex, mac: row.address as Mac }
}

/** Sends packets of IPv6 by a device. */
export async function inject(
  namespace: string,
  device: string,
  p: { readonly to: Mac; readonly packets: readonly Buffer[] }
): Promise<void> {
  const { ifindex, mac } = await macIn(namespace, device)
  const sender = new Sender(`/run/netns/${namespace}`, ifindex)
  try {
    for (const packet of p.packets) sender.send(ether({ to: p.to, from: mac, type: ETHER.ipv6 }, packet))
  } finally {
    sender.close()
  }
}
