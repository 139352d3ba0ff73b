// The verbs through the real plugin, API and state machine; only the kernel is missing.

import { createServer } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startApi } from '#api/server.ts'
import { FIRST_RULES, RULES } from '#model/command.ts'
import { VxmeshError, type ErrorCode } from '#model/errors.ts'
import { systemClock } from '#platform/clock.ts'
import { createLogger } from '#platform/log.ts'
import { addSubnet, attach, create } from '../allocator/fixtures.ts'
import { scratch } from '../api/scratch.ts'
import { MemoryHost } from '#test/agent/memory-host.ts'
import { parseNamespaceName, parseNetworkName } from '#model/ids.ts'
import { buildPlugin, callPlugin, type PluginRun } from './plugin.ts'

type Env = Readonly<Record<string, string | undefined>>

const ID = 'a1b2c3'
const NETNS = '/run/netns/web'
const CONTAINER: Env = { CNI_CONTAINERID: ID, CNI_NETNS: NETNS, CNI_IFNAME: 'eth0' }
const POD = 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=a1b2c3;K8S_POD_UID=u1'
const CONF = { cniVersion: '1.1.0', name: 'mesh', type: 'vxmesh', network: 'red' }
const BY_POD = { cniVersion: '1.1.0', name: 'mesh', type: 'vxmesh' }
const ANNOTATIONS = 'io.kubernetes.cri.pod-annotations'
const VERSIONS = ['0.3.1', '0.4.0', '1.0.0', '1.1.0']

await buildPlugin()

/** Network red (10.1.0.0/24), green; namespace shop in red, and green granted to it. */
async function served(t: Test): Promise<{ agent: MemoryHost; socket: string; call: Call }> {
  const agent = new MemoryHost()
  agent.caller.do(create('green', { subnet: '10.2.0.0/24' }))
  agent.caller.do(create('tiny', { subnet: '10.3.0.0/30' }))
  const [red, green] = ['red', 'green'].map(name => parseNetworkName(name))
  if (red === undefined || green === undefined) throw new Error('no networks')
  agent.caller.do({ kind: 'namespace-map', namespace: parseNamespaceName('shop'), network: red, grants: [green] })
  const socket = join(scratch(t), 'agent.sock')
  const api = await startApi({
    socketPath: socket,
    agent: agent.port,
    clock: systemClock,
    logger: createLogger('silent')
  })
  t.teardown(() => api.close())
  const call: Call = (verb, config, env = {}) => {
    const input =
      config instanceof Uint8Array
        ? Buffer.concat([Buffer.from(`{"socket":${JSON.stringify(socket)},`), config.subarray(1)])
        : typeof config === 'string'
          ? config
          : { socket, ...config }
    return callPlugin(verb, { input, env })
  }
  return { agent, socket, call }
}

type Call = (verb: string, config: object | string | Uint8Array, env?: Env) => Promise<PluginRun>

t.test('ADD answers in the format of each version', async t => {
  for (const cniVersion of VERSIONS) {
    const { call } = await served(t)
    const { exitCode, json, stderr } = await call('ADD', { ...CONF, cniVersion }, CONTAINER)
    const mtu = cniVersion === '1.1.0' ? { mtu: 1450 } : {}
    const family = cniVersion.startsWith('0') ? { version: '4' } : {}
    t.equal(exitCode, 0, `${cniVersion}: ${stderr}`)
    const [outer] = json?.['interfaces'] as [{ name: string }]
    t.match(outer.name, /^ve[0-9a-f]{13}$/)
    t.same(json, {
      cniVersion,
      interfaces: [
        { name: outer.name, ...mtu },
        { name: 'eth0', mac: '02:00:0a:01:00:02', sandbox: NETNS, ...mtu }
      ],
      ips: [{ ...family, address: '10.1.0.2/24', gateway: '10.1.0.1', interface: 1 }],
      routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }],
      dns: {}
    })
  }
})

t.test('variables and configuration reach the agent as its own request', async t => {
  const rates = {
    ingressRate: 1_000_000,
    ingressBurst: 4_294_967_295,
    egressRate: 2_000_000,
    egressBurst: 4_294_967_295
  }
  const cases: readonly (readonly [config: object, env: Env, asked: object])[] = [
    [CONF, CONTAINER, { network: 'red', containerId: ID, ifname: 'eth0', netns: NETNS, name: '', exclusive: true }],
    [CONF, { ...CONTAINER, CNI_ARGS: POD }, { network: 'red', name: 'shop/web-0' }],
    [{ ...CONF, network: '' }, { ...CONTAINER, CNI_ARGS: POD }, { network: 'red' }],
    [BY_POD, { ...CONTAINER, CNI_ARGS: POD }, { network: 'red', name: 'shop/web-0' }],
    [{ ...CONF, runtimeConfig: { bandwidth: rates } }, CONTAINER, { ingressRate: 1e6, egressRate: 2e6 }],
    [{ ...CONF, runtimeConfig: { bandwidth: { IngressRate: 3_000_000 } } }, CONTAINER, { ingressRate: 3e6 }],
    [{ ...CONF, runtimeConfig: { bandwidth: {} } }, CONTAINER, { ingressRate: 0, egressRate: 0 }],
    [{ ...CONF, runtimeConfig: { ips: ['10.1.0.9/24'] } }, CONTAINER, { address: 0x0a010009 }],
    [{ ...CONF, runtimeConfig: { ips: ['10.1.0.9'] } }, CONTAINER, { address: 0x0a010009 }],
    [{ ...CONF, args: { cni: { ips: ['10.1.0.8'] } } }, CONTAINER, { address: 0x0a010008 }],
    [CONF, { ...CONTAINER, CNI_ARGS: 'IP=10.1.0.7' }, { address: 0x0a010007 }],
    [
      { ...CONF, runtimeConfig: { ips: ['10.1.0.9'] } },
      { ...CONTAINER, CNI_ARGS: 'IP=10.1.0.7' },
      { address: 0x0a010009 }
    ],
    [{ ...CONF, runtimeConfig: { mac: '02:AA:00:00:00:01' } }, CONTAINER, { mac: '02:aa:00:00:00:01' }],
    [CONF, { ...CONTAINER, CNI_ARGS: 'MAC=02:aa:00:00:00:02' }, { mac: '02:aa:00:00:00:02' }],
    [
      { ...BY_POD, runtimeConfig: { [ANNOTATIONS]: { 'vxmesh.io/network': 'green' } } },
      { ...CONTAINER, CNI_ARGS: POD },
      { network: 'green' }
    ],
    [{ ...CONF, runtimeConfig: { [ANNOTATIONS]: { 'vxmesh.io/delay': '10ms' } } }, CONTAINER, { delayUs: 10_000 }],
    [
      { ...CONF, args: { cni: { labels: [{ key: 'app', value: 'web' }] } } },
      { ...CONTAINER, CNI_ARGS: 'VXMESH_LABELS=app=db,tier=back' },
      { labels: { app: 'web', tier: 'back' } }
    ],
    [
      CONF,
      { ...CONTAINER, CNI_ARGS: 'IgnoreUnknown=1;VXMESH_LABELS=example.com/a=' },
      { labels: { 'example.com/a': '' } }
    ],
    [
      {
        ...{ ...CONF, args: { cni: { labels: [{ key: 'app', value: 'web' }] } } },
        runtimeConfig: { [ANNOTATIONS]: { 'vxmesh.io/labels': 'app=shop,zone=a' } }
      },
      CONTAINER,
      { labels: { app: 'shop', zone: 'a' } }
    ],
    [{ ...CONF, unknown: { of: 'another' } }, { ...CONTAINER, CNI_IFNAME: 'net1' }, { ifname: 'net1' }],
    [{ ...CONF, name: 'a_b.c-1' }, CONTAINER, { network: 'red' }]
  ]
  for (const [config, env, asked] of cases) {
    const { agent, call } = await served(t)
    agent.caller.raise()
    const { exitCode, stdout } = await call('ADD', config, env)
    t.equal(exitCode, 0, stdout)
    const attach = agent.asked.find(one => Object.hasOwn(Object(one) as object, 'exclusive'))
    t.match(attach, asked, JSON.stringify(config))
  }
})

t.test('a network without egress gets no default route', async t => {
  const { agent, call } = await served(t)
  agent.caller.do({ ...create('inner', { subnet: '10.4.0.0/24' }), egress: false })
  t.match(await call('ADD', { ...CONF, network: 'inner' }, CONTAINER), { exitCode: 0, json: { routes: [] } })
})

t.test('the result adds to those of earlier plugins in the list', async t => {
  const { call } = await served(t)
  const prevResult = {
    cniVersion: '1.0.0',
    interfaces: [{ name: 'lo0', sandbox: NETNS }],
    ips: [{ address: '10.9.0.2/24', interface: 0 }],
    routes: [{ dst: '10.9.0.0/16' }],
    dns: { nameservers: ['10.9.0.1'] }
  }
  const { json } = await call('ADD', { ...CONF, cniVersion: '1.0.0', prevResult }, CONTAINER)
  t.match(json, {
    interfaces: [{ name: 'lo0' }, { name: /^ve/ }, { name: 'eth0' }],
    ips: [
      { address: '10.9.0.2/24', interface: 0 },
      { address: '10.1.0.2/24', interface: 2 }
    ],
    routes: [{ dst: '10.9.0.0/16' }, { dst: '0.0.0.0/0' }],
    dns: { nameservers: ['10.9.0.1'] }
  })
})

t.test('the other verbs print nothing on success', async t => {
  const { agent, call } = await served(t)
  const { json: prevResult } = await call('ADD', CONF, CONTAINER)
  const list = [{ containerID: ID, ifname: 'eth0' }]
  const calls: readonly (readonly [verb: string, config: object, env: Env])[] = [
    ['CHECK', { ...CONF, prevResult }, CONTAINER],
    ['STATUS', CONF, {}],
    ['STATUS', BY_POD, {}],
    ['GC', { ...CONF, 'cni.dev/valid-attachments': list }, {}],
    ['GC', { ...CONF, 'cni.dev/valid-attachments': [] }, {}],
    ['DEL', { ...CONF, prevResult }, CONTAINER],
    ['DEL', { ...CONF, prevResult }, CONTAINER],
    ['DEL', CONF, { ...CONTAINER, CNI_NETNS: undefined }],
    ['DEL', CONF, { ...CONTAINER, CNI_NETNS: '' }],
    ['DEL', CONF, { ...CONTAINER, CNI_NETNS: '/run/netns/gone', CNI_CONTAINERID: 'never-seen' }],
    ['DEL', { ...CONF, network: 'no-such-network' }, CONTAINER],
    ['DEL', { ...CONF, cniVersion: '0.3.1' }, CONTAINER]
  ]
  for (const [verb, config, env] of calls) {
    const { exitCode, stdout } = await call(verb, config, env)
    t.same([exitCode, stdout], [0, ''], `${verb} ${JSON.stringify(env)}`)
  }
  t.ok(agent.asked.some(asked => JSON.stringify(asked) === JSON.stringify({ keep: [`${ID}/eth0`] })))
  t.equal(agent.caller.state.endpointCount, 0)
})

t.test('the plugin answers VERSION without the agent', async t => {
  for (const input of [
    { cniVersion: '1.0.0' },
    { cniVersion: '1.0.0', socket: '/nonexistent' },
    '{"cniVersion":"1.0.0"}'
  ]) {
    const { exitCode, json } = await callPlugin('VERSION', { input })
    t.same([exitCode, json], [0, { cniVersion: '1.0.0', supportedVersions: VERSIONS }])
  }
  for (const input of ['', '{}', '[]', '{"cniVersion":1}', '{"cniVersion":"a\\"b"}', '{"cniVersion":"x y"}']) {
    const { exitCode, json } = await callPlugin('VERSION', { input })
    t.same([exitCode, json], [0, { cniVersion: '1.1.0', supportedVersions: VERSIONS }], input)
  }
})

const without = (key: string): Env => ({ ...CONTAINER, [key]: undefined })
const annotated = (annotations: object): object => ({ ...BY_POD, runtimeConfig: { [ANNOTATIONS]: annotations } })

/** A byte that is invalid in UTF-8. */
const NO_UTF8 = Buffer.from('{"cniVersion":"1.1.0","name":"\xff"}', 'latin1')

/** Refused calls: verb, configuration, variables, code, and a pattern of the message. */
const REFUSED: readonly (readonly [string, object | string | Uint8Array, Env, number, RegExp])[] = [
  ['', CONF, CONTAINER, 4, /CNI_COMMAND/],
  ['add', CONF, CONTAINER, 4, /CNI_COMMAND/],
  ['UPDATE', CONF, CONTAINER, 4, /CNI_COMMAND/],
  ['ADD', CONF, without('CNI_CONTAINERID'), 4, /CNI_CONTAINERID is missing/],
  ['ADD', CONF, without('CNI_NETNS'), 4, /CNI_NETNS is missing/],
  ['ADD', CONF, without('CNI_IFNAME'), 4, /CNI_IFNAME is missing/],
  ['DEL', CONF, without('CNI_CONTAINERID'), 4, /CNI_CONTAINERID is missing/],
  ['DEL', CONF, without('CNI_IFNAME'), 4, /CNI_IFNAME is missing/],
  ['CHECK', CONF, without('CNI_NETNS'), 4, /CNI_NETNS is missing/],
  ['ADD', CONF, { ...CONTAINER, CNI_CONTAINERID: '../../etc' }, 4, /CNI_CONTAINERID/],
  ['ADD', CONF, { ...CONTAINER, CNI_CONTAINERID: 'a b' }, 4, /CNI_CONTAINERID/],
  ['ADD', CONF, { ...CONTAINER, CNI_CONTAINERID: 'c'.repeat(129) }, 4, /CNI_CONTAINERID/],
  ['ADD', CONF, { ...CONTAINER, CNI_IFNAME: 'sixteen-letters-' }, 4, /CNI_IFNAME/],
  ['ADD', CONF, { ...CONTAINER, CNI_IFNAME: '../eth0' }, 4, /CNI_IFNAME/],
  ['ADD', CONF, { ...CONTAINER, CNI_IFNAME: '..' }, 4, /CNI_IFNAME/],
  ['ADD', CONF, { ...CONTAINER, CNI_IFNAME: 'eth0\r\nX: y' }, 4, /CNI_IFNAME/],
  ['ADD', CONF, { ...CONTAINER, CNI_NETNS: 'relative' }, 4, /CNI_NETNS: must be an absolute path/],
  ['ADD', CONF, { ...CONTAINER, CNI_ARGS: 'novalue' }, 4, /CNI_ARGS/],
  ['ADD', CONF, { ...CONTAINER, CNI_ARGS: '=x' }, 4, /CNI_ARGS/],
  ['ADD', CONF, { ...CONTAINER, CNI_ARGS: 'COLOUR=blue' }, 4, /CNI_ARGS: "COLOUR" is not known/],
  ['ADD', CONF, { ...CONTAINER, CNI_ARGS: 'COLOUR=blue;IgnoreUnknown=0' }, 4, /CNI_ARGS/],
  ['ADD', CONF, { ...CONTAINER, CNI_ARGS: `X=${'x'.repeat(70_000)}` }, 4, /CNI_ARGS/],
  ['ADD', BY_POD, { ...CONTAINER, CNI_ARGS: 'K8S_POD_NAMESPACE=Not_A_Label' }, 4, /K8S_POD_NAMESPACE/],
  ['ADD', '', CONTAINER, 6, /JSON/],
  ['ADD', 'not json', CONTAINER, 6, /JSON/],
  ['ADD', '[]', CONTAINER, 6, /JSON/],
  ['ADD', '{"cniVersion":"1.1.0"', CONTAINER, 6, /JSON/],
  ['ADD', '{"cniVersion":"1.1.0"} trailing', CONTAINER, 6, /JSON/],
  ['ADD', `{"a":"${'x'.repeat(10_000_000)}"}`, CONTAINER, 6, /over 1 MiB/],
  ['ADD', '['.repeat(500_000), CONTAINER, 6, /JSON/],
  ['ADD', { ...CONF, cniVersion: '0.1.0' }, CONTAINER, 1, /cniVersion/],
  ['ADD', { ...CONF, cniVersion: '2.0.0' }, CONTAINER, 1, /cniVersion/],
  ['ADD', { ...CONF, cniVersion: 1 }, CONTAINER, 1, /cniVersion/],
  ['ADD', { ...CONF, cniVersion: undefined }, CONTAINER, 1, /cniVersion/],
  ['CHECK', { ...CONF, cniVersion: '0.3.1' }, CONTAINER, 1, /0\.3\.1 has no CHECK/],
  ['STATUS', { ...CONF, cniVersion: '1.0.0' }, {}, 1, /1\.0\.0 has no STATUS/],
  ['GC', { ...CONF, cniVersion: '1.0.0' }, {}, 1, /1\.0\.0 has no GC/],
  ['ADD', { ...CONF, name: undefined }, CONTAINER, 7, /^name:/],
  ['ADD', { ...CONF, name: '../x' }, CONTAINER, 7, /^name:/],
  ['ADD', { ...CONF, network: 'NOT a name' }, CONTAINER, 7, /^network:/],
  ['ADD', { ...CONF, network: 7 }, CONTAINER, 7, /^network:/],
  ['ADD', { ...CONF, socket: 'relative.sock' }, CONTAINER, 7, /^socket:/],
  ['ADD', { ...CONF, socket: `/${'s'.repeat(108)}` }, CONTAINER, 7, /^socket:/],
  ['ADD', { ...CONF, socket: 7 }, CONTAINER, 7, /^socket:/],
  ['ADD', BY_POD, CONTAINER, 7, /network: is missing/],
  ['ADD', { ...CONF, runtimeConfig: { ips: ['10.1.0.999'] } }, CONTAINER, 7, /^ips:/],
  ['ADD', { ...CONF, runtimeConfig: { ips: ['fd00::g/64'] } }, CONTAINER, 7, /^ips:/],
  ['ADD', { ...CONF, runtimeConfig: { ips: ['fd00::5%eth0'] } }, CONTAINER, 7, /^ips:/],
  [
    'ADD',
    { ...CONF, runtimeConfig: { ips: ['fd00::5', 'fd00::6'] } },
    CONTAINER,
    7,
    /^ips: must be one, or one of each/
  ],
  ['ADD', { ...CONF, runtimeConfig: { ips: ['10.1.0.5', 'fd00::5', '10.1.0.6'] } }, CONTAINER, 7, /^ips: must be one/],
  ['ADD', { ...CONF, runtimeConfig: { ips: ['fd00::5/64'] } }, CONTAINER, 2, /IPv6 needs every host/],
  ['ADD', CONF, { ...CONTAINER, CNI_ARGS: 'IP=10.1.0.5,10.1.0.6' }, 7, /^ips:/],
  ['ADD', CONF, { ...CONTAINER, CNI_ARGS: 'IP=10.1.0.5,' }, 7, /^ips:/],
  ['ADD', { ...CONF, runtimeConfig: { ips: ['10.1.0.5', '10.1.0.6'] } }, CONTAINER, 7, /^ips:/],
  ['ADD', { ...CONF, runtimeConfig: { ips: '10.1.0.5' } }, CONTAINER, 7, /^runtimeConfig\.ips:/],
  ['ADD', { ...CONF, runtimeConfig: { ips: ['10.1.0.1'] } }, CONTAINER, 7, /gateway/],
  ['ADD', { ...CONF, runtimeConfig: { ips: ['10.7.0.1'] } }, CONTAINER, 7, /not a host address/],
  ['ADD', { ...CONF, runtimeConfig: { mac: 'nonsense' } }, CONTAINER, 7, /^mac:/],
  ['ADD', { ...CONF, runtimeConfig: { bandwidth: { ingressRate: -1 } } }, CONTAINER, 7, /bandwidth\.ingressRate/],
  ['ADD', { ...CONF, runtimeConfig: { bandwidth: { egressRate: 1.5 } } }, CONTAINER, 7, /bandwidth\.egressRate/],
  ['ADD', { ...CONF, runtimeConfig: { [ANNOTATIONS]: { 'vxmesh.io/delay': 'long' } } }, CONTAINER, 7, /delay/],
  [
    'ADD',
    { ...CONF, runtimeConfig: { [ANNOTATIONS]: { 'vxmesh.io/labels': 'app' } } },
    CONTAINER,
    7,
    /^vxmesh\.io\/labels:/
  ],
  ['ADD', { ...CONF, args: { cni: { labels: { app: 'web' } } } }, CONTAINER, 7, /^args\.cni\.labels:/],
  ['ADD', { ...CONF, args: { cni: { labels: [{ key: 'app' }] } } }, CONTAINER, 7, /^args\.cni\.labels\.0\.value:/],
  [
    'ADD',
    { ...CONF, args: { cni: { labels: [{ key: 'a b', value: '' }] } } },
    CONTAINER,
    7,
    /^args\.cni\.labels: .*"a b"/
  ],
  ['ADD', CONF, { ...CONTAINER, CNI_ARGS: 'VXMESH_LABELS=app=web,' }, 7, /^CNI_ARGS: VXMESH_LABELS:/],
  [
    'ADD',
    CONF,
    { ...CONTAINER, CNI_ARGS: 'VXMESH_LABELS=app=a,app=b' },
    7,
    /^CNI_ARGS: VXMESH_LABELS: "app" is given twice/
  ],
  ['ADD', CONF, { ...CONTAINER, CNI_ARGS: 'VXMESH_LABELS=app=web' }, 2, /labels need every host/],
  ['ADD', { ...CONF, network: 'nowhere' }, CONTAINER, 100, /there is no network nowhere/],
  ['ADD', BY_POD, { ...CONTAINER, CNI_ARGS: 'K8S_POD_NAMESPACE=other' }, 100, /namespace other/],
  ['ADD', annotated({ 'vxmesh.io/network': 'tiny' }), { ...CONTAINER, CNI_ARGS: POD }, 105, /not granted/],
  ['ADD', annotated({ 'vxmesh.io/network': 'NO' }), { ...CONTAINER, CNI_ARGS: POD }, 7, /vxmesh\.io\/network/],
  ['CHECK', { ...CONF, prevResult: {} }, CONTAINER, 107, /no endpoint/],
  ['GC', CONF, {}, 7, /valid-attachments: is missing/],
  ['GC', { ...CONF, 'cni.dev/valid-attachments': [{ containerID: '..', ifname: 'eth0' }] }, {}, 7, /valid-attachments/],
  ['GC', { ...CONF, 'cni.dev/valid-attachments': 'all' }, {}, 7, /valid-attachments/],
  ['STATUS', { ...CONF, network: 'nowhere' }, {}, 50, /no network nowhere/],
  ['ADD', NO_UTF8, CONTAINER, 6, /not UTF-8/]
]

t.test('an invalid call gets an error object with its code and exit code 1, and changes nothing', async t => {
  t.ok(REFUSED.length >= 60, `${REFUSED.length} cases`)
  const { agent, call } = await served(t)
  for (const [verb, config, env, code, words] of REFUSED) {
    const title = `${verb} ${JSON.stringify(config).slice(0, 80)} ${JSON.stringify(env).slice(0, 60)}`
    const { exitCode, json, stderr } = await call(verb, config, env)
    t.same([exitCode, json?.['code'], stderr], [1, code, ''], title)
    t.match(json?.['msg'], words, title)
    t.match(Object.keys(json ?? {}), ['cniVersion', 'code', 'msg', 'details'], title)
  }
  t.equal(agent.caller.state.endpointCount, 0)
})

t.test('a second ADD is an error, and the first endpoint stays', async t => {
  const { agent, call } = await served(t)
  t.equal((await call('ADD', CONF, CONTAINER)).exitCode, 0)
  t.match(await call('ADD', CONF, CONTAINER), { exitCode: 1, json: { code: 106 } })
  t.match(await call('ADD', { ...CONF, network: 'green' }, CONTAINER), { exitCode: 1, json: { code: 106 } })
  t.equal(agent.caller.state.endpointCount, 1)
})

t.test('two networks with hostAccess that overlap already never give one address to two pods of this host', async t => {
  const { agent, call } = await served(t)
  agent.caller.rules = FIRST_RULES
  for (const [name, subnet] of [
    ...['amber', 'coral'].map(each => [each, '10.9.0.0/29'] as const),
    ...['jade', 'onyx'].map(each => [each, '10.9.9.0/30'] as const)
  ] as const) {
    agent.caller.do({ ...create(name, { subnet }), hostAccess: true })
  }
  agent.caller.rules = RULES
  agent.caller.do(attach('amber', 'theirs', { address: '10.9.0.2' }))
  agent.caller.do(attach('jade', 'theirs-too', { address: '10.9.9.2' }))
  const before = agent.caller.state.endpointCount

  const held = { ...CONF, network: 'coral', runtimeConfig: { ips: ['10.9.0.2'] } }
  t.match(await call('ADD', held, CONTAINER), {
    exitCode: 1,
    json: { code: 104, msg: /10\.9\.0\.2 is reached from this host in network amber, which has hostAccess, too/ }
  })
  t.match(await call('ADD', { ...CONF, network: 'onyx' }, CONTAINER), {
    exitCode: 1,
    json: { code: 101, msg: /network onyx has no free address/ }
  })
  t.equal(agent.caller.state.endpointCount, before, 'neither left anything')
  t.match(await call('ADD', { ...CONF, network: 'coral' }, CONTAINER), {
    exitCode: 0,
    json: { ips: [{ address: '10.9.0.3/29' }] }
  })
})

t.test('an address or MAC in use and a full network have distinct codes', async t => {
  const { agent, call } = await served(t)
  agent.caller.do(attach('red', 'other', { address: '10.1.0.9', mac: '02:aa:00:00:00:09' }))
  t.match(await call('ADD', { ...CONF, runtimeConfig: { ips: ['10.1.0.9'] } }, CONTAINER), { json: { code: 104 } })
  t.match(await call('ADD', { ...CONF, runtimeConfig: { mac: '02:aa:00:00:00:09' } }, CONTAINER), {
    json: { code: 104 }
  })
  agent.caller.do(attach('tiny', 'only'))
  t.match(await call('ADD', { ...CONF, network: 'tiny' }, CONTAINER), { json: { code: 101 } })
  t.match(await call('STATUS', { ...CONF, network: 'tiny' }), {
    exitCode: 1,
    json: { code: 50, msg: /no free address/ }
  })
})

t.test('STATUS reports when no container can be attached, and never limited connectivity', async t => {
  const { agent, call } = await served(t)
  for (const [standing, words] of [
    [{ ready: false, leader: null }, /not joined a cluster/],
    [{ ready: false, leader: 'h1' }, /not joined a cluster/],
    [{ ready: true, leader: null }, /no leader is known/]
  ] as const) {
    agent.standing = standing
    const { exitCode, json } = await call('STATUS', CONF)
    t.same([exitCode, json?.['code']], [1, 50], JSON.stringify(standing))
    t.match(json?.['msg'], words)
  }
  agent.standing = { ready: true, leader: 'h2' }
  t.match(await call('STATUS', CONF), { exitCode: 0, stdout: '' })
})

t.test('CHECK compares prevResult with the endpoint', async t => {
  const { call } = await served(t)
  const { json } = await call('ADD', CONF, CONTAINER)
  const mac = '02:aa:aa:aa:aa:aa'
  const outside = { interfaces: [{ name: 'eth0', mac: '02:00:0a:01:00:02' }], ips: [] }
  for (const [prevResult, code] of [
    [undefined, 7],
    [{ ...json, interfaces: [] }, 107],
    [outside, 107],
    [{ ...json, interfaces: [{ name: 'x' }, { name: 'eth0', mac, sandbox: NETNS }] }, 107],
    [{ ...json, ips: [{ address: '10.1.0.77/24', interface: 1 }] }, 107],
    [{ ...json, ips: [] }, 107]
  ] as const) {
    const { exitCode, json: answer } = await call('CHECK', { ...CONF, prevResult }, CONTAINER)
    t.same([exitCode, answer?.['code']], [1, code], JSON.stringify(prevResult))
  }
})

/** As served, with networks both (10.5.0.0/24 and fd00:5::/64), six (fd00:6::/64) and tiny6 (fd00:7::/126). */
async function served6(t: Test): ReturnType<typeof served> {
  const all = await served(t)
  const { caller } = all.agent
  caller.raise()
  caller.do(create('both', { subnet: '10.5.0.0/24', subnet6: 'fd00:5::/64' }))
  caller.do(create('six', { subnet: 'fd00:6::/64' }))
  caller.do(create('tiny6', { subnet: 'fd00:7::/126' }))
  return all
}

t.test('ADD answers with the addresses and default routes of all families', async t => {
  const both = [
    ['10.5.0.2/24', '10.5.0.1', '4', '0.0.0.0/0'],
    ['fd00:5::2/64', 'fd00:5::1', '6', '::/0']
  ] as const
  const six = [['fd00:6::2/64', 'fd00:6::1', '6', '::/0']] as const
  for (const [network, expected] of [
    ['both', both],
    ['six', six]
  ] as const) {
    for (const cniVersion of VERSIONS) {
      const { call } = await served6(t)
      const { exitCode, json, stderr } = await call('ADD', { ...CONF, cniVersion, network }, CONTAINER)
      t.equal(exitCode, 0, `${cniVersion}: ${stderr}`)
      const version = (family: string): object => (cniVersion.startsWith('0') ? { version: family } : {})
      t.same(
        json?.['ips'],
        expected.map(([address, gateway, family]) => ({ ...version(family), address, gateway, interface: 1 }))
      )
      t.same(
        json?.['routes'],
        expected.map(([, gw, , dst]) => ({ dst, gw }))
      )
    }
  }
})

t.test(
  'without egress there is no default route in either family, and ours come after those of earlier plugins',
  async t => {
    const { agent, call } = await served6(t)
    agent.caller.do({ ...create('inner', { subnet: '10.8.0.0/24', subnet6: 'fd00:8::/64' }), egress: false })
    const prevResult = {
      interfaces: [{ name: 'lo0', sandbox: NETNS }],
      ips: [{ address: 'fd00:9::2/64', interface: 0 }],
      routes: [{ dst: 'fd00:9::/48' }]
    }
    t.match(await call('ADD', { ...CONF, network: 'inner', prevResult }, CONTAINER), {
      json: {
        ips: [
          { address: 'fd00:9::2/64', interface: 0 },
          { address: '10.8.0.2/24', interface: 2 },
          { address: 'fd00:8::2/64', interface: 2 }
        ],
        routes: [{ dst: 'fd00:9::/48' }]
      }
    })
  }
)

t.test('an address of each family may be asked for, in any order and with or without prefix length', async t => {
  const cases: readonly (readonly [network: string, config: object, env: Env, given: readonly string[]])[] = [
    ['both', { runtimeConfig: { ips: ['10.5.0.9', 'fd00:5::99'] } }, {}, ['10.5.0.9/24', 'fd00:5::99/64']],
    ['both', { runtimeConfig: { ips: ['fd00:5::99/64', '10.5.0.9/24'] } }, {}, ['10.5.0.9/24', 'fd00:5::99/64']],
    ['both', { runtimeConfig: { ips: ['FD00:5:0::99'] } }, {}, ['10.5.0.2/24', 'fd00:5::99/64']],
    ['both', { runtimeConfig: { ips: ['10.5.0.9'] } }, {}, ['10.5.0.9/24', 'fd00:5::9/64']],
    ['both', { args: { cni: { ips: ['10.5.0.8', 'fd00:5::88'] } } }, {}, ['10.5.0.8/24', 'fd00:5::88/64']],
    ['both', {}, { CNI_ARGS: 'IP=10.5.0.7,fd00:5::77/64' }, ['10.5.0.7/24', 'fd00:5::77/64']],
    ['six', {}, { CNI_ARGS: 'IP=fd00:6::77' }, ['fd00:6::77/64']],
    ['six', { runtimeConfig: { ips: ['fd00:6::1:0:0:9/64'] } }, {}, ['fd00:6::1:0:0:9/64']]
  ]
  for (const [network, config, env, given] of cases) {
    const { call } = await served6(t)
    const { json, stdout } = await call('ADD', { ...CONF, network, ...config }, { ...CONTAINER, ...env })
    t.same(
      (json?.['ips'] as { address: string }[] | undefined)?.map(({ address }) => address),
      given,
      stdout
    )
  }
})

t.test('an address that the network cannot give is refused by the family', async t => {
  const { agent, call } = await served6(t)
  agent.caller.do(attach('both', 'other', { address: '10.5.0.9', address6: 'fd00:5::99' }))
  for (const [network, ips, code, words] of [
    ['red', ['fd00:5::5'], 7, /network red has no IPv6 subnet/],
    ['six', ['10.5.0.5'], 7, /network six has no IPv4 subnet/],
    ['both', ['fd00:9::5'], 7, /not a host address of fd00:5::\/64/],
    ['both', ['fd00:5::1'], 7, /gateway/],
    ['both', ['fd00:5::99'], 104, /belongs to container other/],
    ['both', ['10.5.0.7', 'fd00:5::99'], 104, /belongs to container other/]
  ] as const) {
    const { json } = await call('ADD', { ...CONF, network, runtimeConfig: { ips } }, CONTAINER)
    t.equal(json?.['code'], code, ips.join())
    t.match(json?.['msg'], words)
  }
})

t.test('CHECK compares the addresses of both families', async t => {
  const { agent, call } = await served6(t)
  const conf = { ...CONF, network: 'both' }
  const { json } = await call('ADD', conf, CONTAINER)
  const ips = json?.['ips'] as { address: string }[]
  const checked = async (changed: object): Promise<unknown> => {
    const answer = await call('CHECK', { ...conf, prevResult: { ...json, ...changed } }, CONTAINER)
    return answer.json?.['code'] ?? answer.exitCode
  }
  t.equal(await checked({}), 0)
  t.equal(await checked({ ips: ips.toReversed() }), 0)
  for (const at of [0, 1]) {
    const other = at === 0 ? '10.5.0.77/24' : 'fd00:5::77/64'
    t.equal(await checked({ ips: ips.with(at, { ...ips[at], address: other }) }), 107, other)
  }
  t.equal(await checked({ ips: [] }), 107)
  const red = await call('ADD', CONF, { ...CONTAINER, CNI_IFNAME: 'eth1' })
  const prevResult = red.json
  agent.caller.do(addSubnet('red', 'fd00:1::/64'))
  const later = await call('CHECK', { ...CONF, prevResult }, { ...CONTAINER, CNI_IFNAME: 'eth1' })
  t.match(later, { exitCode: 0, stdout: '' }, 'a subnet that the network got since is not missed')
})

t.test('STATUS counts the addresses of an IPv6 subnet', async t => {
  const { agent, call } = await served6(t)
  const conf = { ...CONF, network: 'tiny6' }
  agent.caller.do(attach('tiny6', 'a'))
  t.match(await call('STATUS', conf), { exitCode: 0 })
  agent.caller.do(attach('tiny6', 'b'))
  t.match(await call('STATUS', conf), { exitCode: 1, json: { code: 50, msg: /no free address/ } })
  t.match(await call('STATUS', { ...CONF, network: 'six' }), { exitCode: 0 })
})

t.test('errors of cluster and kernel have the code that tells the runtime what to do', async t => {
  const { agent, call } = await served(t)
  const codes: readonly (readonly [ErrorCode, number])[] = [
    ['ERR_NO_QUORUM', 11],
    ['ERR_NOT_LEADER', 11],
    ['ERR_TIMEOUT', 11],
    ['ERR_BUSY', 11],
    ['ERR_HOST_NOT_REGISTERED', 11],
    ['ERR_KERNEL', 103],
    ['ERR_NETNS', 4],
    ['ERR_UNSUPPORTED', 2],
    ['ERR_DELAY_UNSUPPORTED', 2],
    ['ERR_IFNAME_IN_USE', 106],
    ['ERR_STORAGE', 5],
    ['ERR_INTERNAL', 999]
  ]
  for (const [refusal, code] of codes) {
    agent.refusal = new VxmeshError(refusal, 'this is why')
    for (const verb of ['ADD', 'DEL', 'CHECK']) {
      const { exitCode, json } = await call(verb, CONF, CONTAINER)
      t.same([exitCode, json?.['code'], json?.['msg'], json?.['details']], [1, code, 'this is why', refusal], verb)
    }
  }
})

t.test('without an agent every verb fails at once: try again, or not available', async t => {
  const dir = scratch(t)
  for (const [verb, code] of [
    ['ADD', 11],
    ['DEL', 11],
    ['CHECK', 11],
    ['GC', 11],
    ['STATUS', 50]
  ] as const) {
    const input = { ...CONF, cniVersion: '0.4.0', socket: join(dir, 'none.sock') }
    const { exitCode, json } = await callPlugin(verb, { input, env: CONTAINER })
    t.same([exitCode, json?.['code'], json?.['cniVersion']], [1, code, '0.4.0'], verb)
    t.match(json?.['details'], /none\.sock: No such file or directory/)
  }
})

t.test('a truncated, missing or foreign answer is an error, never a result', async t => {
  const whole = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}'
  for (const [answer, exit, code] of [
    [whole, 0, undefined],
    ['', 1, 11],
    [whole.slice(0, -1), 1, 11],
    [`${whole}x`, 1, 11],
    ['HTTP/1.1 200 OK\r\n\r\n{}', 1, 11],
    ['HTTP/1.1 200 OK\r\ncontent-length: 2', 1, 11],
    ['HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n{}', 1, 11],
    ['HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n{}', 1, 11],
    ['HTTP/1.1 20x\r\ncontent-length: 2\r\n\r\n{}', 1, 11],
    ['HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}', 1, 999],
    ['HTTP/1.1 503 Unavailable\r\nContent-Length: 2\r\n\r\n{}', 1, 11],
    ['HTTP/1.1 422 No\r\nContent-Length: 10\r\n\r\n{"code":7}', 1, 7],
    ['SSH-2.0-OpenSSH_9.2\r\n', 1, 11],
    ['x'.repeat(2_000_000), 1, 11]
  ] as const) {
    const socket = join(scratch(t), 'agent.sock')
    const server = createServer(connection => {
      connection.on('error', () => undefined)
      connection.once('data', () => connection.end(answer))
    })
    await new Promise<void>(resolve => server.listen(socket, resolve))
    const { exitCode, json } = await callPlugin('ADD', { input: { ...CONF, socket }, env: CONTAINER })
    t.same([exitCode, json?.['code']], [exit, code], answer.slice(0, 60))
    server.close()
  }
})

t.test('fifty concurrent containers get distinct addresses', async t => {
  const { agent, call } = await served(t)
  const runs = await Promise.all(
    Array.from({ length: 50 }, (_, n) => call('ADD', CONF, { ...CONTAINER, CNI_CONTAINERID: `c${n}` }))
  )
  t.same(
    runs.map(({ exitCode }) => exitCode),
    runs.map(() => 0)
  )
  const addresses = runs.map(({ json }) => (json?.['ips'] as [{ address: string }])[0].address)
  t.equal(new Set(addresses).size, 50)
  t.equal(agent.caller.state.endpointCount, 50)
})
