// Backends on hosts that have failed take no new connections while there are others.

import t from 'tap'
import { parseIp } from '#model/ip.ts'
import { desired, type DesiredInput } from '#overlay/plan/network/desired.ts'
import { withoutFailed } from '#overlay/plan/services/failed-hosts.ts'
import type { DesiredService } from '#overlay/plan/services/service.ts'
import type { MemberStatus } from '#model/member.ts'
import { byNetwork, makeEndpoint, makeHost, makeNetwork, peer } from '../../fixtures.ts'

const backend = (last: number): { address: ReturnType<typeof parseIp>; port: number } => ({
  address: parseIp(`10.1.0.${last}`),
  port: 80
})

function service(...ports: number[][]): DesiredService {
  return {
    address: parseIp('10.1.0.200'),
    ports: ports.map((backends, n) => ({ protocol: 'tcp', port: n + 1, backends: backends.map(backend) })),
    affinitySeconds: 0
  }
}

t.test('a port loses the backends that have failed, but not its last ones', async t => {
  const failed = new Set([3, 4].map(last => parseIp(`10.1.0.${last}`)))
  const wanted: readonly (readonly [string, number[], number[]])[] = [
    ['one of two', [2, 3], [2]],
    ['none', [2, 5], [2, 5]],
    ['two of three', [3, 4, 5], [5]],
    ['all', [3, 4], [3, 4]],
    ['of none', [], []]
  ]
  for (const [what, before, after] of wanted) t.same(withoutFailed([service(before)], failed), [service(after)], what)
  t.same(withoutFailed([service([2, 3], [3], [4, 5])], failed), [service([2], [3], [5])], 'each port by itself')
})

t.test('services that it does not concern stay the same objects', async t => {
  const services = [service([2, 5]), service([3]), service([2, 3])]
  const left = withoutFailed(services, new Set([parseIp('10.1.0.3')]))
  t.same(
    left.map((one, i) => one === services[i]),
    [true, true, false]
  )
})

t.test('the plan takes the hosts that Serf lists as failed, and no others', async t => {
  const net = makeNetwork('red', 0xabc)
  const endpoints = [1, 2, 3].map(host =>
    makeEndpoint(net, { container: `c${host}`, host, address: `10.1.0.${host + 1}` })
  )
  const services = [service([2, 3, 4])]
  const backendsWith = (statuses: DesiredInput['memberStatus']): readonly string[] | undefined => {
    const host = desired({
      ...{ self: peer(1), selfVtep: makeHost(1).vtep, networks: [net], endpoints: byNetwork(endpoints) },
      ...{ hosts: [1, 2, 3].map(n => makeHost(n)), memberStatus: statuses, overlayMtu: 1_450, vxlanPort: 4789 },
      services: new Map([[net.name, services]])
    })
    const found = host.networks.get(net.vni)?.services ?? []
    return found[0]?.ports[0]?.backends.map(({ address }) => `${address}`)
  }
  const all = services[0]?.ports[0]?.backends.map(({ address }) => `${address}`)
  const with2 = (status: MemberStatus): DesiredInput['memberStatus'] =>
    new Map([
      [peer(1), 'alive'],
      [peer(2), status],
      [peer(3), 'alive']
    ])
  t.same(backendsWith(null), all, 'nothing is known of the members')
  t.same(backendsWith(new Map([[peer(1), 'alive']])), all, 'members that are not listed yet')
  for (const status of ['alive', 'leaving'] as const) t.same(backendsWith(with2(status)), all, status)
  t.same(backendsWith(with2('failed')), [all?.[0], all?.[2]], 'failed')
})
