// Touched networks are sufficient: after any run of commands the networks that a command did not name have the same
// desired state as before it, on every host. The desired state depends on the replicated state alone, not on its
// history.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import type { ClusterState } from '#allocator/state-machine.ts'
import { networksOfCommand } from '#agent/reconcile/touched.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { desired, type DesiredHost } from '#overlay/plan/network/desired.ts'
import { peer } from '../../overlay/fixtures.ts'
import { commands, HOSTS, play } from './commands.ts'

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
