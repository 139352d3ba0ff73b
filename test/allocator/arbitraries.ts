// Random commands over few names, so that they interact: most are carried out, many are refused.

import fc from 'fast-check'
import { BOTH_FAMILIES, FIRST_RULES, LABELS, RULES, type Command } from '#model/command.ts'
import { VNI_MAX } from '#model/ids.ts'
import { parseLabelChanges, parseLabels } from '#model/labels.ts'
import type { Direction } from '#model/policy.ts'
import {
  addSubnet,
  attach,
  create,
  detach,
  leave,
  map,
  NEW,
  NEWER,
  NEWEST,
  OLD,
  open,
  police,
  register,
  relabel,
  remove,
  removeHost,
  repolice,
  reserve,
  serve,
  unmap,
  unpolice,
  unserve,
  update
} from './fixtures.ts'

export const NETWORKS = ['a', 'b', 'c']
const SUBNETS = ['10.0.0.0/30', '10.0.0.0/29', '10.0.0.8/29', '10.0.0.0/28']
/** Some too small to mirror some of these; the last ones have addresses beyond the pool. */
const SUBNETS6 = ['fd00::/126', 'fd00::8/125', 'fd00::/124', 'fd00::/124', 'fd00::/64', 'fd00::/64']
/** To be added to those of IPv6. */
const WIDE = ['10.0.0.0/27', '10.0.0.0/16', '10.0.0.0/8']
const HOSTS = [1, 2, 3]
const CONTAINERS = ['c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'c7', 'c8', 'c9']

const network = fc.constantFrom(...NETWORKS)
const host = fc.constantFrom(...HOSTS)
const namespace = fc.constantFrom('x', 'y', 'z')
const anyNetwork = fc.constantFrom(...NETWORKS, 'ns-x', 'ns-y')
const container = fc.constantFrom(...CONTAINERS)
const ifname = fc.constantFrom('eth0', 'eth0', 'eth0', 'eth1')
const rate = fc.constantFrom(0, 8_000, 1e9)
const address = fc.nat(17).map(n => `10.0.0.${n}`)
/** Few, the edges of the pool of a /64, and addresses beyond it that have the lowest bits of others in it. */
const address6 = fc.oneof(
  { weight: 4, arbitrary: fc.nat(17).map(n => `fd00::${n.toString(16)}`) },
  { weight: 2, arbitrary: fc.nat(9).map(n => `fd00::1:0:0:${n}`) },
  { weight: 1, arbitrary: fc.constantFrom('fd00::ff:ffff', 'fd00::100:0', 'fd00::ffff:ffff:ffff:ffff', 'fd00:0:0:1::') }
)
/** MACs derived from an address and VNI 4096, 4097 or 512; one of a device; an unused one; that of services. */
const mac = fc.oneof(
  fc.tuple(fc.constantFrom('00', '01'), fc.nat(15)).map(([vni, n]) => `02:${vni}:0a:00:00:0${n.toString(16)}`),
  fc.tuple(fc.constantFrom('00', '01'), fc.nat(15)).map(([vni, n]) => `02:${vni}:00:00:00:0${n.toString(16)}`),
  fc.constantFrom('06:76:78:00:00:01', '02:ee:00:00:00:01', '0e:76:78:00:00:01')
)

const label = fc.constantFrom('app', 'tier', 'example.com/x', '10', '9')
/** As the parser of a command leaves them. */
const labels = fc.dictionary(label, fc.constantFrom('', 'a', 'b')).map(each => parseLabels(each))
/** Rarely so many that an endpoint which has some cannot have them as well. */
const changes = fc.oneof(
  { weight: 5, arbitrary: fc.dictionary(label, fc.constantFrom('', 'a', null)).map(each => parseLabelChanges(each)) },
  {
    weight: 1,
    arbitrary: fc.constant(Object.fromEntries(Array.from({ length: 31 }, (_, n) => [`k${n}`, ''])))
  }
)

/** One time in five. */
function rarely<K extends string, T>(key: K, value: fc.Arbitrary<T>): fc.Arbitrary<Partial<Record<K, T>>> {
  const given = value.map(v => ({ [key]: v }) as unknown as Partial<Record<K, T>>)
  return fc.oneof({ weight: 4, arbitrary: fc.constant({}) }, { weight: 1, arbitrary: given })
}

function merged<A, B, C>(a: fc.Arbitrary<A>, b: fc.Arbitrary<B>, c: fc.Arbitrary<C>): fc.Arbitrary<A & B & C> {
  return fc.tuple(a, b, c).map(([x, y, z]) => ({ ...x, ...y, ...z }))
}

const networkOptions = merged(
  fc.constantFrom(...SUBNETS).map(subnet => ({ subnet })),
  rarely(
    'gateway',
    fc.nat(16).map(n => `10.0.0.${n}`)
  ),
  merged(
    rarely('vni', fc.constantFrom(1, 512, 4_096, 4_097, 4_098, VNI_MAX)),
    rarely('requestId', fc.constantFrom('r1', 'r2')),
    rate.map(egressRate => ({ egressRate }))
  )
)

/** A pair that parse-request.ts lets through: the second has room for the mirrors of the first. */
const PAIRS = SUBNETS.flatMap(subnet =>
  SUBNETS6.filter(subnet6 => 128 - lengthOf(subnet6) >= 32 - lengthOf(subnet)).map(subnet6 => ({ subnet, subnet6 }))
)

const bothOptions = merged(
  fc.oneof(
    { weight: 2, arbitrary: fc.constantFrom(...PAIRS) },
    { weight: 2, arbitrary: fc.constantFrom(...SUBNETS6).map(subnet => ({ subnet })) },
    { weight: 1, arbitrary: fc.constantFrom(...SUBNETS).map(subnet => ({ subnet })) }
  ),
  rarely('gateway', fc.oneof(address, address6)),
  merged(
    rarely('vni', fc.constantFrom(1, 512, 4_096, 4_097)),
    rarely('requestId', fc.constantFrom('r1', 'r2')),
    merged(
      rarely('hostAccess', fc.constant(true)),
      rarely('egressV6', fc.constantFrom('nat' as const, 'routed' as const)),
      fc.constant({})
    )
  )
)

const both6Options = merged(
  fc.record({ ifname, host, rate }),
  rarely('address', fc.oneof(address, address6)),
  merged(
    rarely('address6', address6),
    rarely('mac', mac),
    merged(rarely('requestId', fc.constantFrom('r1', 'r2')), rarely('labels', labels), fc.constant({}))
  )
)

const endpointOptions = merged(
  fc.record({ ifname, host, rate }),
  rarely('address', address),
  merged(rarely('mac', mac), rarely('requestId', fc.constantFrom('r1', 'r2')), fc.constant({}))
)

const hostOptions = fc.record({
  name: fc.constantFrom('h1', 'h2', 'h3'),
  vtep: fc.constantFrom('192.0.2.1', '192.0.2.2', '192.0.2.3'),
  bootId: fc.constantFrom('boot-1', 'boot-2')
})

const seldom = fc.constantFrom(true, false, false, false, false, false)
const version = fc.tuple(seldom, fc.constantFrom(OLD, NEWER, NEWEST)).map(([isOld, old]) => (isOld ? old : NEW))
/** Of the IPv6 underlay. */
const vtep6 = (n: number): string => `fd00:2::${n}`

const serviceName = fc.constantFrom('s1', 's2', 's3')
const select = fc.constantFrom(['app=a'], ['tier'], ['app', 'tier=b'])
const ports = fc.constantFrom(['80'], ['80'], ['80'], ['53/udp', '53/tcp'], [])
/** Some of them of no container. */
const backends = fc.constantFrom(
  [],
  ['10.0.0.3'],
  ['fd00::3', '10.0.0.3'],
  ['10.0.0.2:81'],
  ['10.0.0.1'],
  ['192.0.2.1']
)
/** In the subnets, and outside of them: free, of a host, of no use. */
const wanted = fc.oneof(
  { weight: 4, arbitrary: fc.oneof(address, address6).map(one => [one]) },
  { weight: 2, arbitrary: fc.tuple(address, address6).map(pair => [...pair]) },
  { weight: 1, arbitrary: fc.constantFrom(['198.51.100.1'], ['fd00:7::1'], ['192.0.2.1'], ['fd00:2::1']) }
)
const targets = fc.oneof(
  select.map(terms => ({ select: terms })),
  backends.map(list => ({ backends: list }))
)

const serviceOptions = merged(
  fc.tuple(ports, targets).map(([list, target]) => ({ ports: list, ...target })),
  fc.oneof(
    { weight: 2, arbitrary: fc.constant({}) },
    { weight: 1, arbitrary: wanted.map(addresses => ({ addresses })) }
  ),
  merged(rarely('requestId', fc.constantFrom('r1', 'r2')), rarely('affinity', fc.constantFrom(1, 600)), fc.constant({}))
)

const service: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(network, serviceName, serviceOptions).map(([n, s, p]) => serve(n, s, p)) },
  {
    weight: 1,
    arbitrary: fc.tuple(network, serviceName, targets).map(([n, s, p]) => serve(n, s, { ...p, headless: true }))
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(network, serviceName, merged(rarely('ports', ports), rarely('affinity', fc.nat(9)), targets))
      .map(([n, s, p]) => reserve(n, s, p))
  },
  { weight: 2, arbitrary: fc.tuple(network, serviceName).map(([n, s]) => unserve(n, s)) }
)

const policyName = fc.constantFrom('p1', 'p2')
const policyTexts = merged(
  rarely('select', fc.constantFrom('tier=b', '!app')),
  rarely('closes', fc.constantFrom<readonly Direction[]>([], ['egress'])),
  merged(
    rarely('ingress', fc.constantFrom(['any'], ['from=app=a', 'port=80/tcp'])),
    rarely('egress', fc.constant(['to=cidr:10.0.0.0/8'])),
    rarely('deny', fc.constant(['any']))
  )
)
const policy: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc
      .tuple(
        network,
        policyName,
        merged(policyTexts, rarely('requestId', fc.constantFrom('r1', 'r2')), fc.constant({}))
      )
      .map(([n, name, p]) => police(n, name, p))
  },
  { weight: 2, arbitrary: fc.tuple(network, policyName, policyTexts).map(([n, name, p]) => repolice(n, name, p)) },
  { weight: 1, arbitrary: fc.tuple(network, policyName).map(([n, name]) => unpolice(n, name)) }
)

/** As `command`, in both families; their rules are the latest where the cluster has raised them. */
const command6: fc.Arbitrary<Command> = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(network, bothOptions).map(([name, p]) => create(name, p)) },
  { weight: 1, arbitrary: fc.tuple(network, seldom).map(([name, force]) => remove(name, force)) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(network, fc.constantFrom(...SUBNETS6, ...SUBNETS, ...WIDE))
      .map(([name, s]) => addSubnet(name, s))
  },
  {
    weight: 2,
    arbitrary: fc.tuple(network, fc.constantFrom('nat' as const, 'routed' as const)).map(([n, v6]) => leave(n, v6))
  },
  { weight: 24, arbitrary: fc.tuple(network, container, both6Options).map(([n, c, p]) => attach(n, c, p)) },
  { weight: 6, arbitrary: fc.tuple(container, ifname).map(([c, name]) => detach(c, name)) },
  { weight: 6, arbitrary: fc.tuple(container, changes, ifname).map(([c, l, name]) => relabel(c, l, name)) },
  { weight: 12, arbitrary: service },
  { weight: 4, arbitrary: policy },
  { weight: 2, arbitrary: fc.tuple(host, version).map(([n, v]) => register(n, { version: v })) },
  { weight: 2, arbitrary: fc.tuple(host, version).map(([n, v]) => register(n, { version: v, vtep: vtep6(n) })) },
  { weight: 1, arbitrary: host.map(n => removeHost(`h${n}`)) },
  { weight: 1, arbitrary: namespace.map(ns => open(ns, '10.0.0.0/28', 30)) }
)

export const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(network, networkOptions).map(([name, p]) => create(name, p)) },
  { weight: 1, arbitrary: fc.tuple(network, fc.boolean()).map(([name, force]) => remove(name, force)) },
  { weight: 1, arbitrary: fc.tuple(network, fc.option(rate, { nil: undefined })).map(([name, r]) => update(name, r)) },
  { weight: 12, arbitrary: fc.tuple(network, container, endpointOptions).map(([n, c, p]) => attach(n, c, p)) },
  { weight: 6, arbitrary: fc.tuple(container, ifname).map(([c, name]) => detach(c, name)) },
  { weight: 2, arbitrary: host.map(n => register(n)) },
  { weight: 1, arbitrary: fc.tuple(host, hostOptions).map(([n, p]) => register(n, p)) },
  { weight: 1, arbitrary: host.map(n => removeHost(`h${n}`)) },
  { weight: 1, arbitrary: fc.tuple(namespace, anyNetwork, anyNetwork).map(([ns, n, grant]) => map(ns, n, grant)) },
  { weight: 1, arbitrary: namespace.map(unmap) },
  { weight: 1, arbitrary: namespace.map(ns => open(ns, '10.0.0.0/28', 30)) }
)

/** As `history`, in both families. Soon after its start, network b of IPv6 is to get an IPv4 subnet. */
export function history6(maxLength: number): fc.Arbitrary<readonly Command[]> {
  const start = fc.tuple(version, fc.constantFrom(...PAIRS), fc.constantFrom(...SUBNETS6), fc.boolean())
  const commands = fc.array(fc.oneof({ weight: 9, arbitrary: command6 }, command), { maxLength, size: 'max' })
  const added = fc.tuple(fc.nat(maxLength / 4), fc.constantFrom(...SUBNETS, ...WIDE))
  return fc.tuple(start, commands, added).map(([[first, pair, subnet, isUnderlay6], rest, [at, subnet4]]) => {
    const hosts = HOSTS.map(n => {
      return register(n, { version: n === 1 ? first : NEW, ...(isUnderlay6 ? { vtep: vtep6(n) } : {}) })
    })
    const networks = [create('a', pair), create('b', { subnet }), create('c')]
    return [...hosts, ...networks, ...rest.slice(0, at), addSubnet('b', subnet4), ...rest.slice(at)]
  })
}

/** Commands after a history of either kind, with the rules that all their requests name. */
export function lives(maxLength: number): fc.Arbitrary<Life> {
  const six = fc.tuple(history6(maxLength), fc.array(fc.oneof(command6, command6, command), { maxLength: 60 }))
  return fc.oneof(
    fc.tuple(history(maxLength), fc.array(command, { maxLength: 60 })).map(([before, after]) => {
      return { rules: FIRST_RULES, before, after }
    }),
    fc
      .tuple(six, fc.constantFrom(FIRST_RULES, BOTH_FAMILIES, LABELS, RULES, RULES, RULES))
      .map(([[before, after], rules]) => {
        return { rules, before, after }
      })
  )
}

export type Life = { readonly rules: number; readonly before: readonly Command[]; readonly after: readonly Command[] }

function lengthOf(subnet: string): number {
  return Number(subnet.split('/')[1])
}

/** A history that starts with hosts and networks; without them nearly all commands would be refused. */
export function history(maxLength: number): fc.Arbitrary<readonly Command[]> {
  const start: Command[] = [register(1), register(2), create('a', { subnet: '10.0.0.0/29' }), create('b')]
  return fc.array(command, { maxLength, size: 'max' }).map(commands => [...start, ...commands])
}
