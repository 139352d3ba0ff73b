// The kinds of frames that a container, and a stranger on the underlay, may send: one row each, counted by packet sockets
// wherever it could arrive. guard-attacks.test.ts shows which of them arrive without a guard.

import { parseIpv4 } from '#model/ipv4.ts'
import { parseVni, type Vni } from '#model/ids.ts'
import { ip } from '../lab/kernel.ts'
import { JUMBO_MTU } from '../lab/packets/attacks.ts'
import { mark } from '../lab/packets/frames.ts'
import { Listener, Sender } from '../lab/packets/raw-socket.ts'
import { arrivals, attackStand, HOST_PORT, settle, type AttackStand } from '../lab/packets/stand.ts'
import type { Outcome, Row } from './row.ts'
import { linkOf, partyOf } from './senders.ts'
import type { Name, World } from './world.ts'

const PORT = 4_789
const FRAMES = 20
/** Beyond those that other rows use. */
const FIRST_MARK = 1_000
const PARTIES = ['me', 'near', 'far', 'tenant', 'far-tenant'] as const

/** A row for each kind, and what closes their sockets. */
export async function kindsOf(world: World): Promise<{ rows: readonly Row<World>[]; close: () => void }> {
  const { stand, listeners, close } = await open(world)
  const named = (kind: string): string => (kind.includes(':') ? kind : `container: ${kind}`)
  return { rows: rowsOf(stand, { listeners, first: FIRST_MARK, from: 'me', named }), close }
}

/** @param p.first a mark beyond those that other rows use @param p.from the container that forges frames */
export function rowsOf(
  stand: AttackStand,
  p: {
    readonly listeners: ReadonlyMap<string, Listener>
    readonly first: number
    readonly from: Name
    readonly named: (kind: string) => string
  }
): readonly Row<World>[] {
  const { controls } = stand
  let next = p.first
  return stand.attacks.map(({ sender, attack }) => ({
    name: p.named(attack.kind),
    run: async (world: World): Promise<Outcome> => {
      const id = next++
      // Each time, because an agent that starts sets the MTU of its containers.
      await ip(world.container(p.from).namespace, `link set eth0 mtu ${JUMBO_MTU}`)
      for (let n = 0; n < FRAMES; n++) for (const frame of attack.frames(mark(id), n)) sender.send(frame)
      next = await settle(controls, p.listeners, { next, after: attack.kind })
      const arrived = arrivals(attack, p.listeners, id)
      return {
        control: { ok: true, figure: `${controls.length} of ${controls.length} legitimate arrive after it` },
        attack: { ok: arrived === 0, figure: `${arrived} of ${FRAMES} arrive` }
      }
    }
  }))
}

async function open(
  world: World
): Promise<{ stand: AttackStand; listeners: ReadonlyMap<string, Listener>; close: () => void }> {
  const [h1, h2] = [world.host(1), world.host(2)]
  const senders = new Map<string, Sender>()
  const listeners = new Map<string, Listener>()
  for (const name of PARTIES) {
    const { netns } = world.container(name)
    const { ifindex } = await linkOf(world.container(name))
    senders.set(name, new Sender(netns, ifindex))
    if (name !== 'me') listeners.set(name, Listener.frames(netns, ifindex))
  }
  listeners.set('host', Listener.datagrams(h1.netns, HOST_PORT))
  const [host, l2, l3] = [await linkOf(h1), await linkOf(h2), await linkOf(world.stranger)]
  const member = new Sender(h2.netns, l2.ifindex)
  const stranger = new Sender(world.stranger.netns, l3.ifindex)
  const vniOf = (name: 'me' | 'tenant'): Vni => parseVni(world.endpoint(name).vni)
  const stand = attackStand({
    party: name => partyOf(world, PARTIES.find(party => party === name) ?? 'me'),
    sender: name => senders.get(name) ?? member,
    host: { mac: host.mac, address: h1.vtep },
    member: { sender: member, mac: l2.mac, address: h2.vtep },
    stranger: { sender: stranger, mac: l3.mac, address: world.stranger.vtep },
    port: PORT,
    red: { vni: vniOf('me'), gateway: parseIpv4(world.endpoint('me').gateway) },
    blue: { vni: vniOf('tenant') }
  })
  const close = (): void => [...senders.values(), ...listeners.values(), member, stranger].forEach(one => one.close())
  return { stand, listeners, close }
}
