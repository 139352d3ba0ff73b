// That touched networks are enough: after any run of commands the networks that a command did not name have the same
// desired state as before it, on every host; and what is desired depends on the state alone, not on the way to it.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { ClusterState } from '#allocator/state-machine.ts'
import { networksOfCommand } from '#agent/reconcile/touched.ts'
import type { Command } from '#model/command.ts'
import { parseContainerId, parseIfName, parseNetworkName, type LogIndex } from '#model/ids.ts'
import { parseIpv4, parseSubnet, type Ipv4 } from '#model/ipv4.ts'
import { desired, type DesiredHost } from '#overlay/plan/network/desired.ts'
import { makeHost, peer } from '../../overlay/fixtures.ts'

const HOSTS = [1, 2, 3]
const NAMES = ['red', 'blue', 'green'].map(text => parseNetworkName(text))
const name = fc.constantFrom(...NAMES)
const container = fc.nat({ max: 5 }).map(n => ({ containerId: parseContainerId(`c${n}`), ifname: parseIfName('eth0') }))
const host = fc.constantFrom(...HOSTS)

const command: fc.Arbitrary<Command> = fc.oneof(
  name.map<Command>(name => ({ kind: 'network-create', name, subnet: parseSubnet('10.1.0.0/28'), ...NETWORK })),
  fc.record({ name, egressRate: fc.nat({ max: 9 }) }).map<Command>(p => ({ kind: 'network-update', ...p })),
  fc.record({ name, force: fc.boolean() }).map<Command>(p => ({ kind: 'network-delete', ...p })),
  fc.record({ network: name, container, host }).map<Command>(p => ({
    kind: 'endpoint-attach',
    network: p.network,
    ...p.container,
    host: peer(p.host),
    ...ENDPOINT
  })),
  container.map<Command>(c => ({ kind: 'endpoint-detach', ...c })),
  fc
    .record({ host, vtep: fc.constantFrom('192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.9') })
    .map<Command>(p => ({ kind: 'host-register', host: makeHost(p.host, parseIpv4(p.vtep)) })),
  host.map<Command>(n => ({ kind: 'host-remove', name: makeHost(n).name }))
)
const NETWORK = { egressRate: 0, mtu: 0, egress: true, hostAccess: false }
const ENDPOINT = { name: '', ingressRate: 0, egressRate: 0, delayUs: 0 }
const commands = fc.array(command, { maxLength: 60, size: 'max' })
/** A run of the log; `each` sees the state before and after every command. */
function play(
  log: readonly Command[],
  each: (command: Command, apply: () => void, state: ClusterState) => void
): ClusterState {
  const state = new ClusterState()
  let index = 0
  const apply = (command: Command): void => {
    state.apply(++index as LogIndex, { session: 's', seq: index - 1, settledBelow: 0, command })
  }
  apply({ kind: 'session-open' })
  for (const n of HOSTS) apply({ kind: 'host-register', host: makeHost(n) })
  for (const command of log) each(command, () => apply(command), state)
  return state
}

function desiredOn(state: ClusterState, self: number): DesiredHost {
  const own = state.host(peer(self))
  return desired({
    self: peer(self),
    selfVtep: own?.vtep ?? (0 as Ipv4),
    networks: state.networks(),
    endpoints: new Map([...state.networks()].map(({ name }) => [name, state.endpointsOf(name)])),
    hosts: [...state.hosts()],
    memberStatus: null,
    overlayMtu: 1450,
    vxlanPort: 4789
  })
}

t.test('a command changes no network that it does not touch', async t => {
  fc.assert(
    fc.property(commands, log => {
      play(log, (command, apply, state) => {
        const before = HOSTS.map(n => desiredOn(state, n).networks)
        const touched = networksOfCommand(state, command)
        apply()
        if (touched === 'all') return
        for (const [i, n] of HOSTS.entries()) {
          const after = desiredOn(state, n).networks
          for (const vni of new Set([...(before[i]?.keys() ?? []), ...after.keys()])) {
            if (!touched.includes(vni)) assert.deepEqual(after.get(vni), before[i]?.get(vni))
          }
        }
      })
    }),
    { numRuns: 300 }
  )
  t.pass()
})

t.test('an address reused on another host points there, whatever was seen before it', async t => {
  fc.assert(
    fc.property(commands, log => {
      const state = play(log, (_, apply) => apply())
      for (const n of HOSTS) {
        for (const network of desiredOn(state, n).networks.values()) {
          const holders = new Map(state.endpointsOf(network.name).map(e => [e.mac, e]))
          for (const [mac, vtep] of network.entries) {
            const holder = holders.get(mac)
            assert.equal(holder === undefined ? undefined : state.host(holder.host)?.vtep, vtep, `${mac} of host ${n}`)
            assert.notEqual(holder?.host, peer(n))
          }
        }
      }
    }),
    { numRuns: 300 }
  )
  t.pass()
})
