// Random commands over few names, so that they interact: most are carried out, many are refused.

import fc from 'fast-check'
import type { Command } from '#model/command.ts'
import { VNI_MAX } from '#model/ids.ts'
import { attach, create, detach, map, open, register, remove, removeHost, unmap, update } from './fixtures.ts'

export const NETWORKS = ['a', 'b', 'c']
const SUBNETS = ['10.0.0.0/30', '10.0.0.0/29', '10.0.0.8/29', '10.0.0.0/28']
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
/** MACs derived from an address and VNI 4096, 4097 or 512; one of a device; an unused one. */
const mac = fc.oneof(
  fc.tuple(fc.constantFrom('00', '01'), fc.nat(15)).map(([vni, n]) => `02:${vni}:0a:00:00:0${n.toString(16)}`),
  fc.constantFrom('06:76:78:00:00:01', '02:ee:00:00:00:01')
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

/** A history that starts with hosts and networks; without them nearly all commands would be refused. */
export function history(maxLength: number): fc.Arbitrary<readonly Command[]> {
  const start: Command[] = [register(1), register(2), create('a', { subnet: '10.0.0.0/29' }), create('b')]
  return fc.array(command, { maxLength, size: 'max' }).map(commands => [...start, ...commands])
}
