// How a network, an endpoint, a service and a policy are written in the log, a snapshot, the key-value view, the API and events. Other versions
// and other programs read these forms, so formats.txt holds them byte for byte.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import t from 'tap'
import { digestOf } from '#allocator/digest.ts'
import { getKv } from '#allocator/kv-view.ts'
import { encodeState } from '#allocator/snapshot.ts'
import { changeEvent } from '#agent/observe/events.ts'
import { endpointView, networkView } from '#agent/observe/views.ts'
import { LABELS, type Command, type Result } from '#model/command.ts'
import { parseNetworkName, parseServiceName, type LogIndex } from '#model/ids.ts'
import { parseCommand } from '#model/parse-request.ts'
import { encodeMsgpack } from '#platform/msgpack.ts'
import { Caller, create, makeHost, NEWEST, peer, register } from '../allocator/fixtures.ts'

/** As a peer may send it: in another order, and with a field that this version does not know. */
const CREATE = {
  hostAccess: true,
  stray: 1,
  egress: true,
  name: 'blue',
  mtu: 1_400,
  requestId: 'r1',
  egressRate: 5e6,
  kind: 'network-create',
  vni: 7,
  gateway: 0x0a020001,
  subnet: { prefixLength: 24, base: 0x0a020000 }
}
const ATTACH = {
  requestId: 'r2',
  delayUs: 300,
  egressRate: 2e6,
  ingressRate: 1e6,
  mac: '02:11:22:33:44:55',
  address: 0x0a020005,
  host: peer(1),
  name: 'web',
  ifname: 'eth0',
  containerId: 'c1',
  network: 'blue',
  kind: 'endpoint-attach'
}
/** In a cluster whose rules know them. */
const LABELLED = {
  ...ATTACH,
  containerId: 'c2',
  address: undefined,
  mac: undefined,
  labels: { tier: 'front', app: 'web' }
}
const RELABEL = {
  labels: { zone: '', tier: null },
  ifname: 'eth0',
  containerId: 'c2',
  kind: 'endpoint-update'
}
/** In a cluster whose rules know services. */
const SERVE = {
  requestId: 'r3',
  stray: 1,
  select: [{ value: '', key: 'tier' }, { key: 'app' }],
  affinitySeconds: 60,
  ports: [
    { targetPort: 53, port: 53, protocol: 'udp' },
    { targetPort: 8080, port: 80, protocol: 'tcp' }
  ],
  headless: false,
  addresses: ['fd00:2::9', 0x0a020009],
  name: 'web',
  network: 'both',
  kind: 'service-create'
}
const RESERVE = {
  backends: [{ port: 81, address: 0x0a020005 }],
  ports: [{ targetPort: 80, port: 80, protocol: 'udp' }],
  name: 'web',
  network: 'both',
  kind: 'service-update'
}
const UNSERVE = { name: 'web', network: 'both', kind: 'service-delete' }
/** In a cluster whose rules know policies. */
const POLICE = {
  requestId: 'r4',
  stray: 1,
  rules: [
    {
      stray: 1,
      ports: [{ last: 5_432, first: 5_432, protocol: 'tcp' }],
      peers: [{ select: [{ not: true, value: 'x', key: 'app' }, { key: 'tier' }] }],
      priority: 0,
      action: 'allow',
      direction: 'ingress'
    },
    {
      ports: [],
      peers: [{ except: [{ prefixLength: 16, base: 0x0a010000 }], cidr: { prefixLength: 8, base: 0x0a000000 } }],
      priority: 7,
      action: 'deny',
      direction: 'egress'
    }
  ],
  select: [{ value: 'db', key: 'tier' }],
  name: 'db',
  network: 'red',
  kind: 'policy-create'
}
const REPOLICE = { closes: ['egress', 'ingress'], select: [], name: 'db', network: 'red', kind: 'policy-update' }
const UNPOLICE = { name: 'db', network: 'red', kind: 'policy-delete' }
const LIMIT = { egressRate: 9e3, name: 'blue', kind: 'network-update' }
const UPDATE = { delayUs: 9, ifname: 'eth0', egressRate: 0, containerId: 'c1', kind: 'endpoint-update' }

const FORMATS = resolve(import.meta.dirname, 'formats.txt')

t.test('every form of a network, an endpoint, a service and a policy matches formats.txt', t => {
  const written = Object.entries({ ...forms(), ...labelledForms(), ...servedForms(), ...policedForms() }).map(
    ([what, form]) => `${what}: ${form}`
  )
  const expected = readFileSync(FORMATS, 'utf8').trimEnd().split('\n')
  for (const [at, line] of expected.entries()) t.equal(written[at], line)
  t.equal(written.length, expected.length)
  t.end()
})

function forms(): Record<string, string> {
  const caller = new Caller()
  const { state } = caller
  const apply = (value: unknown): { command: Command; result: Result } => {
    const command = parseCommand(value)
    return { command, result: caller.do(command) }
  }
  apply({ kind: 'host-register', host: makeHost(1) })
  const done = [CREATE, LIMIT, ATTACH, UPDATE].map(apply)
  const network = state.network(parseNetworkName('blue'))
  const [endpoint] = state.endpoints()
  if (network === undefined || endpoint === undefined) throw new Error('the commands were refused')
  const { networks } = encodeState(state)
  const facts = { network, overlayMtu: 1_450, host: makeHost(1), counters: undefined }
  const event = ({ command, result }: (typeof done)[number]): string =>
    JSON.stringify(
      changeEvent({
        index: 9 as LogIndex,
        command,
        outcome: { ok: true, result },
        network: () => network,
        hostName: () => 'h1'
      })?.()
    )
  return {
    ...Object.fromEntries(done.map(({ command }) => [`command ${command.kind}`, JSON.stringify(command)])),
    ...Object.fromEntries(done.map(each => [`event of ${each.command.kind}`, event(each)])),
    digest: digestOf(state),
    snapshot: JSON.stringify(networks),
    'snapshot as msgpack, SHA-256': createHash('sha256').update(encodeMsgpack(networks)).digest('hex'),
    'key network/blue': JSON.stringify(getKv(state, 'network/blue')),
    'key endpoint/blue/c1/eth0': JSON.stringify(getKv(state, 'endpoint/blue/c1/eth0')),
    'network view': JSON.stringify(networkView(network, { overlayMtu: 1_450, endpoints: 1 })),
    'endpoint view': JSON.stringify(endpointView(endpoint, facts))
  }
}

function labelledForms(): Record<string, string> {
  const caller = new Caller()
  caller.rules = LABELS
  for (const n of [1, 2]) caller.do(register(n, { version: NEWEST }))
  caller.do(create('red'))
  const [attach, update] = [LABELLED, { ...RELABEL }].map(parseCommand)
  if (attach === undefined || update === undefined) throw new Error('no commands')
  caller.do(parseCommand({ ...CREATE, vni: 8 }))
  const results = [attach, update].map(command => caller.do(command))
  const [endpoint] = caller.state.endpoints()
  const network = caller.state.network(parseNetworkName('blue'))
  if (endpoint === undefined || network === undefined) throw new Error('the commands were refused')
  const [blue] = encodeState(caller.state).networks
  const facts = { network, overlayMtu: 1_450, host: makeHost(1), counters: undefined }
  return {
    'command endpoint-attach with labels': JSON.stringify(attach),
    'command endpoint-update with labels': JSON.stringify(update),
    'labels of its results': JSON.stringify(
      results.map(result => result.kind === 'endpoint' && result.endpoint.labels)
    ),
    'digest with labels': digestOf(caller.state),
    'snapshot with labels': JSON.stringify(blue?.endpoints),
    'key with labels': JSON.stringify(getKv(caller.state, 'endpoint/blue/c2/eth0')),
    'labels of a view': JSON.stringify(endpointView(endpoint, facts).labels)
  }
}

function servedForms(): Record<string, string> {
  const caller = Caller.raised()
  const { state } = caller
  caller.do(create('both', { subnet: '10.2.0.0/24', subnet6: 'fd00:2::/64' }))
  const forms: Record<string, string> = {}
  for (const value of [SERVE, RESERVE, UNSERVE]) {
    const command = parseCommand(value)
    const outcome = { ok: true, result: caller.do(command) } as const
    forms[`command ${command.kind}`] = JSON.stringify(command)
    const facts = { index: 9 as LogIndex, command, outcome, network: () => undefined, hostName: () => 'h1' }
    forms[`event of ${command.kind}`] = JSON.stringify(changeEvent(facts)?.())
    const service = state.service(parseNetworkName('both'), parseServiceName('web'))
    if (service === undefined) continue
    forms[`digest after ${command.kind}`] = digestOf(state)
    forms[`snapshot after ${command.kind}`] = JSON.stringify(encodeState(state).services)
    forms[`key after ${command.kind}`] = JSON.stringify(getKv(state, 'service/both/web'))
  }
  return forms
}

function policedForms(): Record<string, string> {
  const caller = Caller.raised()
  const { state } = caller
  const forms: Record<string, string> = {}
  for (const value of [POLICE, REPOLICE, UNPOLICE]) {
    const command = parseCommand(value)
    const outcome = { ok: true, result: caller.do(command) } as const
    forms[`command ${command.kind}`] = JSON.stringify(command)
    const facts = { index: 9 as LogIndex, command, outcome, network: () => undefined, hostName: () => 'h1' }
    forms[`event of ${command.kind}`] = JSON.stringify(changeEvent(facts)?.())
    if (state.policyCount === 0) continue
    forms[`digest after ${command.kind}`] = digestOf(state)
    forms[`snapshot after ${command.kind}`] = JSON.stringify(encodeState(state).policies)
    forms[`key after ${command.kind}`] = JSON.stringify(getKv(state, 'policy/red/db'))
  }
  return forms
}
