// What attacks over IPv6 are built of: packets of one container to others, as they would be if nothing were wrong with them.

import type { Mac } from '#model/mac.ts'
import type { Attack } from './attacks.ts'
import { ALL_NODES, u32 } from './frames.ts'
import {
  ALL_NODES_MAC,
  discovery,
  fragment,
  frame6,
  linkOption,
  message6,
  NEXT,
  packet,
  solicitedNode,
  SOURCE_LINK,
  TYPE,
  udp6,
  type Ends,
  type PacketOptions
} from './frames6.ts'

export type Target = { readonly mac: Mac; readonly address: Buffer }
export type Party6 = Target & { readonly address4?: number }

export type Place6 = {
  readonly me: Party6
  /** On the host of `me`, and on another one. */
  readonly victim: Party6
  readonly other: Party6
  readonly gateway: Target
  readonly bridge: Mac
  readonly host: { readonly address: Buffer; readonly port: number }
  readonly foreign: { readonly vni: number; readonly victim: Party6 }
}

type Ports = readonly [from: number, to: number]

export const DATA_PORT = 7_000
export const FOREIGN = 'ee:00:00:00:00:01' as Mac
export const GROUP: Target = { address: ALL_NODES, mac: ALL_NODES_MAC }

/** A container's legitimate traffic over IPv6, which must arrive. */
export function ordinary6(me: Target, victim: Target, toPort = DATA_PORT): Attack['frames'] {
  const ends = { from: me.address, to: victim.address }
  const datagram = (mark: Buffer): Buffer => udp6(ends, [DATA_PORT, toPort], mark)
  return mark => [frame6({ to: victim.mac, from: me.mac }, packet({ ...ends, next: NEXT.udp }, datagram(mark)))]
}

/** It asks all for the MAC of an address, as its kernel would. */
export function solicitation6(me: Target, target: Buffer): Attack['frames'] {
  const { group, mac } = solicitedNode(target)
  const ends = { from: me.address, to: group }
  const question = message6(ends, TYPE.solicitation, discovery(0, target, linkOption(SOURCE_LINK, me.mac)))
  return mark => [frame6({ to: mac, from: me.mac }, packet({ ...ends, next: NEXT.icmp6 }, question), mark)]
}

/** Builders of what `me` sends, to `victim` unless another target is named. */
export class Craft {
  readonly own: Ends
  readonly #w: { readonly me: Target; readonly victim: Target }

  constructor(w: { readonly me: Target; readonly victim: Target }) {
    this.#w = w
    this.own = { from: w.me.address, to: w.victim.address }
  }

  frame(payload: Buffer, link: { to?: Mac; from?: Mac; type?: number } = {}, mark?: Buffer): Buffer {
    return frame6({ to: this.#w.victim.mac, from: this.#w.me.mac, ...link }, payload, mark)
  }

  ip(next: number, payload: Buffer, change: Partial<PacketOptions> = {}): Buffer {
    return packet({ ...this.own, next, ...change }, payload)
  }

  data(mark: Buffer, ports: Ports = [DATA_PORT, DATA_PORT], ends: Ends = this.own): Buffer {
    return udp6(ends, ports, mark)
  }

  datagram(ports: Ports, p: { readonly from?: Buffer; readonly at?: Target } = {}): Attack['frames'] {
    const { ends, to } = this.#ends(p)
    return mark => [this.frame(this.ip(NEXT.udp, this.data(mark, ports, ends), ends), { to })]
  }

  from(address: Buffer, at: Target = this.#w.victim): Attack['frames'] {
    return this.datagram([DATA_PORT, DATA_PORT], { from: address, at })
  }

  /** An ICMPv6 message of the length that it should have. */
  message(type: number, rest: Buffer, p: { readonly from?: Buffer; readonly at?: Target } = {}): Attack['frames'] {
    const { ends, to } = this.#ends(p)
    return mark => [this.frame(this.ip(NEXT.icmp6, message6(ends, type, rest), ends), { to }, mark)]
  }

  solicitation(option: Buffer, p: { readonly from?: Buffer; readonly at?: Target } = {}): Attack['frames'] {
    const { address } = this.#w.victim
    const { group, mac } = solicitedNode(address)
    return this.message(TYPE.solicitation, discovery(0, address, option), { at: { address: group, mac }, ...p })
  }

  advertisement(
    target: Buffer,
    p: { readonly flags: number; readonly option?: Buffer; readonly from?: Buffer; readonly at?: Target }
  ): Attack['frames'] {
    return this.message(TYPE.advertisement, discovery(p.flags, target, p.option ?? Buffer.alloc(0)), p)
  }

  /** A payload behind other headers. */
  behind(next: number, headers: Buffer, payload: Buffer): Attack['frames'] {
    return mark => [this.frame(this.ip(next, Buffer.concat([headers, payload])), {}, mark)]
  }

  /** The first fragment holds all of it. */
  inFragments(next: number, whole: (mark: Buffer) => Buffer, ends: Ends = this.own): Attack['frames'] {
    return (mark, n) => {
      const payload = whole(mark)
      const first = Buffer.concat([payload, Buffer.alloc(-payload.length & 7)])
      const head = fragment({ next, id: n, more: true })
      const tail = Buffer.concat([fragment({ next, id: n, offset: first.length / 8 }), Buffer.alloc(8)])
      return [
        this.frame(this.ip(NEXT.fragment, Buffer.concat([head, first]), ends), {}, mark),
        this.frame(this.ip(NEXT.fragment, tail, ends))
      ]
    }
  }

  /** An error of a router about a ping: the sender believes it without a socket that sent it. */
  error(type: number, about: Ends, p: { readonly from?: Buffer } = {}): Attack['frames'] {
    const quoted = packet({ ...about, next: NEXT.icmp6 }, message6(about, TYPE.echoRequest, Buffer.alloc(8)))
    return this.message(type, Buffer.concat([u32(type === TYPE.packetTooBig ? SMALL_MTU : 0), quoted]), p)
  }

  #ends({ from, at }: { readonly from?: Buffer; readonly at?: Target }): { readonly ends: Ends; readonly to: Mac } {
    const { address, mac } = at ?? this.#w.victim
    return { ends: { from: from ?? this.own.from, to: address }, to: mac }
  }
}

const SMALL_MTU = 1_280
