// The attack matrix over IPv6 by a router: every kind, counted by packet sockets wherever it could arrive, with the guards and
// without. A kind that arrives nowhere even without them proves nothing. What leaves by NAT66 must arrive in each run.

import t from 'tap'
import { formatIp, parsePrefix } from '#model/ip.ts'
import { parseIpv6 } from '#model/ipv6.ts'
import { macOf, parseMac } from '#model/mac.ts'
import { addressesOf } from '#model/addresses.ts'
import type { Network } from '#model/network.ts'
import { bridgeMac } from '#overlay/plan/network/names.ts'
import { ip, json } from '../lab/kernel.ts'
import { SERVER_V6 } from '../lab/outside.ts'
import { ordinary6, type Party6 } from '../lab/packets/craft6.ts'
import { addressBytes } from '../lab/packets/frames6.ts'
import { Listener, Sender } from '../lab/packets/raw-socket.ts'
import { egress6, routerAttacks6, type RouterPlace6 } from '../lab/packets/router-attacks6.ts'
import { attempt, HOST_PORT, type AttackStand } from '../lab/packets/stand.ts'
import { cannotRun } from '../lab/requirements.ts'
import { makeNetwork } from '../overlay/fixtures.ts'
import type { Attached, GatewayLab } from './gateway-lab.ts'
import { settled } from './gateway-lab.ts'
import { dual, openV6 } from './gateway-v6-lab.ts'

const PACKETS = 200
/** Kinds that arrive without a guard: fewer would mean that the test's own packets are wrong. */
const EFFECTIVE_MIN = 55
const PORT = 4_789
const inner = makeNetwork('inner', 0x321, { subnet6: parsePrefix('fd00:9::/64') })
const bytes = (text: string): Buffer => addressBytes(parseIpv6(text))

t.test(
  'nothing that a container sends to or past its router gets where it must not',
  { skip: cannotRun() },
  async t => {
    const g = await openV6(t, 2, [dual, inner])
    const near = await g.attach(dual, { container: 'near', host: 1, address: '10.1.0.3' })
    const me = await g.attach(dual, { container: 'me', host: 1, address: '10.1.0.2' })
    const i1 = await g.attach(inner, { container: 'i1', host: 1, address: '10.1.0.9' })
    const i2 = await g.attach(inner, { container: 'i2', host: 2, address: '10.1.0.10' })
    const [h1, h2] = [g.lab.host(1), g.lab.host(2)]
    const router = await g.router(dual)
    const link = async (
      namespace: string,
      device = 'eth0'
    ): Promise<{ ifindex: number; mac: string; local: Buffer }> => {
      const [row] = await json<{ ifindex: number; address: string; addr_info: { local: string; scope: string }[] }>(
        'ip',
        namespace,
        `-6 addr show dev ${device}`
      )
      const [holder] = await json<{ address: string }>('ip', namespace, `link show dev ${device}`)
      const local = row?.addr_info.find(({ scope }) => scope === 'link')?.local ?? '::'
      return { ifindex: row?.ifindex ?? 0, mac: holder?.address ?? '', local: bytes(local) }
    }
    const [uplink, own] = [await link(h1.namespace), await link(h1.namespace, 'vo000abc')]
    const place: RouterPlace6 = {
      me: party(me, dual),
      other: party(near, dual),
      gateway: { mac: macOf(dual.vni, dual.gateway), address: bytes('fd00:1::1') },
      bridge: bridgeMac(dual.vni),
      server: bytes(SERVER_V6),
      host: bytes('2001:db8:a::1'),
      member: bytes('2001:db8:a::2'),
      member4: Number(h2.vtep),
      closed: {
        'its host’s uplink': bytes('2001:db8:51::1'),
        'a stranger on the underlay': bytes('2001:db8:a::c8'),
        'its host’s link': uplink.local,
        'its host’s end of its uplink': own.local,
        'the host’s transit address': bytes('fd76:786d:6573:6800::100:0'),
        'its router’s transit address': bytes('fd76:786d:6573:6800::abc'),
        'the router’s link': bytes('fe80::1'),
        'the router of another network': bytes('fd76:786d:6573:6800::321'),
        'a host by NAT64': bytes('64:ff9b::c000:202'),
        'a host by 6to4': bytes('2002:c000:202::1')
      },
      others: {
        'the gateway of another network': bytes('fd00:9::1'),
        'another network here': bytes('fd00:9::9'),
        'another network there': bytes('fd00:9::a')
      },
      foreign: { vni: inner.vni, victim: party(i1, inner) }
    }
    const senders = new Map<string, Sender>()
    const listeners = new Map<string, Listener>()
    t.teardown(() => [...senders.values(), ...listeners.values()].forEach(socket => socket.close()))
    for (const [name, namespace, device] of [
      ['near', near.container.namespace, 'eth0'],
      ['i1', i1.container.namespace, 'eth0'],
      ['i2', i2.container.namespace, 'eth0'],
      ['member', h2.namespace, 'eth0'],
      ['underlay', g.lab.underlay, 'br0'],
      ['outside', g.outside.namespace, 'br0']
    ] as const)
      listeners.set(name, Listener.frames(`/run/netns/${namespace}`, (await link(namespace, device)).ifindex))
    listeners.set('host', Listener.datagrams(h1.netns, HOST_PORT, 'ipv6'))
    listeners.set('router', Listener.datagrams(`/run/netns/${router}`, HOST_PORT, 'ipv6'))
    const sender = async (name: string, namespace: string): Promise<Sender> => {
      const made = new Sender(`/run/netns/${namespace}`, (await link(namespace)).ifindex)
      senders.set(name, made)
      return made
    }
    const [mine, theirs, members] = [
      await sender('me', me.container.namespace),
      await sender('i1', i1.container.namespace),
      await sender('h2', h2.namespace)
    ]
    const toHost = { mac: parseMac(uplink.mac), address: place.host }
    const member = { mac: parseMac((await link(h2.namespace)).mac), address: place.member }
    const stand: AttackStand = {
      attacks: routerAttacks6(place).map(attack => ({ sender: mine, attack })),
      controls: [
        { name: 'outside', sender: mine, frames: egress6(place) },
        { name: 'near', sender: mine, frames: ordinary6(place.me, place.other) },
        { name: 'i2', sender: theirs, frames: ordinary6(party(i1, inner), party(i2, inner)) },
        { name: 'host', sender: members, frames: ordinary6(member, toHost, HOST_PORT) }
      ]
    }
    const knows = (): Promise<string> => known(g, router)
    let first = 1
    const run = async (): Promise<ReadonlyMap<string, number>> => {
      const { arrived, next } = await attempt(stand, listeners, { packets: PACKETS, first })
      first = next
      return arrived
    }
    const before = await knows()
    const rules = { [h1.namespace]: 'vxmesh_nat6', [router]: 'vxmesh_router6' }
    for (const [namespace, table] of Object.entries(rules))
      for (const chain of ['input', 'forward'])
        await g.exec(namespace, 'nft', 'insert', 'rule', 'inet', table, chain, 'accept')
    const open = await run()
    t.not(await knows(), before, 'without guards the router believes what it is told')
    for (const driver of g.drivers) await driver.setGuard(PORT)
    for (const host of [1, 2]) await g.pass(host)
    await ip(router, '-6 neigh flush dev inside')
    await ip(router, '-6 route flush cache')
    await ip(h1.namespace, '-6 route flush cache')
    const guarded = await run()
    t.equal(await knows(), before, 'with them it does not')
    await settled(t, g)

    t.comment(`${PACKETS} attempts each; arrived without the guards and with them:`)
    for (const [kind, count] of open) t.comment(`${kind.padEnd(66)} ${String(count).padStart(6)} ${guarded.get(kind)}`)
    const effective = [...open.values()].filter(count => count > 0).length
    t.ok(effective >= EFFECTIVE_MIN, `${effective} of ${open.size} kinds arrive without guards`)
    const leaked = [...guarded].filter(([, count]) => count > 0)
    t.strictSame(leaked, [], `0 packets of ${guarded.size} kinds arrive`)
  }
)

function party({ endpoint }: Attached, network: Network): Party6 {
  const [, second = endpoint.address] = addressesOf(network, endpoint)
  return { mac: endpoint.mac, address: bytes(formatIp(second)) }
}

/** The routes, paths and wrong neighbours of a router, and its host's path to another. */
async function known(g: GatewayLab, router: string): Promise<string> {
  const rows = await json<{ dst: string; lladdr?: string }>('ip', router, '-6 neigh show dev inside')
  const right = new Map(
    g.endpoints.map(endpoint => [formatIp(addressesOf(dual, endpoint)[1] ?? endpoint.address), endpoint.mac])
  )
  const macs = rows
    .filter(({ dst, lladdr }) => lladdr !== undefined && right.get(dst) !== lladdr)
    .map(row => `${row.dst} at ${row.lladdr}`)
  const routes = (await ip(router, '-6 route show')).replaceAll(/ expires \S+/g, '')
  const paths = [...(await ip(router, '-6 route show cache')).matchAll(/^\S+.* mtu \d+/gm)].map(([line]) => line)
  const host = await ip(g.hostName(1), '-6 route get 2001:db8:a::2')
  return [routes, ...macs.sort(), ...paths, host].join('\n')
}
