// The kinds of IPv6 packets that a container may send in a network of both families and in one of IPv6 alone, to its neighbours
// and by its router: one row each. guard-attacks6.test.ts and router-attacks6.test.ts show which arrive without guards.

import { addressesOf } from '#model/addresses.ts'
import { formatIp, isIpv4, parseIp, parseSubnet } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { parseIpv6 } from '#model/ipv6.ts'
import { macOf, parseMac } from '#model/mac.ts'
import { parseVni, type Vni } from '#model/ids.ts'
import { parseRouterName, TRANSIT_V6 } from '#overlay/plan/gateway/desired-gateway.ts'
import { bridgeMac } from '#overlay/plan/network/names.ts'
import { json } from '../lab/kernel.ts'
import { SERVER_V6 } from '../lab/outside.ts'
import { ordinary6, type Party6, type Target } from '../lab/packets/craft6.ts'
import { addressBytes } from '../lab/packets/frames6.ts'
import { Listener, Sender } from '../lab/packets/raw-socket.ts'
import { egress6, routerAttacks6, type RouterPlace6 } from '../lab/packets/router-attacks6.ts'
import { HOST_PORT, type AttackStand, type Control } from '../lab/packets/stand.ts'
import { attackStand6, type Name6 } from '../lab/packets/stand6.ts'
import { routers } from './floods.ts'
import { rowsOf } from './kinds.ts'
import type { Row } from './row.ts'
import { linkOf } from './senders.ts'
import { IPV6 } from './side.ts'
import { found, type Name, type World } from './world.ts'

/** Beyond those of the kinds of IPv4; each stand has as many. */
const [FIRST_MARK, MARKS] = [10_000, 10_000]

/** Who plays the parties of attackStand6, by the network that is attacked from. */
const CASTS: Readonly<Record<'dual' | 'six', Readonly<Record<Name6, Name>>>> = {
  dual: {
    me: 'me6',
    near: 'near6',
    far: 'far6',
    tenant: 'tenant6',
    'far-tenant': 'far-tenant6',
    plain: 'me',
    'far-plain': 'far',
    six: 'six',
    'far-six': 'far-six'
  },
  six: {
    me: 'six',
    near: 'near-six',
    far: 'far-six',
    tenant: 'tenant6',
    'far-tenant': 'far-tenant6',
    plain: 'me',
    'far-plain': 'far',
    six: 'near-six',
    'far-six': 'far-six'
  }
}
/** Of another network, on the first host and on the second. */
const OTHERS = { dual: ['probed6', 'far-six'], six: ['probed6', 'far6'] } as const
const SUBNET6 = parseSubnet('fd00:1::/64')
const bytes = (text: string): Buffer => addressBytes(parseIpv6(text))

export async function kinds6Of(world: World): Promise<{ rows: readonly Row<World>[]; close: () => void }> {
  const sockets = new Sockets(world)
  const rows: Row<World>[] = []
  let first = FIRST_MARK
  for (const network of ['dual', 'six'] as const) {
    const from = CASTS[network].me
    const near = await neighbours(world, sockets, network)
    rows.push(...rowsOf(near.stand, { ...near, from, first, named: kind => `${network}: ${kind}` }))
    const routed = await byRouter(world, sockets, network)
    rows.push(
      ...rowsOf(routed.stand, { ...routed, from, first: first + MARKS, named: kind => `${network}: 6: ${kind}` })
    )
    first += 2 * MARKS
  }
  return { rows, close: () => sockets.close() }
}

type Stand = { readonly stand: AttackStand; readonly listeners: ReadonlyMap<string, Listener> }

/** One of each, however many stands use it. */
class Sockets {
  readonly #world: World
  readonly #senders = new Map<string, Sender>()
  readonly #listeners = new Map<string, Listener>()

  constructor(world: World) {
    this.#world = world
  }

  async sender(name: Name): Promise<Sender> {
    return this.senderOf(this.#world.container(name))
  }

  async senderOf(where: { readonly netns: string; readonly namespace: string }): Promise<Sender> {
    const { ifindex } = await linkOf(where)
    return made(this.#senders, where.netns, () => new Sender(where.netns, ifindex))
  }

  async frames(name: Name): Promise<Listener> {
    return this.framesOf(this.#world.container(name))
  }

  async framesOf(where: { readonly netns: string; readonly namespace: string }, device = 'eth0'): Promise<Listener> {
    const { ifindex } = await linkOf(where, device)
    return made(this.#listeners, where.netns, () => Listener.frames(where.netns, ifindex))
  }

  datagrams(netns: string): Listener {
    return made(this.#listeners, `${netns} datagrams`, () => Listener.datagrams(netns, HOST_PORT, 'ipv6'))
  }

  close(): void {
    for (const socket of [...this.#senders.values(), ...this.#listeners.values()]) socket.close()
  }
}

function made<T>(all: Map<string, T>, key: string, make: () => T): T {
  const known = all.get(key) ?? make()
  all.set(key, known)
  return known
}

/** What a container sends to its network, and to its bridge. */
async function neighbours(world: World, sockets: Sockets, network: 'dual' | 'six'): Promise<Stand> {
  const cast = CASTS[network]
  const names = Object.keys(cast) as Name6[]
  const senders = new Map<Name6, Sender>()
  const listeners = new Map<string, Listener>([['host', sockets.datagrams(world.host(1).netns)]])
  for (const name of names) {
    senders.set(name, await sockets.sender(cast[name]))
    if (!['me', 'plain', 'six'].includes(name)) listeners.set(name, await sockets.frames(cast[name]))
  }
  const stand = attackStand6({
    party: name => partyOf(world, cast[name]),
    sender: name => found(senders.get(name), name),
    gateway: gatewayOf(world, cast.me),
    bridge: bridgeMac(vniOf(world, cast.me)),
    host: parseIpv6(IPV6.host(world, 1)),
    foreignVni: vniOf(world, cast.tenant)
  })
  // Those of IPv4 alone, and against IPv4, are the same with either cast.
  const attacks = stand.attacks.filter(({ attack }) => network === 'dual' || attack.kind.startsWith('6: '))
  return { stand: { ...stand, attacks }, listeners }
}

/** What it sends to its router, and past it. */
async function byRouter(world: World, sockets: Sockets, network: 'dual' | 'six'): Promise<Stand> {
  const { me, near } = CASTS[network]
  const [h1, h2] = [world.host(1), world.host(2)]
  const [here, there] = OTHERS[network]
  const vni = vniOf(world, me)
  const router = found(
    (await routers(h1)).find(name => parseRouterName(name) === vni),
    `router of ${network}`
  )
  const own = `vo${vni.toString(16).padStart(6, '0')}`
  const transit = (of: Vni): Buffer => {
    const address = Buffer.from(bytes(TRANSIT_V6.base))
    address.writeUInt32BE(of, 12)
    return address
  }
  const place: RouterPlace6 = {
    me: partyOf(world, me),
    other: partyOf(world, near),
    gateway: gatewayOf(world, me),
    bridge: bridgeMac(vni),
    server: bytes(SERVER_V6),
    host: bytes(IPV6.host(world, 1)),
    member: bytes(IPV6.host(world, 2)),
    member4: parseIpv4('192.0.2.2'),
    closed: {
      'its host’s uplink': bytes('2001:db8:51::1'),
      'a stranger on the underlay': bytes(IPV6.host(world, 6)),
      'its host’s link': await linkLocalOf(h1, 'eth0'),
      'its host’s end of its uplink': await linkLocalOf(h1, own),
      'the host’s transit address': bytes('fd76:786d:6573:6800::100:0'),
      'its router’s transit address': transit(vni),
      'the router’s link': bytes('fe80::1'),
      'the router of another network': transit(vniOf(world, here)),
      // Hosts of an underlay of IPv6 have no address that could be translated.
      ...(isIpv4(h2.vtep)
        ? { 'a host by NAT64': bytes('64:ff9b::c000:202'), 'a host by 6to4': bytes('2002:c000:202::1') }
        : {})
    },
    others: {
      'the gateway of another network': bytes(world.gateway6(here)),
      'another network here': bytes(world.address6(here)),
      'another network there': bytes(world.address6(there))
    },
    foreign: { vni: vniOf(world, 'tenant6'), victim: partyOf(world, 'tenant6') }
  }
  const listeners = new Map<string, Listener>([
    ['host', sockets.datagrams(h1.netns)],
    ['router', sockets.datagrams(`/run/netns/${router}`)],
    ['member', await sockets.framesOf(h2)],
    ['stranger', await sockets.framesOf(world.stranger)],
    ['outside', await sockets.framesOf(world.outside, 'br0')]
  ])
  for (const name of [near, here, there, 'tenant6', 'far-tenant6'] as const)
    listeners.set(name, await sockets.frames(name))
  const toHost: Target = { mac: (await linkOf(h1)).mac, address: place.host }
  const fromMember: Target = { mac: (await linkOf(h2)).mac, address: place.member }
  const [sender, tenant, member] = [
    await sockets.sender(me),
    await sockets.sender('tenant6'),
    await sockets.senderOf(h2)
  ]
  const between = (one: Name, other: Name): Control['frames'] => ordinary6(partyOf(world, one), partyOf(world, other))
  return {
    stand: {
      attacks: routerAttacks6(place).map(attack => ({ sender, attack })),
      controls: [
        { name: 'outside', sender, frames: egress6(place) },
        { name: near, sender, frames: between(me, near) },
        { name: 'far-tenant6', sender: tenant, frames: between('tenant6', 'far-tenant6') },
        { name: 'host', sender: member, frames: ordinary6(fromMember, toHost, HOST_PORT) }
      ]
    },
    listeners
  }
}

function vniOf(world: World, name: Name): Vni {
  return parseVni(world.endpoint(name).vni)
}

function gatewayOf(world: World, name: Name): Target {
  const { gateway } = world.endpoint(name)
  return { mac: macOf(vniOf(world, name), parseIp(gateway)), address: bytes(world.gateway6(name)) }
}

/** With the address that its container would have if its network had IPv6, too. */
function partyOf(world: World, name: Name): Party6 {
  const endpoint = world.endpoint(name)
  const mac = parseMac(endpoint.mac)
  const [first = '', second] = endpoint.addresses
  if (first.includes(':')) return { mac, address: bytes(world.address6(name)) }
  const address4 = parseIpv4(world.address(name))
  if (second !== undefined) return { mac, address: bytes(world.address6(name)), address4 }
  const [, mirror] = addressesOf({ subnet: parseSubnet('10.1.0.0/24'), subnet6: SUBNET6 }, { address: address4 })
  return { mac, address: bytes(formatIp(found(mirror, 'mirror'))), address4 }
}

async function linkLocalOf({ namespace }: { readonly namespace: string }, device: string): Promise<Buffer> {
  const [row] = await json<{ addr_info: { local: string; scope: string }[] }>(
    'ip',
    namespace,
    `-6 addr show dev ${device}`
  )
  return bytes(row?.addr_info.find(({ scope }) => scope === 'link')?.local ?? '::')
}
