// Generated policies, endpoints and packets. There are few labels, prefixes and ports, so that rules overlap; packets are about
// addresses and ports at the edges of what rules name.

import fc from 'fast-check'
import { parseContainerId, parseIfName, parseNetworkName, parsePolicyName } from '#model/ids.ts'
import { endpointKey } from '#model/endpoint.ts'
import { parseIp, parsePrefix, type Ip, type Subnet } from '#model/ip.ts'
import type { Labels } from '#model/labels.ts'
import {
  checkCidr,
  closedBy,
  DIRECTIONS,
  LAST_PORT,
  POLICY_PROTOCOLS,
  type Peer,
  type Policy,
  type PolicyRule,
  type PortRange
} from '#model/policy.ts'
import type { Requirement } from '#model/requirement.ts'
import type { PolicyEndpoint } from '#overlay/plan/policy/compiled.ts'
import type { End, Packet } from '#overlay/plan/policy/evaluate.ts'
import type { Network } from './reference.ts'

const KEYS = ['app', 'tier', 'canary']
const VALUES = ['', 'a', 'b']
/** Each lies in those before it, family by family; the last ones beside each other. */
const PREFIXES = [
  ...['0.0.0.0/0', '10.0.0.0/8', '10.1.0.0/16', '10.1.0.0/30', '10.1.0.2/32', '10.1.0.4/30', '192.0.2.0/24'],
  ...['::/0', 'fd00::/8', 'fd00:1::/64', 'fd00:1::/126', 'fd00:1::2/128', 'fd00:1::4/126', '2001:db8::/32']
].map(text => parsePrefix(text))
const STRANGERS = [
  '10.1.0.250',
  '10.9.9.9',
  '192.0.2.7',
  '8.8.8.8',
  'fd00:1::fa',
  'fd00:9::9',
  '2001:db8::7',
  '2606::1'
]
/** One to six. */
const HOSTS = [1, 2, 3, 4, 5, 6]

const labels: fc.Arbitrary<Labels> = fc.dictionary(fc.constantFrom(...KEYS), fc.constantFrom(...VALUES), { maxKeys: 3 })

const requirement: fc.Arbitrary<Requirement> = fc
  .record({ key: fc.constantFrom(...KEYS), value: fc.option(fc.constantFrom(...VALUES)), not: fc.nat({ max: 3 }) })
  .map(({ key, value, not }) => ({ key, ...(value === null ? {} : { value }), ...(not === 0 ? { not: true } : {}) }))

const requirements = fc.array(requirement, { maxLength: 2 })

const peer: fc.Arbitrary<Peer> = fc.oneof(
  requirements.map(select => ({ select })),
  fc.constantFrom(...PREFIXES).chain(cidr => {
    const inside = PREFIXES.filter(each => isStrictlyIn(each, cidr))
    return fc.subarray(inside, { maxLength: Math.min(2, inside.length) }).map(except => ({ cidr, except }))
  })
)

const portRange: fc.Arbitrary<PortRange> = fc.constantFrom(...POLICY_PROTOCOLS).chain(protocol => {
  const last = LAST_PORT[protocol]
  const port = fc.oneof(fc.constantFrom(0, 1, 8, 80, 128, 255, last), fc.nat({ max: last }))
  const range = fc.tuple(port, port).map(([a, b]) => ({ protocol, first: Math.min(a, b), last: Math.max(a, b) }))
  return fc.oneof(
    range,
    port.map(one => ({ protocol, first: one, last: one })),
    fc.constant({ protocol, first: 0, last })
  )
})

const rule: fc.Arbitrary<PolicyRule> = fc.record({
  direction: fc.constantFrom(...DIRECTIONS),
  action: fc.constantFrom('allow', 'allow', 'deny'),
  priority: fc.constantFrom(0, 0, 1, 1_000),
  peers: fc.array(peer, { maxLength: 3 }),
  ports: fc.array(portRange, { maxLength: 3 })
})

const policies: fc.Arbitrary<readonly Policy[]> = fc
  .array(
    fc.record({
      select: requirements,
      closes: fc.option(fc.subarray([...DIRECTIONS])),
      rules: fc.array(rule, { maxLength: 4 })
    }),
    { minLength: 1, maxLength: 4 }
  )
  .map(all =>
    all.map(({ select, closes, rules }, at) => ({
      network: parseNetworkName('red'),
      name: parsePolicyName(`p${at}`),
      ...{ select, closes: closes ?? closedBy(rules), rules }
    }))
  )

const endpoints: fc.Arbitrary<readonly PolicyEndpoint[]> = fc
  .array(labels, { minLength: 2, maxLength: HOSTS.length })
  .map(all => all.map((each, at) => endpoint(HOSTS[at] ?? 0, each)))

export const network: fc.Arbitrary<Network> = fc.record({ policies, endpoints })

/** So many packets of one family each, about the network's endpoints and strangers. */
export function packets({ policies: all, endpoints: some }: Network, count: number): fc.Arbitrary<Packet[]> {
  const ranges = all.flatMap(({ rules }) => rules.flatMap(({ ports }) => ports))
  const edges = ranges.flatMap(({ protocol, first, last }) =>
    [first - 1, first, last, last + 1]
      .filter(port => port >= 0 && port <= LAST_PORT[protocol])
      .map(port => ({ protocol, port }))
  )
  const plain = fc.constantFrom(...POLICY_PROTOCOLS).chain(protocol => {
    return fc.nat({ max: LAST_PORT[protocol] }).map(port => ({ protocol, port }))
  })
  const what = fc.oneof(
    ...(edges.length === 0 ? [] : [{ weight: 4, arbitrary: fc.constantFrom(...edges) }]),
    { weight: 2, arbitrary: plain },
    { weight: 1, arbitrary: fc.constant({ protocol: null, port: 0 }) }
  )
  const packet = fc.boolean().chain(isV4 => {
    const own = some.map(({ key, addresses }) => ({ key, address: familyOf(addresses, isV4) }))
    const others = STRANGERS.map(text => parseIp(text)).filter(address => (typeof address === 'number') === isV4)
    const ends: readonly End[] = [...own, ...own, ...others.map(address => ({ key: null, address }))]
    return fc
      .record({ from: fc.constantFrom(...ends), to: fc.constantFrom(...ends), what })
      .map(({ from, to, what: { protocol, port } }) => ({ from, to, protocol, port }))
  })
  return fc.array(packet, { minLength: count, maxLength: count })
}

/** Number n has 10.1.0.n and fd00:1::n. */
export function endpoint(n: number, own: Labels): PolicyEndpoint {
  return {
    key: endpointKey(parseContainerId(`c${n}`), parseIfName('eth0')),
    labels: own,
    addresses: [parseIp(`10.1.0.${n}`), parseIp(`fd00:1::${n.toString(16)}`)]
  }
}

function familyOf(addresses: readonly Ip[], isV4: boolean): Ip {
  const found = addresses.find(address => (typeof address === 'number') === isV4)
  if (found === undefined) throw new Error('an endpoint of one family')
  return found
}

function isStrictlyIn(inner: Subnet, outer: Subnet): boolean {
  try {
    checkCidr({ cidr: outer, except: [inner] }, 'except')
    return true
  } catch {
    return false
  }
}
