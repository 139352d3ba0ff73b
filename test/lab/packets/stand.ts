// Who attacks whom in the attack matrix, and the ordinary traffic beside it: one container of red forges; others of red and
// of blue are on its own host and on another; a third host belongs to nobody.

import { bridgeMac } from '#overlay/plan/network/names.ts'
import type { Vni } from '#model/ids.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import type { Mac } from '#model/mac.ts'
import { waitFor } from '../wait.ts'
import { containerAttacks, ordinary, underlayAttacks, type Attack, type Party } from './attacks.ts'
import { mark } from './frames.ts'
import type { Listener, Sender } from './raw-socket.ts'

/** Where a host listens for what containers send it. */
export const HOST_PORT = 9_999

/** A host's place on the underlay, and what sends there. */
export type Wire = { readonly sender: Sender; readonly mac: Mac; readonly address: Ipv4 }

export type Control = { readonly name: string; readonly sender: Sender; readonly frames: Attack['frames'] }

export type AttackStand = {
  /** Whose frames, sent where. */
  readonly attacks: readonly { readonly sender: Sender; readonly attack: Attack }[]
  readonly controls: readonly Control[]
}

/** Parties and senders are asked for by name: `me`, `near` and `tenant` on the host, `far` and `far-tenant` on the member. */
export function attackStand(p: {
  readonly party: (name: string) => Party
  readonly sender: (name: string) => Sender
  readonly host: Omit<Wire, 'sender'>
  readonly member: Wire
  readonly stranger: Wire
  readonly port: number
  readonly red: { readonly vni: Vni; readonly gateway: Ipv4 }
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
    gateway: red.gateway,
    bridge: bridgeMac(red.vni),
    host: { mac: host.mac, address: host.address, port: HOST_PORT },
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

/**
 * Packets keep their order on each way: once a last ordinary one of every sender has come, all others have or never will.
 * @returns the first number for a mark that is still free
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
    await waitFor(`ordinary traffic ${i} at ${name} after ${p.after}`, () => listeners.get(name)?.count(own) === 1, {
      everyMs: 1
    })
  }
  return id
}
