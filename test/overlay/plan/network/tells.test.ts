// What MACs tell and what is noted, together, are all neighbours of a network, whatever its endpoints asked for.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { addressesOf, gatewayMacOf, gatewaysOf } from '#model/addresses.ts'
import type { Endpoint } from '#model/endpoint.ts'
import { addressAt, hostBits, isIpv4, parseIp, parseSubnet, type Ip } from '#model/ip.ts'
import { ipv6OfNumber, numberOfIpv6, type Ipv6 } from '#model/ipv6.ts'
import { macBeyondPool, macOf, parseMac, type Mac } from '#model/mac.ts'
import type { Network } from '#model/network.ts'
import { desired, type DesiredNetwork } from '#overlay/plan/network/desired.ts'
import { Telling, toldSubnet } from '#overlay/plan/network/tells.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../../fixtures.ts'

const VNI = 0xabc3
const POOL = 2 ** 24

/** By what they have: subnets, their gateway, and whether they were of IPv6 alone. */
const KINDS: readonly (readonly [subnets: string, gateway: string, change?: Partial<Network>])[] = [
  ['10.1.0.0/16', '10.1.0.1'],
  ['10.0.0.0/8', '10.0.0.1', { egress: false }],
  ['192.168.255.252/30', '192.168.255.253'],
  ['fd00:1::/64', 'fd00:1::1'],
  ['fd00:1::/48', 'fd00:1::1', { egress: false }],
  ['fd00:1::ab:0/112', 'fd00:1::ab:1'],
  ['fd00:1::ffff:ffe0/123', 'fd00:1::ffff:ffe1'],
  ['10.1.0.0/16 fd00:1::/64', '10.1.0.1'],
  ['10.1.0.0/24 fd00:1::5500/120', '10.1.0.1'],
  ['10.1.0.0/24 fd00:1::ffff:ff00/120', '10.1.0.1', { egress: false }],
  ['10.1.0.0/16 fd00:1::/64', '10.1.0.1', { wasIpv6: true }]
]

function networkOf([subnets, gateway, change]: (typeof KINDS)[number]): Network {
  const [subnet, subnet6] = subnets.split(' ').map(text => parseSubnet(text))
  assert(subnet !== undefined)
  const both = subnet6 === undefined ? { subnet } : { subnet, subnet6 }
  return makeNetwork('n', VNI, { ...both, gateway: parseIp(gateway), ...change })
}

/** As the allocator derives it. */
function derivedFor({ vni, subnet }: Network, address: Ip, offset: number): Mac {
  return isIpv4(subnet.base) || offset < POOL ? macOf(vni, address) : macBeyondPool(address as Ipv6)
}

type Asked = {
  readonly at: number
  readonly host: number
  readonly mac: 'nothing' | 'free' | 'of another' | 'of another network'
  readonly other: number
  /** Another IPv6 address than the mirror, so far into its subnet. */
  readonly address6: number | null
}

// Few, so that a MAC that was asked for is often that of another's address; and those at and beyond the pool's end.
const offset = fc.oneof(
  fc.integer({ min: 2, max: 12 }),
  fc.constantFrom(255, 256, 65_535, POOL - 1, POOL, POOL + 5, 2 ** 33)
)
const asked: fc.Arbitrary<Asked> = fc.record({
  at: offset,
  host: fc.constantFrom(1, 2, 3),
  mac: fc.constantFrom('nothing', 'nothing', 'free', 'of another', 'of another', 'of another network'),
  other: offset,
  address6: fc.option(offset)
})

/** Those of the endpoints that can be together: no address and no MAC twice, nor the gateway's. */
function endpointsOf(network: Network, all: readonly Asked[]): readonly Endpoint[] {
  const { subnet, subnet6, vni } = network
  const taken = new Set<unknown>([...gatewaysOf(network), gatewayMacOf(network)])
  const within = (at: number): number => at % 2 ** hostBits(subnet)
  return all.flatMap(({ at, host, mac: kind, other, address6: at6 }, i) => {
    // A row from before its network got its IPv4 subnet has the other address.
    const isOld = network.wasIpv6 === true && at % 2 === 0
    const address = addressAt(isOld ? (subnet6 ?? subnet) : subnet, within(at))
    const macs: Readonly<Record<Asked['mac'], Mac>> = {
      nothing: derivedFor(network, address, within(at)),
      free: parseMac(`0e:00:00:00:00:${(16 + i).toString(16)}`),
      'of another': macOf(vni, addressAt(subnet, within(other))),
      'of another network': macOf(makeNetwork('other', VNI + 1).vni, address)
    }
    const made = {
      ...makeEndpoint(network, { container: `c${i}`, host, address: '10.1.0.2' }),
      address,
      mac: macs[kind]
    }
    const asks6 = subnet6 !== undefined && at6 !== null && !isOld
    const endpoint = asks6 ? { ...made, address6: addressAt(subnet6, at6 % 2 ** hostBits(subnet6)) as Ipv6 } : made
    const owned = [...addressesOf(network, endpoint), endpoint.mac]
    if (owned.some(each => taken.has(each))) return []
    owned.forEach(each => taken.add(each))
    return [endpoint]
  })
}

function wanted(network: Network, endpoints: readonly Endpoint[]): DesiredNetwork | undefined {
  const hosts = [1, 2, 3].map(index => makeHost(index))
  return desired({
    ...{ self: peer(1), selfVtep: makeHost(1).vtep, networks: [network], endpoints: byNetwork(endpoints), hosts },
    ...{
      memberStatus: new Map([1, 2, 3].map(index => [peer(index), index === 3 ? ('left' as const) : ('alive' as const)]))
    },
    ...{ overlayMtu: 1450, vxlanPort: 4789 }
  }).networks.get(network.vni)
}

/** What somebody who knows the stations and what they tell can say of addresses: those of the numbers in their MACs. */
function toldIn({ vni, entries, endpoints, tells: { usual, unusual }, told }: DesiredNetwork): ReadonlyMap<Ip, Mac> {
  const all = new Map<Ip, Mac>()
  for (const mac of [...entries.keys(), ...[...endpoints.values()].map(each => each.mac)]) {
    const bits = unusual.get(mac) ?? usual
    if (!mac.startsWith(`02:${(vni & 255).toString(16)}:`)) assert.equal(bits, 0, mac)
    const number = Number.parseInt(mac.slice(6).replaceAll(':', ''), 16)
    if ((bits & 1) !== 0) all.set(number as Ip, mac)
    if ((bits & 2) === 0) continue
    assert(
      told !== null && number >= told.first && number < told.first + told.count,
      'within what the programs compute'
    )
    all.set(ipv6OfNumber(numberOfIpv6(told.subnet.base as Ipv6) + BigInt(number - told.first)), mac)
  }
  return all
}

for (const kind of KINDS) {
  t.test(
    `noted and told addresses are all neighbours: ${kind[0]}${kind[2]?.wasIpv6 === true ? ', later' : ''}`,
    async t => {
      const network = networkOf(kind)
      const counts = { told: 0, noted: 0, moved: 0 }
      fc.assert(
        fc.property(fc.array(asked, { minLength: 1, maxLength: 10 }), all => {
          const endpoints = endpointsOf(network, all)
          const want = wanted(network, endpoints)
          if (want === undefined) return
          const here = endpoints.filter(({ host }) => host !== peer(3))
          const everyone = new Map<Ip, Mac>(here.flatMap(e => addressesOf(network, e).map(address => [address, e.mac])))
          if (network.egress) for (const gateway of gatewaysOf(network)) everyone.set(gateway, gatewayMacOf(network))
          assert.deepEqual(want.neighbours, everyone)
          assert.equal(want.neighbours, want.neighbours, 'it is made once')
          const told = toldIn(want)
          for (const address of told.keys()) assert(!want.noted.has(address), 'nothing is noted that is told')
          assert.deepEqual(new Map([...told, ...want.noted].sort()), new Map([...everyone].sort()))
          counts.told += told.size
          counts.noted += want.noted.size
          counts.moved += here.filter(({ mac }) => mac.startsWith('02:c3:') && want.tells.unusual.has(mac)).length
        }),
        { numRuns: 500 }
      )
      for (const [what, count] of Object.entries(counts))
        t.ok(count > (hostBits(network.subnet) > 2 ? 100 : 20), `${what}: ${count}`)
    }
  )
}

t.test(
  'an endpoint that asked for nothing tells its addresses, one that asked for a MAC or an address does not',
  async t => {
    const both = networkOf(['10.1.0.0/24 fd00:1::5500/120', '10.1.0.1'])
    const [four, six] = [networkOf(['10.1.0.0/24', '10.1.0.1']), networkOf(['fd00:1::/64', 'fd00:1::1'])]
    const of = (network: Network, address: string, change: Partial<Endpoint> = {}): number =>
      new Telling(network).of({ ...makeEndpoint(network, { container: 'c', host: 1, address }), ...change })
    const other = macOf(both.vni, parseIp('10.1.0.9'))
    t.same([of(four, '10.1.0.5'), of(six, 'fd00:1::5'), of(both, '10.1.0.5')], [1, 2, 3])
    t.same(
      [four, six, both].map(network => new Telling(network).usual),
      [1, 2, 3]
    )
    t.same([of(four, '10.1.0.5', { mac: other }), of(both, '10.1.0.5', { mac: other })], [0, 0])
    t.equal(of(both, '10.1.0.5', { address6: parseIp('fd00:1::5599') as Ipv6 }), 1, 'IPv4 alone')
    t.equal(of(both, '10.1.0.5', { address6: parseIp('fd00:1::5505') as Ipv6 }), 3, 'the mirror, asked for')
    t.equal(of(both, '10.1.0.5', { address6: parseIp('fd00:1::5509') as Ipv6, mac: other }), 2, 'that of its MAC')
    t.equal(of(six, 'fd00:1::100:0', { mac: macOf(six.vni, parseIp('fd00:1::100:0')) }), 0, 'beyond the pool')
    t.equal(of(six, 'fd00:1::ff:ffff'), 2, 'the last one of the pool')
    t.same(
      [four, six, both].map(network => toldSubnet(network)),
      [null, { subnet: six.subnet, first: 0, count: POOL }, { subnet: both.subnet6, first: 0x0a010000, count: 256 }]
    )
    t.equal(toldSubnet(networkOf(['fd00:1::ab:0/112', 'fd00:1::ab:1']))?.first, 0xab0000)
  }
)
