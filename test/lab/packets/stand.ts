// The parties of the attack matrix and their legitimate traffic: one container of red forges frames; others of red and blue
// run on its own host and on another; a third host is a stranger.

import { bridgeMac } from '#overlay/plan/network/names.ts'
import type { Vni } from '#model/ids.ts'
import { ipv4Of, isIpv4, type Ip } from '#model/ip.ts'
import { macOf } from '#model/mac.ts'
import { waitFor } from '../wait.ts'
import { containerAttacks, ordinary, underlayAttacks, type Attack, type Party, type Wired } from './attacks.ts'
import { mark } from './frames.ts'
import type { Listener, Sender } from './raw-socket.ts'

/** The UDP port on which a host listens for its containers. */
export const HOST_PORT = 9_999

/** A host's addresses on the underlay, and its sender there. */
export type Wire = Wired & { readonly sender: Sender }

export type Control = { readonly name: string; readonly sender: Sender; readonly frames: Attack['frames'] }

export type AttackStand = {
  /** Who sends which frames. */
  readonly attacks: readonly { readonly sender: Sender; readonly attack: Attack }[]
  readonly controls: readonly Control[]
}

/** Parties and senders by name: `me`, `near` and `tenant` on the host, `far` and `far-tenant` on the member. */
export function attackStand(p: {
  readonly party: (name: string) => Party
  readonly sender: (name: string) => Sender
  readonly host: Omit<Wire, 'sender'>
  readonly member: Wire
  readonly stranger: Wire
  readonly port: number
  readonly red: { readonly vni: Vni; readonly gateway: Ip }
  readonly blue: { readonly vni: Vni }
}): AttackStand {
  const { party, sender, host, member, stranger, port, red, blue } = p
  const wire = underlayAttacks({
    stranger,
    member,
    host,
    port,
    vni: red.vni,
    inner: m => ordinary(party('far'), party('near'))(m, 0)[0] ?? m,
    foreign: { vni: blue.vni, inner: m => ordinary(party('far-tenant'), party('tenant'))(m, 0)[0] ?? m }
  })
  const local = containerAttacks({
    me: party('me'),
    victim: party('near'),
    other: party('far'),
    gateway: ipv4Of(red.gateway),
    gatewayMac: macOf(red.vni, red.gateway),
    bridge: bridgeMac(red.vni),
    member: ipv4Near(member.address),
    host: { mac: host.mac, address: ipv4Near(host.address), port: HOST_PORT },
    vni: red.vni,
    foreign: { vni: blue.vni, victim: party('tenant') }
  })
  const from = (sender: Sender, list: readonly Attack[]): AttackStand['attacks'] =>
    list.map(attack => ({ sender, attack }))
  const between = (one: string, other: string): Control => ({
    name: other,
    sender: sender(one),
    frames: ordinary(party(one), party(other))
  })
  return {
    attacks: [
      ...from(sender('me'), local),
      ...from(stranger.sender, wire.stranger),
      ...from(member.sender, wire.member)
    ],
    controls: [
      between('me', 'near'),
      between('me', 'far'),
      between('far', 'near'),
      between('tenant', 'far-tenant'),
      { name: 'near', sender: member.sender, frames: wire.ordinary }
    ]
  }
}

/** What IPv4 containers may take for the address of a host whose own is IPv6: it has none that they could reach. */
function ipv4Near(address: Ip): number {
  return isIpv4(address) ? address : 0xc000_0201
}

const BATCH = 50

/**
 * Sends every kind, and legitimate traffic after each: no packet of it can arrive later.
 * @returns how many of each kind have arrived, wherever they could, and the next unused mark
 */
export async function attempt(
  { attacks, controls }: AttackStand,
  listeners: ReadonlyMap<string, Listener>,
  p: { readonly packets: number; readonly first: number }
): Promise<{ readonly arrived: ReadonlyMap<string, number>; readonly next: number }> {
  const arrived = new Map<string, number>()
  let next = p.first
  for (const { sender, attack } of attacks) {
    const id = next++
    for (let n = 0; n < p.packets;) {
      // No more at once: a switch in user space loses what does not fit into its sockets' buffers.
      for (const end = Math.min(n + BATCH, p.packets); n < end; n++)
        for (const frame of attack.frames(mark(id), n)) sender.send(frame)
      next = await settle(controls, listeners, { next, after: attack.kind })
    }
    arrived.set(attack.kind, arrivals(attack, listeners, id))
  }
  return { arrived, next }
}

/** How many frames of an attack have arrived where they must not. */
export function arrivals({ at, but }: Attack, listeners: ReadonlyMap<string, Listener>, id: number): number {
  const where = [...listeners].filter(([name]) => name !== but && (at === undefined || name === at))
  return where.reduce((sum, [, listener]) => sum + listener.count(id), 0)
}

/**
 * Each path keeps its packets in order: once a last legitimate packet of every sender has arrived, no earlier one is still
 * in flight.
 * @returns the next unused mark
 */
export async function settle(
  controls: readonly Control[],
  listeners: ReadonlyMap<string, Listener>,
  p: { readonly next: number; readonly after: string }
): Promise<number> {
  let id = p.next
  for (const [i, { name, sender, frames }] of controls.entries()) {
    const own = id++
    for (const frame of frames(mark(own), 0)) sender.send(frame)
    await waitFor(`legitimate traffic ${i} at ${name} after ${p.after}`, () => listeners.get(name)?.count(own) === 1, {
      everyMs: 1
    })
  }
  return id
}
