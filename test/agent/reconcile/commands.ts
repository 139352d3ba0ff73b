// Random logs of commands for a small cluster of three hosts and three networks.

import fc from 'fast-check'
import { ClusterState } from '#allocator/state-machine.ts'
import type { Command } from '#model/command.ts'
import { parseContainerId, parseIfName, parseNetworkName, type LogIndex } from '#model/ids.ts'
import { parseSubnet } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { makeHost, peer } from '../../overlay/fixtures.ts'

export const HOSTS = [1, 2, 3]
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
/** A log over few names, so that commands collide. */
export const commands = fc.array(command, { maxLength: 60, size: 'max' })

/** Applies the log; `each` is called for every command and decides when to apply it. */
export function play(
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
