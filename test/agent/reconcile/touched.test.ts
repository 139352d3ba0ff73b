// Touched networks are sufficient: after any run of commands the networks that a command did not name have the same
// desired state as before it, on every host. The desired state depends on the replicated state alone, not on its
// history.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import type { ClusterState } from '#allocator/state-machine.ts'
import { touchedBy, touchedByMember, type Touched } from '#agent/reconcile/touched.ts'
import type { MemberChange } from '#membership/view/view.ts'
import type { Command } from '#model/command.ts'
import { LEFT_BOOT_ID } from '#model/host.ts'
import { parseContainerId, parseIfName, parseNetworkName } from '#model/ids.ts'
import { parseSubnet } from '#model/ip.ts'
import type { Ipv4 } from '#model/ipv4.ts'
import { desired, type DesiredHost } from '#overlay/plan/network/desired.ts'
import {
  attach,
  Caller,
  create,
  detach,
  police,
  relabel,
  repolice,
  reserve,
  serve,
  unpolice,
  unserve
} from '#test/allocator/fixtures.ts'
import { makeMember } from '../memory-host.ts'
import { makeHost, peer } from '../../overlay/fixtures.ts'
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

t.test('a command changes no network that it does not touch, and no peers unless it says so', async t => {
  fc.assert(
    fc.property(commands, log => {
      play(log, (command, apply, state) => {
        const before = HOSTS.map(n => desiredOn(state, n).networks)
        const peersBefore = HOSTS.map(n => desiredOn(state, n).peers)
        const { networks: touched, hostWide } = touchedBy(state, command)
        apply()
        if (!hostWide)
          assert.deepEqual(
            peersBefore,
            HOSTS.map(n => desiredOn(state, n).peers)
          )
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

t.test('an update of rates touches the network of its endpoint, and one of labels alone none', t => {
  const caller = Caller.raised()
  const { vni } = caller.endpoint(attach('red', 'web'))
  const rates = { ...relabel('web', {}), delayUs: 0 }
  t.same(touchedBy(caller.state, relabel('web', { app: 'web' })), { networks: [], hostWide: false })
  for (const command of [rates, { ...relabel('web', { app: 'web' }), egressRate: 8_000 }, detach('web')])
    t.same(touchedBy(caller.state, command), { networks: [vni], hostWide: false }, JSON.stringify(command))
  t.same(touchedBy(caller.state, { ...rates, ...detach('none'), kind: 'endpoint-update' }), {
    networks: [],
    hostWide: false
  })
  t.end()
})

t.test('a service touches its network, and so do labels that add an endpoint to its backends or remove it', t => {
  const caller = Caller.raised()
  const { vni } = caller.endpoint(attach('red', 'web', { labels: { app: 'web' } }))
  caller.do(create('blue', { subnet: '10.2.0.0/24' }))
  caller.do(attach('blue', 'other'))
  const red = { networks: [vni], hostWide: false }
  const none = { networks: [], hostWide: false }
  const service = serve('red', 'site', { select: ['app=web', 'tier'] })
  t.same(touchedBy(caller.state, relabel('web', { tier: '' })), none, 'before there is a service')
  for (const command of [service, reserve('red', 'site', { affinity: 1 }), unserve('red', 'site')])
    t.same(touchedBy(caller.state, command), red, command.kind)
  t.same(touchedBy(caller.state, serve('none', 'x')), none)
  caller.do(service)
  caller.do(serve('red', 'named', { backends: ['10.1.0.2'] }))
  t.same(touchedBy(caller.state, relabel('web', { app: 'db' })), none, 'not chosen before or after')
  t.same(touchedBy(caller.state, relabel('web', { tier: '' })), red, 'chosen')
  t.same(touchedBy(caller.state, relabel('web', { app: 'db', tier: '' })), none)
  t.same(touchedBy(caller.state, relabel('other', { app: 'web', tier: '' })), none, 'of another network')
  caller.do(relabel('web', { tier: '' }))
  t.same(touchedBy(caller.state, relabel('web', { tier: 'front', zone: 'b' })), none, 'chosen before and after')
  t.same(touchedBy(caller.state, relabel('web', { app: null })), red, 'not chosen any more')
  t.end()
})

t.test('a policy touches no network: nothing in the kernel follows from it yet', t => {
  const caller = Caller.raised()
  caller.do(attach('red', 'web'))
  for (const command of [police('red', 'x'), repolice('red', 'x', {}), unpolice('red', 'x')])
    t.same(touchedBy(caller.state, command), { networks: [], hostWide: false }, command.kind)
  t.end()
})

t.test(
  'a change of a member touches the networks that both hosts are in, and the sets of addresses only if those change',
  t => {
    const network = { subnet: parseSubnet('10.1.0.0/28'), egressRate: 0, mtu: 0, egress: true, hostAccess: false }
    const unshaped = { name: '', ingressRate: 0, egressRate: 0, delayUs: 0 }
    const log = (['red', 'blue', 'green'] as const).flatMap((text, n): Command[] => {
      const name = parseNetworkName(text)
      const on = n === 0 ? [1, 2] : [n === 1 ? 1 : 2]
      const attached = on.map((host): Command => {
        const container = { containerId: parseContainerId(`${text}-${host}`), ifname: parseIfName('eth0') }
        return { kind: 'endpoint-attach', network: name, ...container, host: peer(host), ...unshaped }
      })
      return [{ kind: 'network-create', name, ...network }, ...attached]
    })
    const state = play(log, (_, apply) => apply())
    const red = state.network(parseNetworkName('red'))?.vni
    const touched = (change: MemberChange): Touched => touchedByMember({ state, self: peer(1), change })
    const alive = makeMember(2, 'alive')
    for (const [what, change, expected] of [
      [
        'failed',
        { kind: 'changed', before: alive, after: makeMember(2, 'failed') },
        { networks: [red], hostWide: false }
      ],
      ['left', { kind: 'changed', before: alive, after: makeMember(2, 'left') }, { networks: [red], hostWide: true }],
      ['back', { kind: 'changed', before: makeMember(2, 'left'), after: alive }, { networks: [red], hostWide: true }],
      ['gone', { kind: 'vanished', before: alive }, { networks: [red], hostWide: true }],
      ['new here', { kind: 'appeared', after: makeMember(3, 'alive') }, { networks: [], hostWide: true }],
      [
        'tags',
        { kind: 'changed', before: alive, after: { ...alive, role: 'client' } },
        { networks: [], hostWide: false }
      ]
    ] as const satisfies readonly (readonly [string, MemberChange, unknown])[]) {
      t.same(touched(change), expected, what)
    }
    t.end()
  }
)

t.test('a second subnet touches the filters of hosts, other settings of a network do not', t => {
  const name = parseNetworkName('red')
  const network = { subnet: parseSubnet('10.1.0.0/28'), egressRate: 0, mtu: 0, egress: true, hostAccess: false }
  const state = play([{ kind: 'network-create', name, ...network }], (_, apply) => apply())
  const networks = [state.network(name)?.vni]
  const update = { kind: 'network-update', name } as const
  t.same(touchedBy(state, { ...update, addSubnet: parseSubnet('fd00:1::/64') }), { networks, hostWide: true })
  t.same(touchedBy(state, { ...update, egressRate: 8_000 }), { networks, hostWide: false })
  t.end()
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

t.test('a host’s word that it leaves, and its return, touch its networks and the sets of addresses', t => {
  const name = parseNetworkName('red')
  const network = { subnet: parseSubnet('10.1.0.0/28'), egressRate: 0, mtu: 0, egress: true, hostAccess: false }
  const unshaped = { name: '', ingressRate: 0, egressRate: 0, delayUs: 0 }
  const container = { containerId: parseContainerId('c1'), ifname: parseIfName('eth0'), host: peer(2) }
  const log: Command[] = [
    { kind: 'network-create', name, ...network },
    { kind: 'endpoint-attach', network: name, ...container, ...unshaped }
  ]
  const there = makeHost(2)
  const gone = { ...there, bootId: LEFT_BOOT_ID }
  for (const [before, after] of [
    [there, gone],
    [gone, there]
  ] as const) {
    const state = play([...log, { kind: 'host-register', host: before }], (_, apply) => apply())
    const networks = [state.network(name)?.vni]
    t.same(touchedBy(state, { kind: 'host-register', host: after }), { networks, hostWide: true })
    t.same(touchedBy(state, { kind: 'host-register', host: before }), { networks: [], hostWide: false })
  }
  t.end()
})
